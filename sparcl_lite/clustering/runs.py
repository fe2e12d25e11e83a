"""`cluster(config)`: a finished clustering from the store, or one made now."""

import gc
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import sklearn
from scipy import sparse
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from sparcl_lite.clustering.config import SIMULATED, ClusteringConfig, ClusteringResult
from sparcl_lite.clustering.data.cells import Cells
from sparcl_lite.clustering.data.loaders import load
from sparcl_lite.clustering.data.simulator import simulate
from sparcl_lite.clustering.methods import METHODS, Fitted
from sparcl_lite.clustering.scores import agreement, precision_recall, silhouette
from sparcl_lite.measure.memory import PeakMemory
from sparcl_lite.runs.result import environment
from sparcl_lite.runs.store import Store

RANKED = 200  # features that a result names
PER_CELL = 10_000  # counts of a cell before logarithms


def beside(store: Store) -> Store:
    """The store of clusterings that belongs to one of training runs: a folder `clustering` in each of its places."""
    return store.beside("clustering", ClusteringResult)


def cluster(config: ClusteringConfig, *, store: Store, threads: int = 1) -> ClusteringResult:
    """The result of `config`: from the store when it is there, else made now and kept there.

    Raises `KitError` for an unusable store, a damaged result or missing data; ValueError for options that the method
    does not have or allow.
    """
    found = store.get(config)
    if found:
        return found
    store.check_usable(2**20)
    with store.lock(config):
        found = store.get(config)  # another process may have finished it meanwhile
        if found is None:
            found = _make(config, threads)
            store.put(found)
    return found


def cluster_all(configs: Iterable[ClusteringConfig], *, store: Store, threads: int = 1) -> list[ClusteringResult]:
    """Results in order, one after the other: so that they do not slow each other down."""
    configs = list(configs)
    missing = [config for config in configs if store.get(config) is None]
    gc.freeze()  # `PeakMemory` collects garbage before every run: what is imported is none
    with tqdm(total=len(missing), unit="run", disable=not missing) as bar:
        for config in missing:
            bar.set_description(f"{config.method}, {config.dataset}, seed {config.seed}")
            cluster(config, store=store, threads=threads)
            bar.update()
    return [store.get(config) for config in configs]


def cells_of(config: ClusteringConfig) -> Cells:
    """The cells that a run clusters: the whole data set, or its random share."""
    if config.dataset == SIMULATED:
        given = {"n_cells": config.cells, "n_genes": config.genes, "dropout": config.dropout}
        given = {name: value for name, value in given.items() if value is not None}
        cells = simulate(**given, seed=config.seed, as_sparse=config.sparse)
    else:
        cells = load(config.dataset)
    X = log_normalised(cells.X) if config.logs else cells.X
    kept = np.sort(np.random.RandomState(config.seed).permutation(X.shape[0])[: round(config.share * X.shape[0])])
    if config.share < 1:
        return Cells(cells.name, X[kept], cells.labels[kept], cells.genes, cells.truth)
    return Cells(cells.name, X, cells.labels, cells.genes, cells.truth)


def log_normalised(counts: np.ndarray) -> np.ndarray:
    """`log(1 + count per 10,000 counts of the cell)`, (m, d)."""
    return np.log1p(counts * (PER_CELL / np.maximum(counts.sum(axis=1, keepdims=True), 1)))


def _make(config: ClusteringConfig, threads: int) -> ClusteringResult:
    started, cells = _now(), cells_of(config)
    fit: Callable[..., Fitted] = METHODS[config.method]
    with threadpool_limits(1):  # K-sparse has threads of its own; those of libraries burn time while they wait
        memory, begun, cpu_begun = PeakMemory("cpu"), time.perf_counter(), time.process_time()
        fitted = fit(cells.X, cells.n_classes, seed=config.seed, threads=threads, **config.options)
        seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu_begun
        peak = memory.read() + _bytes(cells.X)
        where = environment(threads, "cpu") | {"scikit-learn": sklearn.__version__}
        return ClusteringResult(
            **_outcome(config, cells, fitted), seconds=seconds, cpu_seconds=cpu_seconds, peak_memory_bytes=peak,
            environment=where, started=started, finished=_now(),
        )  # fmt: skip


def _outcome(config: ClusteringConfig, cells: Cells, fitted: Fitted) -> dict[str, Any]:
    chosen = None if cells.truth is None or fitted.selected is None else precision_recall(fitted.selected, cells.truth)
    precision, recall = chosen or (None, None)
    return {
        "config": config,
        "cells": cells.X.shape[0],
        "genes": cells.X.shape[1],
        "nonzeros": cells.X.nnz if sparse.issparse(cells.X) else int(np.count_nonzero(cells.X)),
        "final": agreement(cells.labels, fitted.labels),
        "initial": None if fitted.initial_labels is None else agreement(cells.labels, fitted.initial_labels),
        "silhouette": silhouette(fitted.embedding, fitted.labels),
        "features": None if fitted.selected is None else len(fitted.selected),
        "ranking": [] if fitted.selected is None else fitted.selected[:RANKED].tolist(),
        "precision": precision,
        "recall": recall,
        "details": fitted.details,
    }


def _bytes(X: Any) -> int:
    return X.data.nbytes + X.indices.nbytes + X.indptr.nbytes if sparse.issparse(X) else X.nbytes


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
