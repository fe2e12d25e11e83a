"""Many more samples than features: the data is read once for `X'X`, and gradients no longer read it at all.

A gradient costs d^2 h instead of two passes over m samples. What is left to read the data for is one projection and one
sum per cluster in every loop, which is also what makes data larger than memory practical.
"""

from functools import partial
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import eigsh

from sparcl_lite.clustering.design import Design

MIN_SAMPLES = 10_000  # below, reading the data for every gradient is as fast
MAX_FEATURES = 4_096  # 128 MiB for `X'X` in double precision
SPARSE_SHARE = 0.04  # of nonzero values: up to here the sparse product beats the dense one of BLAS


def design_of(X: Any, n_jobs: int | None = None) -> Design:
    """The cheaper way to hold X (m, d) as an operator."""
    m, d = X.shape
    return (GramDesign if m > MIN_SAMPLES and d <= MAX_FEATURES else Design)(X, n_jobs)


class GramDesign(Design):
    """As `Design`, with `A'A` (d, d) kept in double precision."""

    def __init__(self, X: Any, n_jobs: int | None = None):
        self._labels = self._members = None
        super().__init__(X, n_jobs)
        self._products -= self.shape[0] * np.outer(self.mean, self.mean)
        self._products /= self.norm**2  # from here on A'A

    def gradient(self, W: np.ndarray, labels: np.ndarray, centroids: np.ndarray) -> np.ndarray:
        """See `Design.gradient`; the data is read when `labels` is another array than the last time."""
        if labels is not self._labels:
            self._labels, self._members = labels, self._cluster_sums(labels, len(centroids))
        return self._products @ W - self._members.T @ centroids

    def svd(self, rank: int, rng: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
        """See `Design.svd`; from the eigenvectors of A'A, without random numbers."""
        d = self.shape[1]
        if rank >= d - 1:
            values, vectors = np.linalg.eigh(self._products)
        else:
            values, vectors = eigsh(self._products, k=rank, v0=np.random.RandomState(0).normal(size=d))
        largest = np.argsort(-values)[:rank]
        values = np.sqrt(np.maximum(values[largest], 0))
        known = values > values.max(initial=0) * np.sqrt(np.finfo(float).eps)
        scaled = np.where(known, vectors[:, largest] / np.where(known, values, 1), 0)
        return self.project(scaled), values

    def _spectral_norm(self) -> float:
        self._products = self._sum(_products)
        return super()._spectral_norm()

    def _gram_times(self, vector: np.ndarray) -> np.ndarray:
        return self._products @ vector

    def _cluster_sums(self, labels: np.ndarray, k: int) -> np.ndarray:
        """The sum of the rows of A in each cluster, (k, d)."""
        parts = (labels[start:stop] for start, stop, _ in self._blocks)
        sums = self._sum(partial(_cluster_sums, k=k), parts)
        return (sums - np.outer(np.bincount(labels, minlength=k), self.mean)) / self.norm


def _products(block: Any) -> np.ndarray:
    """`X'X` (d, d) of one block."""
    if sparse.issparse(block):
        if block.nnz <= SPARSE_SHARE * block.shape[0] * block.shape[1]:
            return (block.T @ block).toarray()
        block = block.toarray()
    return block.T @ block


def _cluster_sums(block: Any, labels: np.ndarray, k: int) -> np.ndarray:
    """Per cluster the sum of its rows of one block, (k, d)."""
    members = sparse.csr_array((np.ones(len(labels), block.dtype), (labels, np.arange(len(labels)))), (k, len(labels)))
    sums = members @ block
    return (sums.toarray() if sparse.issparse(sums) else sums).astype(float)
