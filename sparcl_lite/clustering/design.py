"""The data as a linear operator: scaled and centred without being copied, dense, sparse or out of core.

K-sparse works on `A = (X - 1 mean') / norm`, X divided by its spectral norm and then centred. Forming A would make a
sparse X dense, and a large one larger; everything here needs products with A only, taken over blocks of rows.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice, starmap
from numbers import Integral
from typing import Any

import numpy as np
from scipy import sparse

BLOCK_ROWS = 5_000  # whatever the threads, so that results do not depend on them; double precision adds the blocks up
SMALL_PRODUCT = 1_000_000  # multiplications up to which OpenBLAS packs nothing: half the time for long thin matrices
OVERSAMPLING = 10  # of the randomised SVD, and its power iterations: Halko, Martinsson and Tropp (2011)
POWER_ITERATIONS = 7
NORM_TOLERANCE = 1e-8
NORM_ITERATIONS = 200
SUMMED_AT_ONCE = 8  # results of dask blocks


def is_dask(X: Any) -> bool:
    """Whether X is a dask array, told without importing dask."""
    return type(X).__module__.partition(".")[0] == "dask" and hasattr(X, "to_delayed")


class Design:
    """`A = (X - 1 mean') / norm` of an (m, d) dense array, CSR array or dask array of row blocks.

    In-memory data is shared by `n_jobs` threads (dense products have those of BLAS besides); a dask array is computed
    block by block by dask's current scheduler: threads of this machine, or the cluster of an active `Client`. Single
    precision stays so; all else, whole numbers too, is computed in double precision.

    Attributes
    ----------
    shape : (m, d)
    mean : column means of X, (d,)
    norm : spectral norm of X, before it is centred
    lazy : whether X is a dask array
    """

    def __init__(self, X: Any, n_jobs: int | None = None):
        self.shape: tuple[int, int] = X.shape
        self.dtype = np.dtype(np.float32) if X.dtype == np.float32 else np.dtype(np.float64)
        self._threads, self.lazy = _thread_count(n_jobs), is_dask(X)
        self._X = X.map_blocks(_of_type, self.dtype, dtype=self.dtype) if self.lazy else _of_type(X, self.dtype)
        self._blocks = _dask_blocks(self._X) if self.lazy else _row_blocks(self._X)
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 and not self.lazy else None
        self.mean = self._sum(_column_sums) / self.shape[0]
        if not np.isfinite(self.mean).all():
            raise ValueError("X contains NaN or infinity; allowed are finite numbers")
        with np.errstate(over="ignore", invalid="ignore"):
            self.norm = self._spectral_norm()
        if not np.isfinite(self.norm):
            raise ValueError(f"X: the squares of its values are too large for {self.dtype}; divide X by a constant")

    def project(self, W: np.ndarray) -> np.ndarray:
        """`A W`, shape (m, h), of W (d, h)."""
        offset, scaled = self.mean @ W / self.norm, self._scaled(W)
        parts = self._map(partial(times, W=scaled, offset=offset))
        return np.concatenate(list(parts))

    def back_project(self, Z: np.ndarray) -> np.ndarray:
        """`A' Z`, shape (d, h), of Z (m, h)."""
        parts = (Z[start:stop] for start, stop, _ in self._blocks)
        total = self._sum(_transposed_times, parts)
        return (total - np.outer(self.mean, Z.sum(axis=0, dtype=float))) / self.norm

    def gradient(self, W: np.ndarray, labels: np.ndarray, centroids: np.ndarray) -> np.ndarray:
        """`A' (A W - M)`, shape (d, h), where row i of M is `centroids[labels[i]]`; X'X is never formed."""
        offset, scaled = self.mean @ W / self.norm, self._scaled(W)
        step = partial(_gradient, W=scaled, targets=(centroids + offset).astype(self.dtype))
        parts = (labels[start:stop] for start, stop, _ in self._blocks)
        total, residual = (sum(values) for values in zip(*self._map(step, parts), strict=True))
        return (total - np.outer(self.mean, residual)) / self.norm

    def svd(self, rank: int, rng: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
        """Left singular vectors (m, rank) and singular values (rank,) of A, by a randomised range finder."""
        size = min(rank + OVERSAMPLING, *self.shape)
        basis = self.project(rng.normal(size=(self.shape[1], size)))
        for _ in range(POWER_ITERATIONS):
            basis = self.project(np.linalg.qr(self.back_project(np.linalg.qr(basis)[0]))[0])
        basis = np.linalg.qr(basis)[0]
        left, values, _ = np.linalg.svd(self.back_project(basis).T, full_matrices=False)
        return basis @ left[:, :rank], values[:rank]

    def gram(self) -> np.ndarray:
        """`A A'`, shape (m, m), for initialisations that look at all pairs of samples; not for dask arrays."""
        X = self._X
        products = X @ X.T
        products = products.toarray() if sparse.issparse(products) else products
        cross = X @ self.mean
        centred = products.astype(float) - cross[:, None] - cross[None, :] + self.mean @ self.mean
        return centred / self.norm**2

    def _spectral_norm(self) -> float:
        """Power iteration on X'X, which is applied and not formed; 1 for a matrix of zeros."""
        vector = np.random.RandomState(0).normal(size=self.shape[1]) + np.sign(self.mean)
        previous = 0.0
        for _ in range(NORM_ITERATIONS):
            vector = vector / np.linalg.norm(vector)
            vector = self._gram_times(vector)
            value = np.sqrt(np.linalg.norm(vector))
            if value == 0:
                return 1.0
            if abs(value - previous) <= NORM_TOLERANCE * value:
                break
            previous = value
        return float(value)

    def _gram_times(self, vector: np.ndarray) -> np.ndarray:
        """`X'X vector`, (d,)."""
        return self._sum(partial(_gram_times, vector=vector.astype(self.dtype)))

    def _scaled(self, W: np.ndarray) -> np.ndarray:
        return (W / self.norm).astype(self.dtype)

    def _map(self, function: Callable, *arguments: Iterable) -> Iterator:
        """`function(block, ...)` for every block, with its own entry of each of the arguments."""
        if self.lazy:
            import dask

            return iter(dask.compute(*self._tasks(function, *arguments)))
        items = zip((block for *_, block in self._blocks), *arguments, strict=True)
        return self._threaded(function, items) if self._pool else starmap(function, items)

    def _threaded(self, function: Callable, items: Iterator[tuple]) -> Iterator:
        """As `starmap`, by threads, which wait for whoever takes the results: these may be larger than the blocks."""
        while few := list(islice(items, 2 * self._threads)):
            yield from self._pool.map(function, *zip(*few, strict=True))

    def _sum(self, function: Callable, *arguments: Iterable) -> Any:
        """The sum of what `_map` gives; of a dask array it is taken where the blocks are, a few at a time."""
        if not self.lazy:
            parts = self._map(function, *arguments)
            total = next(parts).astype(float)
            for part in parts:
                total += part
            return total
        from dask import delayed

        parts = self._tasks(function, *arguments)
        while len(parts) > 1:
            parts = [delayed(sum)(parts[i : i + SUMMED_AT_ONCE]) for i in range(0, len(parts), SUMMED_AT_ONCE)]
        return parts[0].compute()

    def _tasks(self, function: Callable, *arguments: Iterable) -> list:
        from dask import delayed

        blocks = [block for *_, block in self._blocks]
        return [delayed(function)(*items) for items in zip(blocks, *arguments, strict=True)]


def _thread_count(n_jobs: int | None) -> int:
    """As in joblib: None is 1, -1 all processors."""
    if n_jobs is None:
        return 1
    if not isinstance(n_jobs, Integral) or n_jobs == 0:
        raise ValueError(f"n_jobs: got {n_jobs!r}, allowed is a whole number but 0, or None")
    return n_jobs if n_jobs > 0 else max(1, (os.cpu_count() or 1) + 1 + n_jobs)


def _of_type(block: Any, dtype: np.dtype) -> Any:
    """A dense or CSR block as floats, itself where it has that type: a dask array may claim another than its blocks."""
    return block.astype(dtype, copy=False)


def _row_blocks(X: Any) -> list[tuple[int, int, Any]]:
    """(start, stop, rows) that share the memory of X."""
    m = X.shape[0]
    bounds = [(start, min(start + BLOCK_ROWS, m)) for start in range(0, m, BLOCK_ROWS)]
    take = _csr_rows if sparse.issparse(X) else _dense_rows
    return [(start, stop, take(X, start, stop)) for start, stop in bounds]


def _dense_rows(X: np.ndarray, start: int, stop: int) -> np.ndarray:
    return X[start:stop]


def _csr_rows(X: Any, start: int, stop: int) -> sparse.csr_array:
    """Rows of a CSR array without a copy of its values, which SciPy makes of a small part of a large array."""
    first, last = X.indptr[start], X.indptr[stop]
    rows = sparse.csr_array((stop - start, X.shape[1]), dtype=X.data.dtype)
    rows.data, rows.indices, rows.indptr = X.data[first:last], X.indices[first:last], X.indptr[start : stop + 1] - first
    return rows


def _dask_blocks(X: Any) -> list[tuple[int, int, Any]]:
    """(start, stop, delayed rows), once every chunk spans all columns."""
    X = X.rechunk({1: -1})
    stops = np.cumsum(X.chunks[0])
    starts = stops - X.chunks[0]
    blocks = X.to_delayed().ravel()
    return [(int(start), int(stop), block) for start, stop, block in zip(starts, stops, blocks, strict=True)]


def _column_sums(block: Any) -> np.ndarray:
    return np.asarray(block.sum(axis=0, dtype=float)).ravel()


def times(block: Any, W: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """`X W - offset` of a dense or CSR block of rows X."""
    return block @ W - offset.astype(W.dtype)


def _transposed_times(block: Any, Z: np.ndarray) -> np.ndarray:
    return (block.T @ Z.astype(block.dtype)).astype(float)


def _gram_times(block: Any, vector: np.ndarray) -> np.ndarray:
    return (block.T @ (block @ vector)).astype(float)


def _gradient(block: Any, labels: np.ndarray, W: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of one block: `X' R` and the column sums of R, the residual `X W / norm - targets[labels]`."""
    if not sparse.issparse(block):
        return _dense_gradient(block, labels, W, targets)
    residual = block @ W - targets[labels]
    return (block.T @ residual).astype(float), residual.sum(axis=0, dtype=float)


def _dense_gradient(block, labels, W, targets) -> tuple[np.ndarray, np.ndarray]:
    """As `_gradient`, a few rows at a time, so that the second product finds them in the cache."""
    rows = max(1, SMALL_PRODUCT // W.size)
    total, sums = np.zeros(W.T.shape, W.dtype), np.zeros(W.shape[1])
    for start in range(0, len(block), rows):
        few = block[start : start + rows]
        residual = W.T @ few.T - targets[labels[start : start + rows]].T
        total += residual @ few
        sums += residual.sum(axis=1)
    return total.T.astype(float), sums
