"""What a K-sparse table is made of: named rows of clustering runs, and their results as a DataFrame."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sparcl_lite.clustering.config import ClusteringConfig, ClusteringResult
from sparcl_lite.clustering.runs import beside, cluster_all
from sparcl_lite.errors import KitError
from sparcl_lite.runs.store import DamagedResult, Store

PERCENT = 100


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes
    ----------
    id : `<data set>/<method>`
    label : what a reader sees of the method
    values : parameters of `ClusteringConfig`
    seeds : how many seeds its evidence needs
    against : id of the row it is compared with, or None
    large : not made in passing, but shown where the store has it
    """

    id: str
    label: str
    values: dict[str, Any]
    seeds: int = 5
    against: str | None = None
    large: bool = False

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return self.values["dataset"]


@dataclass(frozen=True)
class ClusteringExperiment:
    """An item of the paper: its rows, and the profile that all of them share. `threads` of every run."""

    name: str
    item: str
    title: str
    rows: tuple[Row, ...]
    profile: str = "lite"
    threads: int = 1
    printed: bool = True

    def row(self, row_id: str) -> Row:
        """The row of that id; KeyError when there is none."""
        return {row.id: row for row in self.rows}[row_id]

    def printed_values(self, column: str) -> dict[tuple[str, str], dict[str, Any]]:
        """The paper's numbers by (row, metric): none, for only its abstract could be had."""
        return {}

    def configs(self, row: Row, seeds: int) -> list[ClusteringConfig]:
        """The row's configurations, for up to `seeds` seeds (never more than its evidence needs)."""
        count = min(seeds, row.seeds)
        return [ClusteringConfig(**row.values, profile=self.profile, seed=seed) for seed in range(count)]

    def run(self, *, seeds: int, store: Store, scheduler: str | None = None, large: bool = False) -> pd.DataFrame:
        """Results of every row, one line a run; those that the store lacks are made here, `large` ones if asked for.

        `store` is that of the training runs: clusterings are kept beside them. Raises `KitError` on a scheduler.
        """
        if scheduler:
            raise KitError(f"scheduler = {scheduler!r}: clusterings are timed on this machine; allowed: empty")
        wanted = [config for row in self.rows if large or not row.large for config in self.configs(row, seeds)]
        cluster_all(wanted, store=beside(store), threads=self.threads)
        return self.stored(seeds=seeds, store=store)

    def stored(self, *, seeds: int, store: Store) -> pd.DataFrame:
        """As `run`, but only what the store holds; makes nothing."""
        found = ((row, _find(beside(store), c)) for row in self.rows for c in self.configs(row, seeds))
        return _frame((row, result) for row, result in found if result is not None)


def _find(store: Store, config: ClusteringConfig) -> ClusteringResult | None:
    try:
        return store.get(config)
    except DamagedResult:  # set aside: as if it had never been
        return None


def _frame(results: Iterable[tuple[Row, ClusteringResult]]) -> pd.DataFrame:
    """One line a run; accuracy, ARI, NMI, precision and recall in percent, `gained` over the method's own start."""
    return pd.DataFrame([_line(row, result) for row, result in results])


def _line(row: Row, result: ClusteringResult) -> dict[str, Any]:
    final, initial = result.final, result.initial
    details = result.details
    return {
        "row": row.id,
        "dataset": row.dataset,
        "method": row.label,
        "seed": result.config.seed,
        "cells": result.cells,
        "n_genes": result.genes,
        "eta": result.config.options.get("eta"),
        "accuracy": PERCENT * final.accuracy,
        "ari": PERCENT * final.ari,
        "nmi": PERCENT * final.nmi,
        "initial_accuracy": None if initial is None else PERCENT * initial.accuracy,
        "gained": None if initial is None else PERCENT * (final.accuracy - initial.accuracy),
        "silhouette": result.silhouette,
        "features": result.features,
        "precision": None if result.precision is None else PERCENT * result.precision,
        "recall": None if result.recall is None else PERCENT * result.recall,
        "ranking": result.ranking,
        "criterion": details.get("criterion_from_start"),
        "relative_criterion": details.get("relative_criterion"),
        "l1_norm": details.get("l1_norm"),
        "constraint_active": details.get("constraint_active"),
        "seconds": result.seconds,
        "cpu_seconds": result.cpu_seconds,
        "peak_memory_bytes": result.peak_memory_bytes,
        "nonzeros": result.nonzeros,
        "started": result.started,
        "commit": result.environment.get("commit"),
    }
