"""Accuracy against measured cost: the frontier's points, which of them no other beats, and what fits a budget."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from sparcl_lite.measure.statistics import Interval, t_interval
from sparcl_lite.papers.clfd.frontier import family_of
from sparcl_lite.papers.differences import difference
from sparcl_lite.papers.experiments import Experiment

COSTS = ("seconds", "megabytes")


def points(experiment: Experiment, frame: pd.DataFrame, reports: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One line for each row that has runs and was measured.

    Class-IL with interval and n; difference to the row's baseline, over as many `pairs` of one seed; means of `COSTS`;
    how many times less than the baseline each costs, with intervals over the rounds; `front`: whether no other row is
    as accurate and as cheap in both.
    """
    lines = []
    for row in experiment.rows:
        values, family = frame.loc[frame["row"] == row.id, "class_il"].dropna(), family_of(row.id)
        if len(values) and all(family in report["seconds"] for report in reports):
            line = {"row": row.id, "family": family, "label": row.label}
            line |= _fields("class_il", t_interval(values)) | {"n": len(values)}
            effect = difference(frame, row.id, row.against, "class_il") if row.against else None
            line |= _fields("difference", effect) | {"pairs": effect.n if effect else 0}
            against = family_of(row.against or row.id)
            for name, what, unit in zip(COSTS, ("seconds", "peak_bytes"), (1, 1e6), strict=True):
                own, base = (np.array([report[what][f] for report in reports]) / unit for f in (family, against))
                line |= {name: own.mean()} | _fields(f"{name}_saved", t_interval(base / own))
            lines.append(line)
    found = pd.DataFrame(lines)
    return found.assign(front=on_front(found))


def _fields(name: str, interval: Interval | None) -> dict[str, float]:
    mean, low, high = (interval.mean, interval.low, interval.high) if interval else [np.nan] * 3
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


def on_front(found: pd.DataFrame, costs: Sequence[str] = COSTS) -> np.ndarray:
    """Whether a line is on the Pareto front: no other is as good in accuracy and `costs`, and better in one."""
    values = np.column_stack([-found["class_il"], *(found[name] for name in costs)])
    as_good = (values[:, None] <= values[None]).all(-1) & (values[:, None] < values[None]).any(-1)
    return ~as_good.any(0)


def within(found: pd.DataFrame, seconds: float, megabytes: float) -> pd.DataFrame:
    """The lines that cost no more than this, the most accurate one first."""
    fits = (found["seconds"] <= seconds) & (found["megabytes"] <= megabytes)
    return found[fits].sort_values("class_il", ascending=False, kind="stable")
