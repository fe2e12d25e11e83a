"""The compared methods behind one signature: X, number of clusters, seed and options in; labels and more out.

Methods of a user are functions of that signature, or classes of estimators with `fit_predict`.
"""

import inspect
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sparcl_lite import clustering
from sparcl_lite.errors import KitError
from sparcl_lite.registry import CLUSTERERS

GAP_RESTARTS, GAP_SAMPLES = 3, 300  # that s is chosen on: the gap needs 1 + permutations clusterings of each s
GAP_PERMUTATIONS = 3  # 25 in the authors' package
RESOLUTIONS, LEIDEN_FITS = (0.01, 10.0), 20  # between which, and how often, the one of k communities is looked for


@dataclass(frozen=True)
class Fitted:
    """What is compared of a method.

    Attributes
    ----------
    labels : (m,)
    embedding : coordinates that the labels were found in, (m, h); X itself where the method has none
    initial_labels : what it started from, (m,), or None
    selected : features by decreasing weight, or None where the method selects none
    details : further numbers
    """

    labels: np.ndarray
    embedding: np.ndarray
    initial_labels: np.ndarray | None = None
    selected: np.ndarray | None = None
    details: dict[str, Any] = field(default_factory=dict)


def pca(X, k: int, *, seed: int, threads: int, n_components: int = 5, n_init: int = 10) -> Fitted:
    """k-means on principal component scores."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    rank = min(n_components, *X.shape)
    scores = PCA(rank, svd_solver="randomized", random_state=seed).fit_transform(X)
    return Fitted(KMeans(k, n_init=n_init, random_state=seed).fit(scores).labels_, scores)


def spectral(X, k: int, *, seed: int, threads: int, **options: Any) -> Fitted:
    """Ng, Jordan and Weiss."""
    model = clustering.SpectralNJW(k, random_state=seed, **options).fit(X)
    return Fitted(model.labels_, model.embedding_)


def simlr(X, k: int, *, seed: int, threads: int, **options: Any) -> Fitted:
    """SIMLR."""
    model = clustering.SIMLR(k, random_state=seed, **options).fit(X)
    return Fitted(model.labels_, model.embedding_, details={"iterations": model.n_iter_})


def sparse_kmeans(X, k: int, *, seed: int, threads: int, s: float | str = "gap", n_init: int = 10) -> Fitted:
    """Sparse k-means; s = "gap" chooses it by permutations on a sample of up to 300 cells."""
    model, details = clustering.SparseKMeans(k, n_init=n_init, random_state=seed), {}
    if s == "gap":
        sample = np.random.RandomState(seed).permutation(len(X))[:GAP_SAMPLES]
        quick = clustering.SparseKMeans(k, n_init=GAP_RESTARTS, random_state=seed)
        gap = clustering.permutation_gap(quick, X[sample], permutations=GAP_PERMUTATIONS)
        s, details = gap.best, {"s_tried": gap.s.tolist(), "gap": gap.gap.tolist()}
    model.set_params(s=s).fit(X)
    kept = model.selected_features_
    embedding = X[:, kept] * np.sqrt(model.feature_weights_[kept])
    return Fitted(model.labels_, embedding, selected=kept, details={"s": float(s)} | details)


def ksparse(
    X, k: int, *, seed: int, threads: int, n_genes: int | str | None = None, penalty: float = 1.0, **options: Any
) -> Fitted:
    """K-sparse; with neither eta nor n_genes W is free. The defaults named here are those of the first runs."""
    model = clustering.KSparse(k, n_genes=n_genes, penalty=penalty, random_state=seed, n_jobs=threads, **options)
    model.fit(X)
    details = {
        "criterion_from_start": model.criterion_.tolist(),
        "relative_criterion": model.relative_criterion_.tolist(),
        "l1_norm": model.l1_norm_,
        "constraint_active": bool(model.constraint_active_),
    }
    return Fitted(model.labels_, model.transform(X), model.initial_labels_, model.selected_features_, details)


def leiden(X, k: int, *, seed: int, threads: int, n_neighbors: int = 15, n_components: int = 50) -> Fitted:
    """Leiden on scanpy's neighbour graph of PCA scores, at the resolution that comes nearest to k communities.

    Raises `KitError` where scanpy or igraph is not installed.
    """
    try:
        import igraph  # noqa: F401, scanpy imports it when it is asked for communities
        import scanpy as sc
    except ImportError as error:
        raise KitError(f"method = 'leiden': needs {error.name}: pip install 'sparcl-lite[cells]'") from None
    data = sc.AnnData(X)
    sc.pp.pca(data, n_comps=min(n_components, min(X.shape) - 1), random_state=seed)
    sc.pp.neighbors(data, n_neighbors=n_neighbors, random_state=seed)
    low, high, best = *RESOLUTIONS, None
    for _ in range(LEIDEN_FITS):
        resolution = float(np.sqrt(low * high))
        sc.tl.leiden(data, resolution, random_state=seed, flavor="igraph", n_iterations=-1, directed=False)
        found = data.obs["leiden"].cat.codes.to_numpy()
        if best is None or abs(found.max() + 1 - k) < abs(best[0].max() + 1 - k):
            best = found, resolution
        if found.max() + 1 == k:
            break
        low, high = (resolution, high) if found.max() + 1 < k else (low, resolution)
    return Fitted(best[0].astype(int), data.obsm["X_pca"], details={"resolution": best[1], "scanpy": sc.__version__})


CLUSTERERS.register("leiden", leiden, label="Leiden")
CLUSTERERS.register("k-sparse", ksparse, label="K-sparse")
CLUSTERERS.register("pca", pca, label="PCA + k-means")
CLUSTERERS.register("spectral", spectral)
CLUSTERERS.register("simlr", simlr, label="SIMLR", schema=2)
CLUSTERERS.register("sparse-kmeans", sparse_kmeans, label="sparse k-means", schema=2)


def fit(name: str, X, k: int, *, seed: int, threads: int, **options: Any) -> Fitted:
    """What the method of that name finds. Raises `KitError` on an unknown name."""
    method = CLUSTERERS[name]
    if not isinstance(method, type):
        return method(X, k, seed=seed, threads=threads, **options)
    ours, known = {"n_clusters": k, "random_state": seed, "n_jobs": threads}, inspect.signature(method).parameters
    model = method(**{name: value for name, value in ours.items() if name in known} | options)
    labels = np.asarray(model.fit_predict(X))
    return Fitted(labels, getattr(model, "embedding_", X))
