"""SIMLR (Wang and others, Nature Methods 2017): clustering on a similarity learned from 55 kernels at once.

Its memory is 55 times all pairs of samples and its time cubic in them, hence the limit on samples.
"""

from typing import Any, Self

import numpy as np
from scipy.linalg import eigh
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.cluster import KMeans
from sklearn.metrics import euclidean_distances, pairwise_distances_argmin
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from sparcl_lite.clustering.checks import check_counts
from sparcl_lite.clustering.embedding import check_pairs
from sparcl_lite.clustering.projections import simplex_rows
from sparcl_lite.clustering.simlr_parts import (
    diffuse,
    entropic_weights,
    kernel_distances,
    laplacian,
    normalise_rows,
    tsne,
)

MAX_SAMPLES = 1_500  # 0.5 GB of kernels in single precision
DAMPING = 0.8  # share of the old S, F and weights that each iteration keeps
WARM_UP = 10  # iterations in which lambda grows and r shrinks; afterwards a growing eigengap ends the loop
EIGENGAP_GROWTH = 1.01
RESTARTS = 20


class SIMLR(ClusterMixin, BaseEstimator):
    """Single-cell interpretation via multi-kernel learning, for up to 1,500 samples.

    By turns: a sparse similarity S (rows on the simplex), its diffusion, its c bottom eigenvectors F, and the weights
    of the kernels. Labels are those of k-means on a t-SNE of S into c dimensions.

    Parameters
    ----------
    n_clusters : c
    n_neighbors : neighbours that the similarity is diffused over
    max_iter : iterations at most
    random_state : of the k-means restarts

    Attributes
    ----------
    labels_ : (m,)
    similarity_ : S, (m, m)
    embedding_ : t-SNE coordinates, (m, c)
    kernel_weights_ : (number of kernels,)
    n_iter_ : iterations made
    """

    def __init__(self, n_clusters: int = 8, *, n_neighbors: int = 10, max_iter: int = 30, random_state: Any = None):
        self.n_clusters = n_clusters
        self.n_neighbors = n_neighbors
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Cluster X (m, d), dense. Raises ValueError on more than 1,500 samples, and on fewer than clusters."""
        check_counts(self, "n_clusters", "n_neighbors", "max_iter")
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=3)
        check_pairs(len(X), "SIMLR", "KSparse", MAX_SAMPLES)
        if len(X) < self.n_clusters:
            raise ValueError(f"n_samples={len(X)} should be >= n_clusters={self.n_clusters}.")
        rng = check_random_state(self.random_state)
        kernels = kernel_distances(euclidean_distances(X, squared=True))
        eigenvectors, F = self._learn(kernels, min(self.n_neighbors, len(X) - 2))
        self.embedding_ = tsne(self.similarity_, eigenvectors[:, : F.shape[1]])
        self.labels_ = self._label(F, rng)
        return self

    def _learn(self, kernels: np.ndarray, neighbors: int) -> tuple[np.ndarray, np.ndarray]:
        """Sets S and the weights; returns the bottom eigenvectors of its Laplacian and the damped F (m, c)."""
        weights = np.full(len(kernels), 1 / len(kernels))
        distances = _combine(kernels, weights)
        r = strength = _initial_strength(distances, neighbors)
        S = normalise_rows(diffuse(distances.max() - distances, neighbors))
        S, gaps = (S + S.T) / 2, []
        values, vectors = _bottom(S, self.n_clusters)
        F = normalise_rows(vectors[:, : self.n_clusters])
        for iteration in range(1, self.max_iter + 1):
            before = S, vectors
            S = _similarity(distances + strength * euclidean_distances(F, squared=True), r)
            S = diffuse((1 - DAMPING) * S + DAMPING * before[0], neighbors)
            values, vectors = _bottom(S, self.n_clusters)
            F = (1 - DAMPING) * F + DAMPING * normalise_rows(vectors[:, : self.n_clusters])
            scores = np.tensordot(kernels, S.astype(kernels.dtype)).astype(float) / len(S)
            weights = (1 - DAMPING) * weights + DAMPING * entropic_weights(scores)
            weights /= weights.sum()
            gaps.append(values[-1])
            if iteration < WARM_UP:  # and the largest eigenvalue is above 1e-6 in the authors' code, as it always is
                strength, r = 1.5 * strength, r / 1.01
            elif gaps[-1] > EIGENGAP_GROWTH * gaps[-2]:
                S, vectors = before
                break
            distances = _combine(kernels, weights)
        self.similarity_, self.kernel_weights_, self.n_iter_ = S, weights, iteration
        return vectors, F

    def _label(self, F: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
        """k-means on the t-SNE, from the samples nearest to the centres of a k-means on F."""
        centres = KMeans(self.n_clusters, n_init=RESTARTS, random_state=rng).fit(F).cluster_centers_
        start = self.embedding_[pairwise_distances_argmin(centres, F)]
        return KMeans(self.n_clusters, init=start, n_init=1).fit(self.embedding_).labels_


def _combine(kernels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.tensordot(weights.astype(kernels.dtype), kernels, axes=1).astype(float)


def _initial_strength(distances: np.ndarray, neighbors: int) -> float:
    """Mean over samples of half of `k d_(k+1) - sum of the k nearest d`; it is both lambda and r at first."""
    nearest = np.sort(distances, axis=1)[:, 1 : neighbors + 2]
    slack = 0.5 * (neighbors * nearest[:, -1] - nearest[:, :-1].sum(axis=1))
    return max(float(slack.mean()), np.finfo(float).eps)


def _similarity(cost: np.ndarray, r: float) -> np.ndarray:
    """The S that minimises `<cost, S> + r ||S||^2` with zero diagonal and rows on the simplex."""
    m = len(cost)
    others = ~np.eye(m, dtype=bool)
    S = np.zeros_like(cost)
    S[others] = simplex_rows(-cost[others].reshape(m, m - 1) / (2 * r)).ravel()
    return S


def _bottom(S: np.ndarray, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """The c + 1 smallest eigenvalues of the Laplacian of S and their eigenvectors (fewer where S has fewer rows)."""
    return eigh(laplacian(S), subset_by_index=[0, min(clusters, len(S) - 1)])
