"""Sparse k-means of Witten and Tibshirani (2010): k-means with a weight for every feature, most of them zero."""

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances_argmin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from sparcl_lite.clustering.checks import check_counts
from sparcl_lite.clustering.lloyd import cluster_sums

BISECTIONS = 60  # to the last bits of a double


class SparseKMeans(ClusterMixin, BaseEstimator):
    """Maximise `sum_j w_j BCSS_j` over clusters and weights with `||w||_2 <= 1`, `||w||_1 <= s`, `w >= 0`.

    BCSS_j is the between-cluster sum of squares of feature j. Alternates k-means on features scaled by `sqrt(w_j)`,
    started from the present clusters, and the weights' closed form.

    Parameters
    ----------
    n_clusters : k
    s : bound on `||w||_1`, above 1; with s >= sqrt(d) every feature keeps a weight
    n_init : k-means restarts of the first clustering
    max_iter : rounds of weights and clusters at most
    tol : relative change of w that ends them
    random_state : of the restarts

    Attributes
    ----------
    labels_ : (m,)
    feature_weights_ : w, (d,)
    selected_features_ : features of weight above zero, the largest first
    cluster_centers_ : (k, d), in the units of X
    objective_ : `sum_j w_j BCSS_j`
    n_iter_ : rounds made
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        s: float = 3.0,
        n_init: int = 20,
        max_iter: int = 6,
        tol: float = 1e-4,
        random_state: Any = None,
    ):
        self.n_clusters = n_clusters
        self.s = s
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Cluster X (m, d), dense. Raises ValueError on s <= 1 and on fewer samples than clusters."""
        X, rng = self._checked(X), check_random_state(self.random_state)
        labels = KMeans(self.n_clusters, n_init=self.n_init, random_state=rng).fit(X).labels_
        return self._refine(X, labels)

    def refine(self, X: Any, labels: np.ndarray) -> Self:
        """`fit` from given first clusters (m,), which do not depend on s and can serve a whole grid of it."""
        return self._refine(self._checked(X), labels)

    def _checked(self, X: Any) -> np.ndarray:
        check_counts(self, "n_clusters", "n_init", "max_iter")
        if not self.s > 1:
            raise ValueError(f"s: got {self.s}, allowed is a number above 1")
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        if X.shape[0] < self.n_clusters:
            raise ValueError(f"n_samples={X.shape[0]} should be >= n_clusters={self.n_clusters}.")
        return X

    def _refine(self, X: np.ndarray, labels: np.ndarray) -> Self:
        centred = X - X.mean(axis=0)
        weights = np.full(X.shape[1], X.shape[1] ** -0.5)
        for iteration in range(1, self.max_iter + 1):
            if iteration > 1:
                labels = self._relabel(centred, labels, weights)
            before, between = weights, _between(centred, labels, self.n_clusters)
            weights = feature_weights(between, self.s)
            if np.abs(weights - before).sum() <= self.tol * np.abs(before).sum():
                break
        self.labels_, self.feature_weights_, self.n_iter_ = labels, weights, iteration
        self.objective_ = float(weights @ between)
        self.selected_features_ = np.argsort(-weights, kind="stable")[: np.count_nonzero(weights)]
        sums, counts = cluster_sums(X, labels, self.n_clusters)
        self.cluster_centers_ = sums / np.maximum(counts, 1)[:, None]
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The cluster of the nearest centre in the weighted features, shape (m,)."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        scale = np.sqrt(self.feature_weights_)
        return pairwise_distances_argmin(X * scale, self.cluster_centers_ * scale).astype(np.int32)

    def _relabel(self, X: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
        kept = weights > 0
        scaled = X[:, kept] * np.sqrt(weights[kept]).astype(X.dtype)
        sums, counts = cluster_sums(scaled, labels, self.n_clusters)
        start = (sums / np.maximum(counts, 1)[:, None]).astype(X.dtype)
        return KMeans(self.n_clusters, init=start, n_init=1).fit(scaled).labels_


def feature_weights(between: np.ndarray, s: float) -> np.ndarray:
    """The w (d,) that maximises `w @ between` with `||w||_2 <= 1`, `||w||_1 <= s`, `w >= 0`: soft thresholding.

    >>> feature_weights(np.array([4.0, 3.0, 0.0]), 2.0)
    array([0.8, 0.6, 0. ])
    """
    gain = np.maximum(between, 0)
    if not gain.any():
        return np.full(len(gain), len(gain) ** -0.5)
    gain = gain / gain.max()  # the bisection's end is absolute
    low, high = 0.0, 1.0
    if gain.sum() > s * np.linalg.norm(gain):
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            shrunk = np.maximum(gain - middle, 0)
            low, high = (low, middle) if shrunk.sum() < s * np.linalg.norm(shrunk) else (middle, high)
    shrunk = np.maximum(gain - low, 0)
    return shrunk / np.linalg.norm(shrunk)


def _between(centred: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Between-cluster sum of squares of every feature, (d,), of centred X."""
    sums, counts = cluster_sums(centred, labels, k)
    return (sums**2 / np.maximum(counts, 1)[:, None]).sum(axis=0)
