"""What a paper's table or figure is made of: named rows of runs of any kind, and their results as a DataFrame.

The rows themselves are in each paper's folder; what is concluded from them is in `papers.judge` and `report`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from importlib.util import find_spec
from typing import Any, Self

import pandas as pd

from sparcl_lite.papers.reference import reference
from sparcl_lite.runs.job import Job
from sparcl_lite.runs.store import Store
from sparcl_lite.runs.sweep import sweep
from sparcl_lite.runs.training import Training

RECORD = ("key", "started", "commit")


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes
    ----------
    id : the row's name in the paper's reference CSV
    label : what a reader sees
    values : parameters of its configurations beyond those of the experiment
    seeds : how many seeds its evidence needs
    against : id of the row it is compared with, or None
    large : not computed unless asked for, but shown where the store has it
    needs : modules of an optional extra; where one is not installed the row is not computed, but shown, too
    """

    id: str
    label: str
    values: dict[str, Any]
    seeds: int = 5
    against: str | None = None
    large: bool = False
    needs: tuple[str, ...] = ()

    @property
    def lacks(self) -> list[str]:
        """Which of the modules that it needs are not installed."""
        return [name for name in self.needs if find_spec(name) is None]


@dataclass(frozen=True)
class Experiment:
    """A paper's item: its rows, and the parameters that all of them share.

    `item` names its reference CSV (None: it has no printed numbers). `printed` is False where the settings are not the
    paper's own: its numbers and claims do not apply then. `job` is the kind of its runs, `threads` are those of each
    that does not share the machine.
    """

    name: str
    paper: str
    item: str | None
    rows: tuple[Row, ...]
    shared: dict[str, Any] = field(default_factory=dict)
    printed: bool = True
    job: type[Job] = Training
    threads: int = 1

    def row(self, row_id: str) -> Row:
        """The row of that id; KeyError when there is none."""
        return {row.id: row for row in self.rows}[row_id]

    def narrowed(self, patterns: Sequence[str]) -> Self:
        """The experiment with only those rows whose id is one of these or fits one as a pattern (`sparcl-*-50`)."""
        return replace(self, rows=tuple(row for row in self.rows if any(fnmatchcase(row.id, p) for p in patterns)))

    def printed_values(self, column: str) -> dict[tuple[str, str], dict[str, Any]]:
        """The paper's numbers for a data set (a prefix of the CSV's columns), as lines by (row, metric)."""
        if not (self.item and self.printed):
            return {}
        lines = reference(self.paper, self.item)
        lines = lines[lines["column"].str.startswith(f"{column}/")]
        return {(line["row"], line["column"].split("/")[1]): line for line in lines.to_dict("records")}

    def configs(self, row: Row, seeds: int) -> list[Any]:
        """The row's configurations, for up to `seeds` seeds (never more than its evidence needs)."""
        count = min(seeds, row.seeds)
        return [self.job.config_type(**(self.shared | row.values | {"seed": seed})) for seed in range(count)]

    def jobs(self, *, seeds: int, large: bool = False) -> list[Job]:
        """The jobs of all rows that can be computed here; of `large` ones only if asked for."""
        rows = [row for row in self.rows if (large or not row.large) and not row.lacks]
        return [self.job(config, threads=self.threads) for row in rows for config in self.configs(row, seeds)]

    def left_out(self, frame: pd.DataFrame) -> list[str]:
        """A line for each row that cannot be computed here for want of a module, and has no run in `frame`."""
        rows = [row for row in self.rows if row.lacks and row.id not in set(frame["row"])]
        return [f"{row.id} is left out: {', '.join(row.lacks)} not installed" for row in rows]

    def complete(self, frame: pd.DataFrame, seeds: int) -> bool:
        """Whether `frame` has every row's runs for up to `seeds` seeds, but for rows that cannot be computed here."""
        found = frame.groupby("row").size()
        rows = [row for row in self.rows if not row.large and (row.id in found or not row.lacks)]
        return all(found.get(row.id) == min(seeds, row.seeds) for row in rows)

    def run(self, *, seeds: int, store: Store, scheduler: str | None = None, large: bool = False) -> pd.DataFrame:
        """Results of every row, one line a run; those that `store` lacks are computed."""
        jobs = self.jobs(seeds=seeds, large=large)
        results = sweep(jobs, store=store, scheduler=scheduler)
        made = {job.config.key: result for job, result in zip(jobs, results, strict=True)}
        return self._frame(seeds, lambda config: made.get(config.key) or store.find(config))

    def stored(self, *, seeds: int, store: Store) -> pd.DataFrame:
        """As `run`, but only what `store` holds; computes nothing.

        Beside the kind's own columns each line has its row, the row's label as `method`, seed, key, and when and at
        which commit it was made.
        """
        return self._frame(seeds, store.find)

    def _frame(self, seeds: int, find: Callable[[Any], Any]) -> pd.DataFrame:
        found = ((row, find(config)) for row in self.rows for config in self.configs(row, seeds))
        lines = [self._line(row, result) for row, result in found if result is not None]
        return pd.DataFrame(lines, columns=["row", "method", "seed", *self.job.columns, *RECORD])

    def _line(self, row: Row, result: Any) -> dict[str, Any]:
        config, where = result.config, getattr(result, "environment", {})
        record = {"key": config.key, "started": getattr(result, "started", ""), "commit": where.get("commit")}
        return {"row": row.id, "method": row.label, "seed": config.seed} | self.job.line(result) | record


def runs_of(frame: pd.DataFrame, *rows: str) -> frozenset[tuple[str, str]]:
    """(when it began, the commit that made it) of every run of these rows; empty where runs carry no record."""
    if not {"started", "commit"} <= set(frame.columns):
        return frozenset()
    runs = frame[frame["row"].isin(rows)]
    return frozenset(zip(runs["started"], runs["commit"].fillna("unknown"), strict=True))
