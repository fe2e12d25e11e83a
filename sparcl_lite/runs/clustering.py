"""The job that clusters: a `ClusteringConfig` becomes a `ClusteringResult`.

It measures time, so it runs alone. What takes seconds to import is imported where it is used: a stored result needs
none of it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from sparcl_lite.clustering.config import SIMULATED, ClusteringConfig, ClusteringResult
from sparcl_lite.runs.job import Job
from sparcl_lite.runs.result import environment, now
from sparcl_lite.runs.store import Store

if TYPE_CHECKING:
    from sparcl_lite.clustering.data.cells import Cells
    from sparcl_lite.clustering.methods import Fitted

RANKED = 200  # features that a result names
PERCENT = 100


class Clustering(Job):
    """One clustering of one data set, scored against the true classes."""

    kind = folder = "clustering"
    config_type, result_type = ClusteringConfig, ClusteringResult
    shares_machine = False
    columns = ("dataset", "cells", "n_genes", "nonzeros", "eta", "accuracy", "ari", "nmi", "initial_accuracy", "gained",
               "silhouette", "features", "precision", "recall", "ranking", "criterion", "relative_criterion", "l1_norm",
               "constraint_active", "seconds", "cpu_seconds", "peak_memory_bytes")  # fmt: skip
    bits = frozenset({"final", "initial", "features", "ranking", "precision", "recall"})

    @property
    def label(self) -> str:
        """Method and data set."""
        return f"{self.config.method}, {self.config.dataset}"

    def compute(self, store: Store, progress: bool) -> ClusteringResult:
        """Load or simulate the cells, and fit."""
        import sklearn
        from threadpoolctl import threadpool_limits

        from sparcl_lite.clustering.methods import fit
        from sparcl_lite.measure.memory import PeakMemory

        config, started = self.config, now()
        cells = cells_of(config)
        with threadpool_limits(1):  # K-sparse has threads of its own; those of libraries burn time while they wait
            memory, begun, cpu_begun = PeakMemory("cpu"), time.perf_counter(), time.process_time()
            fitted = fit(
                config.method, cells.X, cells.n_classes, seed=config.seed, threads=self.threads, **config.options
            )
            seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu_begun
            peak = memory.read() + _bytes(cells.X)
            where = environment(self.threads, "cpu") | {"scikit-learn": sklearn.__version__}
            return ClusteringResult(
                **_outcome(config, cells, fitted), seconds=seconds, cpu_seconds=cpu_seconds, peak_memory_bytes=peak,
                environment=where, started=started, finished=now(),
            )  # fmt: skip

    @staticmethod
    def headline(result: ClusteringResult) -> dict[str, float | None]:
        """Agreement with the true classes, in percent."""
        final = result.final
        return {"accuracy": PERCENT * final.accuracy, "ARI": PERCENT * final.ari, "NMI": PERCENT * final.nmi}

    @classmethod
    def line(cls, result: ClusteringResult) -> dict[str, Any]:
        """Scores in percent, `gained` over the method's own start; criteria by loop."""
        final, initial, details = result.final, result.initial, result.details
        values = {name: getattr(result, name) for name in cls.columns if name in ClusteringResult.model_fields}
        return values | {
            "dataset": result.config.dataset,
            "n_genes": result.genes,
            "eta": result.config.options.get("eta"),
            "accuracy": PERCENT * final.accuracy,
            "ari": PERCENT * final.ari,
            "nmi": PERCENT * final.nmi,
            "initial_accuracy": None if initial is None else PERCENT * initial.accuracy,
            "gained": None if initial is None else PERCENT * (final.accuracy - initial.accuracy),
            "precision": None if result.precision is None else PERCENT * result.precision,
            "recall": None if result.recall is None else PERCENT * result.recall,
            "criterion": details.get("criterion_from_start"),
            **{name: details.get(name) for name in ("relative_criterion", "l1_norm", "constraint_active")},
        }


def cells_of(config: ClusteringConfig) -> Cells:
    """The cells that a run clusters: the whole data set, or its random share."""
    from sparcl_lite.clustering.data.cells import Cells
    from sparcl_lite.clustering.data.loaders import load
    from sparcl_lite.clustering.data.simulator import simulate
    from sparcl_lite.clustering.preprocess import log_normalised

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


def _outcome(config: ClusteringConfig, cells: Cells, fitted: Fitted) -> dict[str, Any]:
    from scipy import sparse

    from sparcl_lite.clustering.scores import agreement, precision_recall, silhouette

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
    from scipy import sparse

    return X.data.nbytes + X.indices.nbytes + X.indptr.nbytes if sparse.issparse(X) else X.nbytes
