"""Figures of the studies: data removal, one parameter at a time, and confounders."""

from collections.abc import Iterable, Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sparcl_lite.drawing import BLUE, GREEN, GREY, OURS, PAPER, VERMILION, interval_bars
from sparcl_lite.measure.statistics import t_interval
from sparcl_lite.papers.differences import ENOUGH_SEEDS, differences, printed_difference
from sparcl_lite.papers.experiments import Experiment, Row

REMOVAL_COLOURS = {"stages": VERMILION, "one_shot": GREEN, "random": GREY}
REMOVALS = {"stages": "in stages (DDR)", "one_shot": "one-shot, at the cut-off", "random": "random samples, in stages"}


def removal(experiment: Experiment, frame: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Class-IL against the share of samples removed, as differences to removing nothing, by rule."""
    points = differences(experiment, frame)
    rows = {row.id: row.values["sparse"] for row in experiment.rows}
    points["rule"] = [rows[row].removal_rule for row in points["row"]]
    points["removed"] = [100 * rows[row].removal for row in points["row"]]
    figure, ax = plt.subplots(figsize=(4.6, 3.0), layout="constrained")
    for number, (rule, name) in enumerate(REMOVALS.items()):
        line = points[points["rule"] == rule].sort_values("removed")
        error = [line["difference"] - line["low"], line["high"] - line["difference"]]
        look = {"color": REMOVAL_COLOURS[rule], "marker": "o", "capsize": 2.5, "label": name}
        ax.errorbar(line["removed"] + 1.2 * (number - 1), line["difference"], error, **look)
    ax.axhline(0, color="#666666", linewidth=0.8)
    ax.set(xlabel="samples of each task removed (%)", ylabel="Class-IL against no removal (points)")
    ax.legend(loc="lower left")
    return figure, points


def one_at_a_time(experiment: Experiment, frame: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Accuracy with each parameter changed, and by default (dotted), beside dense and sparse by buffer size.

    Levels, not differences: these rows have few seeds and share one default.
    """
    shown = [row for row in experiment.rows if row.id == "default" or row.against == "default"]
    points = pd.DataFrame(_levels(shown, frame))
    buffers = _by_buffer(experiment, frame)
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.6, 4.4), width_ratios=(3, 2), layout="constrained")
    y = _grouped([row.partition("=")[0] for row in points["row"]])
    interval_bars(left, points, "class_il", y, color=VERMILION)
    for value in points.loc[points["row"] == "default", "class_il"]:
        left.axvline(value, color="#666666", linewidth=0.8, linestyle=":")
    seeds = f"{points['n'].min()} seeds or more" if len(points) else "no runs"
    left.set(xlabel=f"Class-IL accuracy (%), {seeds}", yticks=y, yticklabels=points["label"])
    for kind, name, beside in (("dense", "DER++", 0.95), ("sparse", "SparCL-DER++", 1.05)):
        line = buffers[buffers["kind"] == kind]
        error = [line["class_il"] - line["low"], line["high"] - line["class_il"]]
        colour = BLUE if kind == "dense" else VERMILION
        right.errorbar(
            beside * line["buffer"], line["class_il"], error, marker="o", capsize=2.5, color=colour, label=name
        )
    right.set(xscale="log", xlabel="buffer size (samples)", ylabel="Class-IL accuracy (%)")
    sizes = sorted(buffers["buffer"].unique())
    right.set_xticks(sizes, [str(size) for size in sizes], minor=False)
    right.set_xticks([], minor=True)
    figure.legend(*right.get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure, pd.concat([points, buffers], ignore_index=True)


def _levels(rows: Iterable[Row], frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Class-IL of each row that has runs, with its interval."""
    for row in rows:
        values = frame.loc[frame["row"] == row.id, "class_il"]
        if len(values):
            mean = t_interval(values)
            yield {"row": row.id, "label": row.label, "class_il": mean.mean, "low": mean.low, "high": mean.high,
                   "n": mean.n}  # fmt: skip


def _by_buffer(experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    base = experiment.row("default").values["buffer_size"]
    lines = []
    for line in _levels(experiment.rows, frame):
        kind, _, size = line["row"].partition("-") if line["row"] != "default" else ("sparse", "", str(base))
        if kind in ("dense", "sparse") and size.isdigit():
            lines.append(line | {"kind": kind, "buffer": int(size)})
    return pd.DataFrame(lines, columns=["kind", "buffer", "class_il", "low", "high"]).sort_values(["kind", "buffer"])


def _grouped(groups: list[str]) -> np.ndarray:
    """Heights from the top down, with half a line between groups."""
    steps = [1.0 if i == 0 or groups[i] == groups[i - 1] else 1.5 for i in range(len(groups))]
    return -np.cumsum(steps)


def against_each(experiment: Experiment, frame: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Every row against the one it is compared with (the label says which), and the paper's difference if printed."""
    points = differences(experiment, frame)
    printed = [printed_difference(experiment, line.row, line.against, "class_il") for line in points.itertuples()]
    if any(printed):
        points["paper"] = [np.nan if found is None else found.value for found in printed]
    labels = {row.id: row.label for row in experiment.rows}
    figure, ax = plt.subplots(figsize=(6.6, 0.34 * len(points) + 0.9), layout="constrained")
    y = np.arange(len(points))[::-1]
    interval_bars(ax, points, "difference", y, color=OURS, label="ours, 95 % interval")
    ax.axvline(0, color="#666666", linewidth=0.8)
    if "paper" in points:
        ax.plot(points["paper"], y, "D", mfc="none", color=PAPER, label="paper, CIFAR-10")
        figure.legend(loc="outside upper center", ncols=2)
    names = [f"{line.label}  −  {labels[line.against]}{_few(line.n)}" for line in points.itertuples()]
    ax.set(xlabel="difference in Class-IL (points), 95 % interval", yticks=y, yticklabels=names)
    return figure, points


def _few(n: int) -> str:
    return f" (tendency, n {n})" if n < ENOUGH_SEEDS else ""
