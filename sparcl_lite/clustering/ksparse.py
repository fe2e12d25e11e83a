"""K-sparse: k-means in a projection that is learned under an l1 constraint, so that it selects genes."""

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.cluster import kmeans_plusplus
from sklearn.metrics import euclidean_distances, pairwise_distances_argmin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from sparcl_lite.clustering.checks import AUTO, check_choices, check_counts, check_numbers
from sparcl_lite.clustering.design import Design, is_dask, times
from sparcl_lite.clustering.embedding import embed
from sparcl_lite.clustering.gram import design_of
from sparcl_lite.clustering.inner import CONSTRAINTS, solve
from sparcl_lite.clustering.inputs import checked
from sparcl_lite.clustering.lloyd import Assignment, anchors, cluster_sums, extra_cost, kmeans, penalised
from sparcl_lite.clustering.scores import silhouette
from sparcl_lite.clustering.stability import number_of_clusters

EXTRA_COMPONENTS = 4  # the authors' scripts embed in k + 4 dimensions
INITS = ("auto", "spectral", "pca", "whitened", "k-means++")
SPECTRAL_SAMPLES = 4_000  # up to which `init="auto"` looks at all pairs of samples: seconds
CRITERION_ROWS = 100_000  # at a time
AUTO_SHARE, AUTO_GENES = 0.1, 50  # of the features, and at least so many, with `n_genes="auto"`
CENTROIDS = (AUTO, "free", "identity-penalty")
PENALTY = 0.2  # keeps 18 of 182 simulated cells that stand apart, and merges parts of a cluster; 1 takes such cells in

#: Options that make `KSparse` behave as the authors' released code (docs/ksparse.md).
AS_RELEASED = {"constraint": "sphere", "threshold": 0.01, "tol": 0.0, "max_iter": 10, "n_init": 40}


