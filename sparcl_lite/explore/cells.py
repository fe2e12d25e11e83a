"""Tables of the papers cell by cell: what stands in one, and the runs and printed numbers behind it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sparcl_lite.drawing import OURS, PAPER, interval_bars
from sparcl_lite.measure.statistics import Interval, t_interval
from sparcl_lite.papers.differences import difference, printed_difference
from sparcl_lite.papers.experiments import Experiment, Row
from sparcl_lite.papers.registry import experiments
from sparcl_lite.report.documents import PUBLICATIONS
from sparcl_lite.report.tables import plus_minus
from sparcl_lite.runs.job import Job
from sparcl_lite.runs.store import Store

COLUMN = "cifar10"  # the papers' data set that is shown beside ours
SEEDS_LOOKED_AT = 20  # of a row, also beyond those that its evidence needs
SHOWN_ROWS = 30  # of a figure at most
NAMES = {
    "class_il": "Class-IL (%)",
    "task_il": "Task-IL (%)",
    "forgetting": "forgetting (points)",
    "flops_honest": "FLOPs, honest",
    "accuracy": "accuracy (%)",
    "ari": "ARI (%)",
    "nmi": "NMI (%)",
    "recovered": "accuracy on held-out cells (%)",
    "markers": "known markers selected (%)",
    "features": "genes selected",
    "precision": "genes that truly differ (%)",
    "cpu_seconds": "CPU (s)",
    "frozen": "Task-IL, frozen (%)",
    "free": "Task-IL, free (%)",
    "stability": "stability",
    "seconds": "time (s)",
}
PRINTED_AS = {"flops_honest": "flops"}  # the paper's column of a metric that has another name there


def catalogue(profile: str, dataset: str = "") -> dict[str, Experiment]:
    """Every table and figure of the papers by a title."""
    known = experiments(profile, dataset)
    return {_title(e): e for e in known.values() if e.paper}


def _title(experiment: Experiment) -> str:
    name = experiment.name.partition("_")[2] or experiment.name
    name = re.sub(r"^table(\d)", r"Table \1", re.sub(r"^fig(\d)", r"Figure \1", name))
    return f"{PUBLICATIONS[experiment.paper]}: {name}"


def metrics(experiment: Experiment) -> dict[str, str]:
    """Metrics of an experiment's runs by their names for a reader."""
    return {text: name for name, text in NAMES.items() if name in experiment.job.columns}


@dataclass(frozen=True)
class Cell:
    """A row of an experiment under a metric: values by seed, and the paper's number as a line of its reference file.

    `frame` holds the runs of the whole experiment (`Experiment.stored`).
    """

    experiment: Experiment
    frame: pd.DataFrame
    row: Row
    metric: str
    values: pd.Series
    printed: dict[str, Any] | None

    @cached_property
    def label(self) -> str:
        """The row's label, with its data set or buffer where another row has the same label."""
        if sum(other.label == self.row.label for other in self.experiment.rows) == 1:
            return self.row.label
        values = self.row.values
        return f"{self.row.label}, {values.get('dataset') or 'buffer ' + str(values.get('buffer_size'))}"

    @cached_property
    def interval(self) -> Interval | None:
        """Mean and 95 % interval over the seeds; None without a run."""
        return t_interval(self.values) if len(self.values) else None

    @cached_property
    def effect(self) -> Interval | None:
        """The paired difference to the row's baseline."""
        return difference(self.frame, self.row.id, self.row.against, self.metric) if self.row.against else None

    def texts(self) -> dict[str, str]:
        """What stands in the table, by column."""
        digits = 2 if self.interval and abs(self.interval.mean) < 1 else 1
        return {
            "paper": "-" if self.printed is None else _number(self.printed["value"], 2),
            "ours": "-" if self.interval is None else _interval(self.interval, digits),
            "difference": self._difference(digits),
            "n": str(len(self.values)),
        }

    def _difference(self, digits: int) -> str:
        if self.effect is None:
            return "-" if self.row.against else "baseline"
        return ("+" if self.effect.mean >= 0 else "") + _interval(self.effect, digits)

    def tips(self) -> dict[str, str]:
        """What is told of a column when the pointer rests on it."""
        seeds = ", ".join(map(str, self.values.index))
        against = {row.id: row.label for row in self.experiment.rows}.get(self.row.against)
        return {
            "paper": self.provenance,
            "ours": f"seeds {seeds or 'none'}" + (f"; {self.bounds}" if self.interval else ""),
            "difference": f"to {against}, paired by seed" if against else "other rows are compared with this one",
            "n": f"seeds {seeds or 'none'}; its evidence needs {self.row.seeds}",
        }

    @property
    def bounds(self) -> str:
        """The interval in words."""
        if self.interval.n < 2:
            return "one seed gives no interval"
        return f"95 % interval {_number(self.interval.low, 2)} to {_number(self.interval.high, 2)}"

    @property
    def provenance(self) -> str:
        """Where the paper's number comes from."""
        line = self.printed
        if line is None:
            return "the paper prints no number here"
        spread = "" if pd.isna(line["std"]) else f" ± {line['std']:g}"
        runs = "" if pd.isna(line["n"]) else f", {line['n']} runs"
        return f"paper: {_number(line['value'], 2)}{spread}{runs}; {line['provenance']}: {line['note']}"

    def job(self, seed: int) -> Job:
        """The run of the row with a seed."""
        config = self.experiment.job.config_type(**(self.experiment.shared | self.row.values | {"seed": seed}))
        return self.experiment.job(config, threads=self.experiment.threads)

    def runs(self, store: Store) -> pd.DataFrame:
        """Every run of the row that is stored, also of seeds that its evidence does not need, one line each."""
        lines = []
        for seed in range(SEEDS_LOOKED_AT):
            job = self.job(seed)
            if result := store.find(job.config):
                line, where = job.line(result), getattr(result, "environment", {})
                lines.append(
                    {"seed": seed, NAMES[self.metric]: _number(line[self.metric], 2),
                     "": "in the table" if seed in self.values.index else "further", "key": job.config.key,
                     "made": getattr(result, "started", "")[:16], "commit": where.get("commit") or "-"}
                )  # fmt: skip
        return pd.DataFrame(lines, columns=["seed", NAMES[self.metric], "", "key", "made", "commit"])


