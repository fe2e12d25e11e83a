"""What is done to counts before they are clustered, in scanpy's terms and with scanpy's numbers."""

from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from sparcl_lite.clustering.design import is_dask

PER_CELL = 10_000  # counts of a cell before logarithms
TOP_GENES = 2_000
BINS = 20  # of mean expression, within which dispersions are compared
LOOKED_AT = 100_000  # values that tell counts from what was made of them


def are_counts(X: Any) -> bool:
    """Whether X (m, d), dense, sparse or the first block of a dask array, holds counts: whole numbers, some above 1."""
    X = X.blocks[0, 0].compute() if is_dask(X) else X
    values = X.data if sparse.issparse(X) else np.asarray(X).ravel()
    values = values[:: max(1, len(values) // LOOKED_AT)]
    return bool(len(values) and (values >= 0).all() and (values == np.round(values)).all() and values.max() > 1)


def log_normalised(counts: Any, per_cell: float = PER_CELL) -> Any:
    """`log(1 + count per 10,000 counts of the cell)` of (m, d) counts, sparse where they are; empty cells stay zero.

    As `scanpy.pp.normalize_total(target_sum=1e4)` and `scanpy.pp.log1p`. Whole numbers become single precision. Raises
    ValueError on negative values: these are no counts.
    """
    if counts.min() < 0:
        raise ValueError(f"counts: got {counts.min():g}, allowed are numbers from 0 on; are these logarithms already?")
    counts = counts if np.issubdtype(counts.dtype, np.floating) else counts.astype(np.float32)
    totals = np.asarray(counts.sum(axis=1)).reshape(-1, 1)
    scale = per_cell / np.where(totals > 0, totals, 1)
    if not sparse.issparse(counts):
        return np.log1p(counts * scale)
    logs = sparse.csr_array(counts, copy=True)
    logs.data *= np.repeat(scale.ravel(), np.diff(logs.indptr)).astype(logs.dtype)
    return logs.log1p()


def highly_variable(logs: Any, count: int = TOP_GENES) -> np.ndarray:
    """Columns of the `count` most variable genes of log-normalised X (m, d), in their order.

    As `scanpy.pp.highly_variable_genes(flavor="seurat", n_top_genes=count)`: the logarithm of variance over mean of a
    gene, less its mean over genes of like expression and over their standard deviation (Satija and others, 2015).
    """
    if count >= logs.shape[1]:
        return np.arange(logs.shape[1])
    mean, variance = _moments(logs)
    mean[mean == 0] = 1e-12
    with np.errstate(divide="ignore", invalid="ignore"):
        dispersion = np.log(np.where(variance > 0, variance / mean, np.nan))
    genes = pd.DataFrame({"bin": pd.cut(np.log1p(mean), BINS), "dispersion": dispersion})
    within = genes.groupby("bin", observed=True)["dispersion"].agg(["mean", "std"]).loc[genes["bin"]]
    average, spread = within["mean"].to_numpy().copy(), within["std"].to_numpy().copy()
    alone = np.isnan(spread)
    spread[alone], average[alone] = average[alone], 0  # a gene alone in its bin gets 1
    relative = (dispersion - average) / spread
    return np.sort(np.argsort(-np.nan_to_num(relative, nan=-np.inf), kind="stable")[:count])


def _moments(logs: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and unbiased variance (d,) of the values whose logarithms these are."""
    values = logs.copy()
    if sparse.issparse(values):
        values.data = np.expm1(values.data.astype(float))
        squares = values.multiply(values).sum(axis=0)
    else:
        values = np.expm1(values.astype(float))
        squares = np.square(values).sum(axis=0)
    m = logs.shape[0]
    mean = np.asarray(values.sum(axis=0)).ravel() / m
    return mean, np.maximum(np.asarray(squares).ravel() / m - mean**2, 0) * (m / max(1, m - 1))
