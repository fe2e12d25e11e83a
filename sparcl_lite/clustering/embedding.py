"""Where K-sparse starts: embeddings of the samples, in which a first k-means finds labels and centroids."""

import numpy as np
from scipy.sparse.linalg import eigsh
from sklearn.preprocessing import normalize

from sparcl_lite.clustering.design import Design

#: All pairs of samples take 8 bytes each, in two arrays: 1.6 GB here.
MAX_SAMPLES = 10_000


def spectral_embedding(squared_distances: np.ndarray, size: int, sigma: float) -> np.ndarray:
    """Rows of the first `size` eigenvectors of the normalised Laplacian, scaled to unit length, shape (m, size).

    Gaussian affinities `exp(-distance^2 / (2 sigma^2))` with a zero diagonal; the trivial eigenvector is the first
    column. `squared_distances` (m, m) is overwritten. Source: Ng, Jordan and Weiss (2002).
    """
    affinity = np.exp(np.divide(squared_distances, -2 * sigma**2, out=squared_distances), out=squared_distances)
    np.fill_diagonal(affinity, 0)
    degree = np.maximum(affinity.sum(axis=1), np.finfo(float).tiny)
    affinity /= np.sqrt(degree)[:, None]
    affinity /= np.sqrt(degree)[None, :]
    trivial = np.sqrt(degree / degree.sum())
    return normalize(np.column_stack([trivial, _further_eigenvectors(affinity, trivial, size - 1)]))


def _further_eigenvectors(affinity: np.ndarray, trivial: np.ndarray, count: int) -> np.ndarray:
    """The `count` largest eigenvectors but the known first one, (m, count); `affinity` is overwritten.

    With a large sigma the eigenvalues lie within 1e-10 of -1 / (m - 1), too close for an iteration to separate. So that
    shift and the known eigenvector are subtracted first: the differences are large relative to what remains.
    """
    if count == 0:
        return np.empty((len(trivial), 0))
    shift = 1 / (len(trivial) - 1)
    affinity -= (1 + shift) * np.outer(trivial, trivial)
    affinity[np.diag_indices_from(affinity)] += shift
    if count >= len(trivial) - 1:
        return np.linalg.eigh(affinity)[1][:, ::-1][:, :count]
    start = np.random.RandomState(0).normal(size=len(trivial))
    scale = np.abs(affinity).max() or 1.0
    affinity /= scale
    return eigsh(affinity, k=count, which="LA", v0=start)[1][:, ::-1]


def squared_distances(gram: np.ndarray) -> np.ndarray:
    """(m, m) squared Euclidean distances from inner products, which are overwritten."""
    squares = gram.diagonal().copy()
    gram *= -2
    gram += squares[:, None]
    gram += squares[None, :]
    return np.maximum(gram, 0, out=gram)


def embed(design: Design, init: str, size: int, sigma: float, rng: np.random.RandomState) -> np.ndarray:
    """(m, h) coordinates of the samples, h <= `size`.

    `spectral`: see `spectral_embedding`; quadratic in m. `pca` and `k-means++`: scores of principal components.
    `whitened`: left singular vectors with rows of unit length, what `spectral` becomes where sigma is large, at linear
    cost. Raises ValueError when all pairs of samples are too many.
    """
    if init == "spectral":
        check_pairs(design.shape[0], "init='spectral'", "init='whitened'")
        return spectral_embedding(squared_distances(design.gram()), min(size, design.shape[0]), sigma)
    left, values = design.svd(min(size, *design.shape), rng)
    return normalize(left) if init == "whitened" else left * values


def check_pairs(samples: int, what: str, instead: str, limit: int = MAX_SAMPLES) -> None:
    """Raise ValueError when a method that looks at all pairs of samples is given more than `limit` of them."""
    if samples > limit:
        raise ValueError(f"n_samples: got {samples}, allowed with {what} are up to {limit}; use {instead}")