class KSparse(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """Cluster samples and select features by alternating minimisation under an l1 constraint.

    Minimises `1/2 ||Y mu - A W||_F^2` over one-hot labels Y, centroids mu (k, h) and weights W (d, h) with
    `||W||_1 <= eta`, where A is X divided by its spectral norm, then centred. A feature is selected when its row of W
    is not zero. Time and memory are linear in the samples but for `init='spectral'`, which looks at all pairs of them.
    X is not preprocessed: counts of cells should be normalised and logarithms taken first (`preprocess`).

    Parameters
    ----------
    n_clusters : k, or "auto": the largest that two halves of the cells agree on, see `stability.number_of_clusters`
    n_genes : features to select, exactly so many where the data have them; "auto" is a tenth, and at least 50
    eta : bound on the sum of |W|, in place of `n_genes`; it scales with the data: see `eta_path`. With `n_genes=None`
        and `eta=None` W is free, and no feature is left out
    n_components : h, dimensions of the projection; None is k + 4
    constraint : "ball" (at most eta), or "sphere" (exactly eta, as the released code behaves)
    threshold : entries of W below it become zero in every iteration; the released code has 0.01
    centroids : "free", or "identity-penalty", near the rows of the identity; "auto": free with an eta, else penalised
    penalty : weight of that penalty; with 1 a centroid is half way between the identity and its samples' mean. The
        larger it is, the more readily the largest clusters take in small ones, also such as stand apart
    init : "spectral", "pca", "whitened" (linear-time stand-in for "spectral") or "k-means++"; "auto" is "spectral" up
        to 4,000 samples in memory, where that takes seconds, else "whitened"
    sigma : width of the Gaussian of `init="spectral"`, in units of the scaled data
    n_init : k-means restarts at the start and in every loop, where a warm start comes on top
    max_iter : loops of W step and label step
    w_max_iter : projected gradient iterations of one W step
    accelerated : FISTA, or plain projected gradients, with which the criterion never increases
    tol : relative change of W that ends a W step early; one that also leaves the labels alone ends the fit
    n_jobs : threads for in-memory data; a dask array uses dask's current scheduler instead
    random_state : of the k-means restarts and the randomised SVD
    verbose : show a progress bar

    Attributes
    ----------
    labels_ : (m,)
    n_clusters_ : k, also where it was chosen
    selected_features_ : indices of the features whose row of W is not zero, the largest norm first
    selected_feature_names_ : their names
    n_features_in_, feature_names_in_ : of X; names of data frames and AnnData
    coef_ : W, (d, h)
    centroids_ : mu, (k, h)
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
        n_clusters: int | str = 8,
        *,
        n_genes: int | str | None = AUTO,
        eta: float | None = None,
        n_components: int | None = None,
        constraint: str = "ball",
        threshold: float = 0.0,
        centroids: str = AUTO,
        penalty: float = PENALTY,
        init: str = AUTO,
        sigma: float = 150.0,
        n_init: int = 10,
        max_iter: int = 10,
        w_max_iter: int = 50,
        accelerated: bool = True,
        tol: float = 1e-4,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ):
        self.n_clusters = n_clusters
        self.n_genes = n_genes
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
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find labels, centroids and weights of X (m, d): dense, sparse, a data frame, AnnData or dask. y is ignored.

        Raises ValueError on a parameter outside what is allowed, on fewer samples than clusters, on more genes than
        there are, on NaN and infinity.
        """
        self._check_parameters()
        X = checked(self, X, reset=True)
        self._check_size(X)
        rng = check_random_state(self.random_state)
        with tqdm(total=2 + self.max_iter, disable=not self.verbose, desc="reading", unit="step") as bar:
            design = design_of(X, self.n_jobs)
            self.mean_, self.norm_ = design.mean, design.norm
            bar.update()
            bar.set_description("start")
            k = self.n_clusters
            self.n_clusters_ = number_of_clusters(design, rng) if k == AUTO else int(k)
            labels, centroids = self._start(design, rng)
            bar.update()
            return self._alternate(design, labels, centroids, rng, bar)

    def transform(self, X: Any) -> np.ndarray:
        """The projected samples `A W`, shape (m, h)."""
        check_is_fitted(self)
        X = checked(self, X, reset=False)
        scaled = self.coef_ / self.norm_
        offset = self.mean_ @ scaled
        if not is_dask(X):
            return times(X, scaled, offset)
        X = X.rechunk({1: -1})
        chunks = (X.chunks[0], (scaled.shape[1],))
        return X.map_blocks(times, W=scaled, offset=offset, chunks=chunks, meta=np.empty((0, 0))).compute()

    def predict(self, X: Any) -> np.ndarray:
        """The cluster whose centroid is nearest to the projected sample, shape (m,)."""
        return self._nearest(self.transform(X))

    def _nearest(self, Z: np.ndarray) -> np.ndarray:
        distances = euclidean_distances(Z, self.centroids_, squared=True)
        return (distances + self._extra_cost()).argmin(axis=1).astype(np.int32)

    def score(self, X: Any, y: Any = None) -> float:
        """Mean silhouette of the predicted clusters in the projection of X, -1 to 1; -1 where all are in one."""
        Z = self.transform(X)
        value = silhouette(Z, self._nearest(Z))
        return -1.0 if value is None else value

    @property
    def selected_feature_names_(self) -> np.ndarray:
        """Names of the selected features, the largest weight first; x0, x1, ... of data without names."""
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", None)
        if names is None:
            return np.array([f"x{feature}" for feature in self.selected_features_], dtype=object)
        return names[self.selected_features_]

    # -- steps

    def _start(self, design: Design, rng: np.random.RandomState) -> Assignment:
        size = self.n_components or self.n_clusters_ + EXTRA_COMPONENTS
        few = design.shape[0] <= SPECTRAL_SAMPLES and not design.lazy
        init = ("spectral" if few else "whitened") if self.init == AUTO else self.init
        self.initial_embedding_ = embed(design, init, size, self.sigma, rng)
        if self.init == "k-means++":
            seeds, _ = kmeans_plusplus(self.initial_embedding_, self.n_clusters_, random_state=rng)
            labels = pairwise_distances_argmin(self.initial_embedding_, seeds)
            sums, counts = cluster_sums(self.initial_embedding_, labels, self.n_clusters_)
            centroids = sums / np.maximum(counts, 1)[:, None]
        else:
            labels, centroids = kmeans(self.initial_embedding_, self.n_clusters_, self.n_init, rng)
        self.initial_labels_ = labels
        if self._penalised():
            self._goals = centroids = anchors(labels, *centroids.shape)
        return labels, centroids

    def _alternate(self, design: Design, labels, centroids, rng: np.random.RandomState, bar: tqdm) -> Self:
        d, h = design.shape[1], centroids.shape[1]
        W, relative = np.full((d, h), 1 / (d * h)), []
        criterion = [_criterion(design.project(W), labels, centroids)]
        for loop in range(self.max_iter):
            bar.set_description(f"loop {loop + 1} of up to {self.max_iter}")
            previous, before = labels, W
            W = self._weights(design, labels, centroids, W)
            Z = design.project(W)
            labels, centroids = self._assign(Z, centroids, rng)
            criterion.append(_criterion(Z, labels, centroids))
            relative.append(criterion[-1] / max(_criterion(Z), np.finfo(float).tiny))
            bar.update()
            still = np.abs(W - before).max() <= self.tol * np.abs(W).max()
            if still and np.array_equal(labels, previous):
                break
        self.labels_, self.centroids_, self.coef_ = labels, centroids, W
        self.criterion_, self.relative_criterion_ = np.array(criterion), np.array(relative)
        self.n_iter_, self._n_features_out = len(relative), h
        return self._select()

    def _weights(self, design: Design, labels, centroids, W: np.ndarray) -> np.ndarray:
        W, _ = solve(
            design, labels, centroids, W, eta=self.eta, n_features=self._wanted(design.shape[1]),
            constraint=self.constraint, threshold=self.threshold, accelerated=self.accelerated,
            max_iter=self.w_max_iter, tol=self.tol,
        )  # fmt: skip
        if self.threshold and not W.any():
            raise ValueError(f"threshold: got {self.threshold}, which sets every entry of W to zero; allowed is less")
        return W

    def _wanted(self, features: int) -> int | None:
        if self.eta is not None or self.n_genes is None:
            return None
        return min(features, max(AUTO_GENES, round(AUTO_SHARE * features)) if self.n_genes == AUTO else self.n_genes)

    def _assign(self, Z: np.ndarray, centroids: np.ndarray, rng: np.random.RandomState) -> Assignment:
        if self._penalised():
            return penalised(Z, centroids, self._goals, self.penalty)
        return kmeans(Z, self.n_clusters_, self.n_init, rng, start=centroids.astype(Z.dtype))

    def _extra_cost(self) -> np.ndarray | float:
        return extra_cost(self.centroids_, self._goals, self.penalty) if self._penalised() else 0.0

    def _penalised(self) -> bool:
        by_number = self.eta is None and self.n_genes is not None
        return self.centroids == "identity-penalty" or (self.centroids == AUTO and by_number)

    def _select(self) -> Self:
        norms = np.linalg.norm(self.coef_, axis=1)
        ranked = np.argsort(-norms, kind="stable")
        self.selected_features_ = ranked[: np.count_nonzero(norms)]
        self.l1_norm_ = float(np.abs(self.coef_).sum())
        bound = self._wanted(len(norms))
        active = self.l1_norm_ >= self.eta * (1 - 1e-6) if self.eta is not None else bound not in (None, len(norms))
        self.constraint_active_ = bool(active)
        return self

    # -- checks

    def _check_size(self, X: Any) -> None:
        m, d = X.shape
        if self.n_clusters != AUTO and m < self.n_clusters:
            raise ValueError(f"n_samples={m} should be >= n_clusters={self.n_clusters}.")
        if self.n_genes not in (None, AUTO) and self.n_genes > d:
            raise ValueError(f"n_genes: got {self.n_genes}, allowed are 1 to {d}, the features of X")
        if is_dask(X) and self.init == "spectral":
            raise ValueError("init='spectral' needs all pairs of samples in memory; use init='whitened'")

    def _check_parameters(self) -> None:
        check_choices(self, constraint=CONSTRAINTS, centroids=CENTROIDS, init=INITS)
        check_numbers(self, "eta", "sigma", "penalty")
        check_numbers(self, "threshold", "tol", zero=True)
        check_counts(self, "n_components", "n_init", "max_iter", "w_max_iter")
        check_counts(self, "n_clusters", "n_genes", auto=("n_clusters", "n_genes"))
        if self.n_clusters is None:
            raise ValueError('n_clusters: got None, allowed is a whole number of 1 or more, or "auto"')
        if self.eta is not None and self.n_genes not in (None, AUTO):
            raise ValueError(f"n_genes: got {self.n_genes} beside eta={self.eta}, allowed is one of the two")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def _criterion(Z: np.ndarray, labels: np.ndarray | None = None, centroids: np.ndarray | None = None) -> float:
    """`1/2 ||Y mu - Z||_F^2`, or without labels `1/2 ||Z||_F^2`; a part of the rows at a time."""
    total = 0.0
    for start in range(0, len(Z), CRITERION_ROWS):
        rows = slice(start, start + CRITERION_ROWS)
        targets = 0 if labels is None else centroids[labels[rows]]
        total += np.square(targets - Z[rows]).sum(dtype=float)
    return 0.5 * total