def cells(experiment: Experiment, frame: pd.DataFrame, metric: str, query: str = "") -> list[Cell]:
    """The cells of a metric that hold something, of the rows whose label or id has every word of `query` in it."""
    words, printed = query.lower().split(), experiment.printed_values(COLUMN)
    values = dict(list(frame.set_index("seed").groupby("row")[metric])) if len(frame) else {}
    made = []
    for row in experiment.rows:
        known = values.get(row.id, pd.Series(dtype=float)).dropna().astype(float)
        line = printed.get((row.id, PRINTED_AS.get(metric, metric)))
        if all(word in f"{row.label} {row.id}".lower() for word in words) and (len(known) or line):
            made.append(Cell(experiment, frame, row, metric, known, line))
    return made


def levels(shown: list[Cell]) -> tuple[Figure, pd.DataFrame]:
    """Our mean of each row with its interval, and the paper's number."""
    points = pd.DataFrame(
        [
            {"row": cell.row.id, "label": cell.label, "ours": ours.mean, "low": ours.low, "high": ours.high,
             "n": ours.n, "paper": np.nan if cell.printed is None else cell.printed["value"]}
            for cell in shown[:SHOWN_ROWS]
            for ours in [cell.interval or Interval(np.nan, np.nan, np.nan, 0)]
        ],
        columns=["row", "label", "ours", "low", "high", "n", "paper"],
    )  # fmt: skip
    figure = Figure(figsize=(7.4, 1.0 + 0.2 * max(4, len(points))), layout="constrained")
    ax = figure.subplots()
    y = np.arange(len(points))[::-1]
    interval_bars(ax, points, "ours", y, color=OURS, label="ours, 95 % interval")
    ax.plot(points["paper"], y, "D", mfc="none", color=PAPER, label="paper (other data and network)")
    ax.set(
        yticks=y,
        yticklabels=points["label"],
        ylim=(-0.6, len(points) - 0.4),
        xlabel=NAMES[shown[0].metric] if shown else "",
    )
    if points[["ours", "paper"]].max(axis=None) > 1e6:
        ax.set_xscale("log")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure, points


def paper_says(cell: Cell) -> str:
    """The paper's difference to the same baseline, or nothing."""
    if cell.row.against is None or cell.metric not in ("class_il", "task_il"):
        return ""
    printed = printed_difference(cell.experiment, cell.row.id, cell.row.against, cell.metric, COLUMN)
    return "" if printed is None else f"; the paper's difference {printed.value:+.1f}"


def _interval(interval: Interval, digits: int) -> str:
    return plus_minus(interval, digits) if abs(interval.mean) < 1e5 else _number(interval.mean, digits)


def _number(value: float | None, digits: int) -> str:
    if value is None or value != value:
        return "-"
    return f"{value:.{digits}f}" if abs(value) < 1e5 else f"{value:.2e}".replace("e+", "e")
