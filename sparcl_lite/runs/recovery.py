"""The job that selects genes and tells cell types by them on held-out cells: see `clustering.markers`."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np

from sparcl_lite.clustering.config import RecoveryConfig, RecoveryResult
from sparcl_lite.runs.clustering import PERCENT, cells_of
from sparcl_lite.runs.job import Job
from sparcl_lite.runs.result import environment, now
from sparcl_lite.runs.store import Store


class Recovery(Job):
    """One selection of genes from one split of one data set."""

    kind = folder = "recovery"
    config_type, result_type = RecoveryConfig, RecoveryResult
    shares_machine = False
    columns = ("dataset", "selector", "n_genes", "recovered", "balanced", "markers", "precision", "seconds")
    bits = frozenset({"accuracy", "balanced", "selected"})

    @property
    def label(self) -> str:
        """How genes are selected, how many, and the data set."""
        return f"{self.config.n_genes} genes by {self.config.selector}, {self.config.dataset}"

    def compute(self, store: Store, progress: bool) -> RecoveryResult:
        """Select on the training cells, and classify the others."""
        from threadpoolctl import threadpool_limits

        from sparcl_lite.clustering.markers import SELECTORS, known_markers, recovery

        config, started, spent = self.config, now(), []
        cells, select = cells_of(config), partial(SELECTORS[config.selector], **config.options)

        def timed(X: Any, labels: np.ndarray) -> np.ndarray:
            begun = time.perf_counter()
            chosen = select(X, labels, config.n_genes, config.seed)
            spent.append(time.perf_counter() - begun)
            return chosen

        with threadpool_limits(1):
            scores, chosen = recovery(cells.X, cells.labels, timed, seed=config.seed)
        known = known_markers(cells.genes)
        return RecoveryResult(
            config=config, cells=len(cells.labels), genes=len(cells.genes), **scores, selected=chosen.tolist(),
            markers=float(known[chosen].sum() / known.sum()) if known.any() else None,
            precision=None if cells.truth is None else float(cells.truth[chosen].mean()),
            seconds=spent[0], environment=environment(self.threads, "cpu"), started=started, finished=now(),
        )  # fmt: skip

    @staticmethod
    def headline(result: RecoveryResult) -> dict[str, float | None]:
        """Accuracy on held-out cells and its mean over types, in percent."""
        return {"recovered": PERCENT * result.accuracy, "balanced": PERCENT * result.balanced}

    @classmethod
    def line(cls, result: RecoveryResult) -> dict[str, Any]:
        """Scores in percent."""
        config = result.config
        shares = {"markers": result.markers, "precision": result.precision}
        return {
            "dataset": config.dataset,
            "selector": config.selector,
            "n_genes": config.n_genes,
            "seconds": result.seconds,
            **cls.headline(result),
        } | {name: None if value is None else PERCENT * value for name, value in shares.items()}
