"""Rows compared as pairs that share a seed, and beside the paper's own difference: for tables, figures and claims."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sparcl_lite.measure.statistics import Interval, paired_interval
from sparcl_lite.papers.experiments import Experiment

ENOUGH_SEEDS = 5  # of a row that shows a difference; fewer show a tendency
ROUNDING = 0.1  # points: what a printed mean without a std can mean
UNSTATED_RUNS = 2  # behind a printed std whose number of runs is not known: the fewest that have one
COLUMNS = ["row", "label", "against", "difference", "low", "high", "n"]


def paired(frame: pd.DataFrame, a: str, b: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Values of two rows over the seeds that both have."""
    if frame.empty:
        return np.array([]), np.array([])
    if a == b:
        own = frame.loc[frame["row"] == a, metric].dropna().to_numpy()
        return own, own
    values = frame[frame["row"].isin((a, b))].pivot_table(index="seed", columns="row", values=metric)
    if not {a, b} <= set(values.columns):
        return np.array([]), np.array([])
    both = values[[a, b]].dropna()
    return both[a].to_numpy(), both[b].to_numpy()


def difference(frame: pd.DataFrame, a: str, b: str, metric: str) -> Interval | None:
    """Mean of a - b with its 95 % interval; None when no seed has both."""
    left, right = paired(frame, a, b, metric)
    return paired_interval(left, right) if len(left) else None


def differences(experiment: Experiment, frame: pd.DataFrame, metric: str = "class_il") -> pd.DataFrame:
    """Every row against the one it is compared with, in order; those without baseline or pairs are left out."""
    pairs = [(row.id, row.label, row.against) for row in experiment.rows if row.against]
    return compared(pairs, frame, metric)


def compared(pairs: Iterable[tuple[str, str, str]], frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Each (row, label, row it is compared with) that shares seeds, as one line."""
    lines = []
    for row, label, against in pairs:
        effect = difference(frame, row, against, metric)
        if effect:
            lines.append((row, label, against, effect.mean, effect.low, effect.high, effect.n))
    return pd.DataFrame(lines, columns=COLUMNS)


def inside(effect: Interval, paper: float | None, tolerance: float = 0.0) -> bool | None:
    """Whether the paper's value lies in our interval, widened by a share of the value; None without either."""
    if paper is None or math.isnan(effect.low):
        return None
    slack = tolerance * abs(paper)
    return effect.low - slack <= paper <= effect.high + slack


@dataclass(frozen=True)
class PrintedDifference:
    """What a paper prints for one row minus what it prints for another, in points, and how exact that is."""

    value: float
    error: float

    def same_direction(self, effect: Interval) -> str:
        """Whether ours lies on the paper's side of zero: `yes`, `no`, `unclear` (it holds zero, or has no interval).

        `-` when the paper's is smaller than its own error, and so has no direction.
        """
        if abs(self.value) < self.error or not self.value:
            return "-"
        low, high = sorted(math.copysign(1, self.value) * bound for bound in (effect.low, effect.high))
        return "yes" if low > 0 else "no" if high < 0 else "unclear"


def printed_difference(
    experiment: Experiment, a: str, b: str, metric: str, column: str = "cifar10"
) -> PrintedDifference | None:
    """The paper's difference of two rows on a data set (a prefix of its columns); None where it prints not both.

    `error`: the standard error of the difference where a std is printed, else 0.1 points.
    """
    printed = experiment.printed_values(column)
    lines = [printed.get((row, metric)) for row in (a, b)]
    if None in lines:
        return None
    error = math.hypot(*(_standard_error(line) for line in lines)) or ROUNDING
    return PrintedDifference(lines[0]["value"] - lines[1]["value"], error)


def _standard_error(line: dict[str, Any]) -> float:
    runs = UNSTATED_RUNS if pd.isna(line["n"]) else line["n"]
    return 0.0 if pd.isna(line["std"]) else line["std"] / math.sqrt(runs)


def printed_saving(experiment: Experiment, a: str, b: str, column: str = "cifar10") -> float | None:
    """Percent of b's training FLOPs that a saves as printed; None where the paper prints not both."""
    printed = experiment.printed_values(column)
    small, large = (printed.get((row, "flops")) for row in (a, b))
    return None if small is None or large is None else 100 * (1 - small["value"] / large["value"])
