"""K-sparse: k-means in a projection that is learned under an l1 constraint, so that it selects genes."""

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.cluster import kmeans_plusplus
from sklearn.metrics import euclidean_distances, pairwise_distances_argmin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from sparcl_lite.clustering.checks import check_counts
from sparcl_lite.clustering.design import Design, is_dask, times
from sparcl_lite.clustering.embedding import embed
from sparcl_lite.clustering.inner import CONSTRAINTS, solve
from sparcl_lite.clustering.lloyd import Assignment, anchors, cluster_sums, extra_cost, kmeans, penalised

EXTRA_COMPONENTS = 4  # the authors' scripts embed in k + 4 dimensions
INITS = ("spectral", "pca", "whitened", "k-means++")
CENTROIDS = ("free", "identity-penalty")

#: Options that make `KSparse` behave as the authors' released code (docs/ksparse.md).
AS_RELEASED = {"constraint": "sphere", "threshold": 0.01, "tol": 0.0, "max_iter": 10, "n_init": 40}


class KSparse(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """Cluster samples and select features by alternating minimisation under an l1 constraint.

    Minimises `1/2 ||Y mu - A W||_F^2` over one-hot labels Y, centroids mu (k, h) and weights W (d, h) with
    `||W||_1 <= eta`, where A is X divided by its spectral norm, then centred. A feature is selected when its row of W
    is not zero. Time and memory are linear in samples and features but for `init='spectral'`, which looks at all pairs
    of samples.

    Parameters
    ----------
    n_clusters : k
    eta : bound on the sum of |W|; None leaves W free (all features). It scales with the data: see `eta_path`
    n_components : h, dimensions of the projection; None is k + 4
    constraint : "ball" (at most eta), or "sphere" (exactly eta, as the released code behaves)
    threshold : entries of W below it become zero in every iteration; the released code has 0.01
    centroids : "free", or "identity-penalty", which keeps them near the rows of the identity
    penalty : weight of that penalty; with 1 a centroid is half way between the identity and its samples' mean
    init : "spectral", "pca", "whitened" (linear-time stand-in for "spectral") or "k-means++"
    sigma : width of the Gaussian of `init="spectral"`, in units of the scaled data
    n_init : k-means restarts at the start and in every loop, where a warm start comes on top
    max_iter : loops of W step and label step
    w_max_iter : projected gradient iterations of one W step
    accelerated : FISTA, or plain projected gradients, with which the criterion never increases
    tol : relative change of W that ends a W step early; one that also leaves the labels alone ends the fit
    n_jobs : threads for in-memory data; a dask array uses dask's current scheduler instead
    random_state : of the k-means restarts and the randomised SVD

    Attributes
    ----------
    labels_ : (m,)
    coef_ : W, (d, h)
    centroids_ : mu, (k, h)
    selected_features_ : indices of the features whose row of W is not zero, the largest norm first
    criterion_ : `1/2 ||Y mu - A W||_F^2` of what the loops start from, then after every loop, (n_iter_ + 1,)
    relative_criterion_ : after every loop the same over `1/2 ||A W||_F^2`, (n_iter_,): with free centroids the
        within-cluster share of the projected samples' sum of squares, which does not depend on the scale of W
    l1_norm_, constraint_active_ : of W, and whether the constraint is what limits it
    initial_labels_, initial_embedding_ : what the loops started from: (m,), (m, h)
    mean_, norm_ : column means and spectral norm of X
    n_iter_ : loops made

    References
    ----------
    Gilet, Deprez, Caillau, Barlaud (2017): Clustering with feature selection using alternating minimization,
    arXiv:1711.02974.
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        eta: float | None = None,
        n_components: int | None = None,
        constraint: str = "ball",
        threshold: float = 0.0,
        centroids: str = "free",
        penalty: float = 1.0,
        init: str = "spectral",
        sigma: float = 150.0,
        n_init: int = 10,
        max_iter: int = 10,
        w_max_iter: int = 50,
        accelerated: bool = True,
        tol: float = 1e-4,
        n_jobs: int | None = None,
        random_state: Any = None,
    ):
        self.n_clusters = n_clusters
        self.eta = eta
        self.n_components = n_components
        self.constraint = constraint
        self.threshold = threshold
        self.centroids = centroids
        self.penalty = penalty
        self.init = init
        self.sigma = sigma
        self.n_init = n_init
        self.max_iter = max_iter
        self.w_max_iter = w_max_iter
        self.accelerated = accelerated
        self.tol = tol
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find labels, centroids and weights of X (m, d): dense, CSR, or a dask array. y is ignored.

        Raises ValueError on a parameter outside what is allowed, on fewer samples than clusters, and on NaN.
        """
        self._check_parameters()
        X = self._checked(X, reset=True)
        if X.shape[0] < self.n_clusters:
            raise ValueError(f"n_samples={X.shape[0]} should be >= n_clusters={self.n_clusters}.")
        if is_dask(X) and self.init == "spectral":
            raise ValueError("init='spectral' needs all pairs of samples in memory; use init='whitened'")
        design, rng = Design(X, self.n_jobs), check_random_state(self.random_state)
        self.mean_, self.norm_ = design.mean, design.norm
        labels, centroids = self._start(design, rng)
        return self._alternate(design, labels, centroids, rng)

    def transform(self, X: Any) -> np.ndarray:
        """The projected samples `A W`, shape (m, h)."""
        check_is_fitted(self)
        X = self._checked(X, reset=False)
        scaled = self.coef_ / self.norm_
        offset = self.mean_ @ scaled
        if not is_dask(X):
            return times(X, scaled, offset)
        X = X.rechunk({1: -1})
        chunks = (X.chunks[0], (scaled.shape[1],))
        return X.map_blocks(times, W=scaled, offset=offset, chunks=chunks, meta=np.empty((0, 0))).compute()

    def predict(self, X: Any) -> np.ndarray:
        """The cluster whose centroid is nearest to the projected sample, shape (m,)."""
        distances = euclidean_distances(self.transform(X), self.centroids_, squared=True)
        return (distances + self._extra_cost()).argmin(axis=1).astype(np.int32)

    # -- steps

    def _start(self, design: Design, rng: np.random.RandomState) -> Assignment:
        size = self.n_components or self.n_clusters + EXTRA_COMPONENTS
        self.initial_embedding_ = embed(design, self.init, size, self.sigma, rng)
        if self.init == "k-means++":
            seeds, _ = kmeans_plusplus(self.initial_embedding_, self.n_clusters, random_state=rng)
            labels = pairwise_distances_argmin(self.initial_embedding_, seeds)
            sums, counts = cluster_sums(self.initial_embedding_, labels, self.n_clusters)
            centroids = sums / np.maximum(counts, 1)[:, None]
        else:
            labels, centroids = kmeans(self.initial_embedding_, self.n_clusters, self.n_init, rng)
        self.initial_labels_ = labels
        if self.centroids == "identity-penalty":
            self._goals = centroids = anchors(labels, *centroids.shape)
        return labels, centroids

    def _alternate(self, design: Design, labels, centroids, rng: np.random.RandomState) -> Self:
        d, h = design.shape[1], centroids.shape[1]
        W, relative = np.full((d, h), 1 / (d * h)), []
        criterion = [_criterion(centroids[labels], design.project(W))]
        for _ in range(self.max_iter):
            previous, before = labels, W
            W = self._weights(design, labels, centroids, W)
            Z = design.project(W)
            labels, centroids = self._assign(Z, centroids, rng)
            criterion.append(_criterion(centroids[labels], Z))
            relative.append(criterion[-1] / max(_criterion(0, Z), np.finfo(float).tiny))
            still = np.abs(W - before).max() <= self.tol * np.abs(W).max()
            if still and np.array_equal(labels, previous):
                break
        self.labels_, self.centroids_, self.coef_ = labels, centroids, W
        self.criterion_, self.relative_criterion_ = np.array(criterion), np.array(relative)
        self.n_iter_, self._n_features_out = len(relative), h
        return self._select()

    def _weights(self, design: Design, labels, centroids, W: np.ndarray) -> np.ndarray:
        W, _ = solve(
            design, labels, centroids, W, eta=self.eta, constraint=self.constraint, threshold=self.threshold,
            accelerated=self.accelerated, max_iter=self.w_max_iter, tol=self.tol,
        )  # fmt: skip
        if self.threshold and not W.any():
            raise ValueError(f"threshold: got {self.threshold}, which sets every entry of W to zero; allowed is less")
        return W

    def _assign(self, Z: np.ndarray, centroids: np.ndarray, rng: np.random.RandomState) -> Assignment:
        if self.centroids == "identity-penalty":
            return penalised(Z, centroids, self._goals, self.penalty)
        return kmeans(Z, self.n_clusters, self.n_init, rng, start=centroids.astype(Z.dtype))

    def _extra_cost(self) -> np.ndarray | float:
        penalised = self.centroids == "identity-penalty"
        return extra_cost(self.centroids_, self._goals, self.penalty) if penalised else 0.0

    def _select(self) -> Self:
        norms = np.linalg.norm(self.coef_, axis=1)
        ranked = np.argsort(-norms, kind="stable")
        self.selected_features_ = ranked[: np.count_nonzero(norms)]
        self.l1_norm_ = float(np.abs(self.coef_).sum())
        self.constraint_active_ = self.eta is not None and self.l1_norm_ >= self.eta * (1 - 1e-6)
        return self

    # -- checks

    def _checked(self, X: Any, *, reset: bool) -> Any:
        if not is_dask(X):
            return validate_data(self, X, reset=reset, accept_sparse="csr", dtype=[np.float64, np.float32])
        if X.ndim != 2 or np.isnan(X.shape[0]):
            raise ValueError(f"X: got a dask array of shape {X.shape}, allowed is (m, d) with m known")
        if reset:
            self.n_features_in_ = X.shape[1]
        elif X.shape[1] != self.n_features_in_:
            raise ValueError(f"X has {X.shape[1]} features, but KSparse is expecting {self.n_features_in_} features")
        return X

    def _check_parameters(self) -> None:
        choices = {"constraint": CONSTRAINTS, "centroids": CENTROIDS, "init": INITS}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: got {getattr(self, name)!r}, allowed are {', '.join(allowed)}")
        for name in ("eta", "sigma", "penalty"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}: got {value}, allowed is a number above 0")
        check_counts(self, "n_clusters", "n_components", "n_init", "max_iter", "w_max_iter")
        if self.threshold < 0:
            raise ValueError(f"threshold: got {self.threshold}, allowed is 0 or more")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def _criterion(targets: np.ndarray | float, Z: np.ndarray) -> float:
    return 0.5 * np.square(targets - Z).sum(dtype=float)
