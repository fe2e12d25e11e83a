"""What a paper's table or figure is made of: named rows, each a set of run parameters, and their runs as a DataFrame.

The rows themselves are in each paper's folder; what is concluded from them is in `papers.judge` and `report`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from sparcl_lite.config import RunConfig
from sparcl_lite.papers.reference import reference
from sparcl_lite.runs.result import RunResult
from sparcl_lite.runs.store import Store
from sparcl_lite.runs.sweep import find, sweep

METRICS = ("class_il", "task_il", "forgetting", "flops_paper", "flops_honest", "seconds", "data_fraction")
RECORD = ("key", "started", "commit")


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes
    ----------
    id : the row's name in the paper's reference CSV
    label : what a reader sees
    values : parameters of `RunConfig` beyond those of the experiment
    seeds : how many seeds its evidence needs
    against : id of the row it is compared with, or None
    """

    id: str
    label: str
    values: dict[str, Any]
    seeds: int = 5
    against: str | None = None


@dataclass(frozen=True)
class Experiment:
    """A paper's item: its rows, and the parameters that all of them share.

    `item` names its reference CSV (None: it has no printed numbers). `printed` is False where the settings are not the
    paper's own: its numbers and claims do not apply then.
    """

    name: str
    paper: str
    item: str | None
    rows: tuple[Row, ...]
    shared: dict[str, Any] = field(default_factory=dict)
    printed: bool = True

    def row(self, row_id: str) -> Row:
        """The row of that id; KeyError when there is none."""
        return {row.id: row for row in self.rows}[row_id]

    def printed_values(self, column: str) -> dict[tuple[str, str], dict[str, Any]]:
        """The paper's numbers for a data set (a prefix of the CSV's columns), as lines by (row, metric)."""
        if not (self.item and self.printed):
            return {}
        lines = reference(self.paper, self.item)
        lines = lines[lines["column"].str.startswith(f"{column}/")]
        return {(line["row"], line["column"].split("/")[1]): line for line in lines.to_dict("records")}

    def configs(self, row: Row, seeds: int) -> list[RunConfig]:
        """The row's configurations, for up to `seeds` seeds (never more than its evidence needs)."""
        count = min(seeds, row.seeds)
        return [RunConfig(**(self.shared | row.values | {"seed": seed})) for seed in range(count)]

    def run(self, *, seeds: int, store: Store, scheduler: str | None = None) -> pd.DataFrame:
        """Results of every row, one line a run; those that `store` lacks are trained."""
        planned = [(row, config) for row in self.rows for config in self.configs(row, seeds)]
        results = sweep([config for _, config in planned], store=store, scheduler=scheduler)
        return _frame((row.id, result) for (row, _), result in zip(planned, results, strict=True))

    def stored(self, *, seeds: int, store: Store) -> pd.DataFrame:
        """As `run`, but only what `store` holds; trains nothing."""
        found = ((row.id, find(store, c)) for row in self.rows for c in self.configs(row, seeds))
        return _frame((name, result) for name, result in found if result is not None)


def _frame(results: Iterable[tuple[str, RunResult]]) -> pd.DataFrame:
    lines = [
        {
            "row": name,
            "seed": result.config.seed,
            "class_il": result.class_il,
            "task_il": result.task_il,
            "forgetting": result.forgetting,
            "flops_paper": result.flops.paper,
            "flops_honest": result.flops.honest,
            "seconds": result.seconds.train,
            "data_fraction": result.data_fraction,
            "key": result.config.key,
            "started": result.started,
            "commit": result.environment.get("commit"),
        }
        for name, result in results
    ]
    return pd.DataFrame(lines, columns=["row", "seed", *METRICS, *RECORD])


def runs_of(frame: pd.DataFrame, *rows: str) -> frozenset[tuple[str, str]]:
    """(when it began, the commit that made it) of every run of these rows; empty where runs carry no record."""
    if not {"started", "commit"} <= set(frame.columns):
        return frozenset()
    runs = frame[frame["row"].isin(rows)]
    return frozenset(zip(runs["started"], runs["commit"].fillna("unknown"), strict=True))
