"""Figures of runs that are trained or compared in a view. They are made without pyplot: a thread may draw them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sparcl_lite.drawing import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION
from sparcl_lite.runs.result import RunResult

RUN_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
METRICS = {"class_il": "Class-IL", "task_il": "Task-IL"}


def rows_of(result: RunResult) -> list[dict[str, Any]]:
    """Accuracies of a finished run, as of the end of each task: as the `rows` of a run in progress."""
    last = result.config.epochs - 1
    return [
        {"task": task, "epoch": last, "class_il": seen, "task_il": told}
        for task, (seen, told) in enumerate(zip(result.accuracy_matrix, result.task_il_matrix, strict=True))
    ]


def accuracy_points(rows: list[dict[str, Any]], epochs: int, metric: str = "class_il") -> pd.DataFrame:
    """One line an accuracy: epoch of the run (counted from 1), task (from 1), accuracy in percent."""
    lines = [
        {"epoch": row["task"] * epochs + row["epoch"] + 1, "task": task + 1, "accuracy": value}
        for row in rows
        for task, value in enumerate(row[metric])
        if value is not None
    ]
    return pd.DataFrame(lines, columns=["epoch", "task", "accuracy"])


def accuracy_over_time(
    rows: list[dict[str, Any]], tasks: int, epochs: int, metric: str = "class_il"
) -> tuple[Figure, pd.DataFrame]:
    """Accuracy on every task from its beginning on, and in black the mean of the tasks seen."""
    points = accuracy_points(rows, epochs, metric)
    figure = Figure(figsize=(6.6, 2.9), layout="constrained")
    ax = figure.subplots()
    for number, colour in zip(range(1, tasks + 1), sns.color_palette("viridis", tasks), strict=True):
        line = points[points["task"] == number]
        if len(line):
            ax.plot(line["epoch"], line["accuracy"], ".-", color=colour, markersize=4)
            ax.annotate(str(number), (line["epoch"].iloc[0], line["accuracy"].iloc[0]), (-3, 4), color=colour,
                        textcoords="offset points", fontsize=8, ha="right")  # fmt: skip
        ax.axvline((number - 1) * epochs + 0.5, color="#bbbbbb", linewidth=0.6)
        ax.text((number - 0.5) * epochs + 0.5, 102, f"task {number}", ha="center", fontsize=8)
    mean = points.groupby("epoch")["accuracy"].mean()
    ax.plot(mean.index, mean, color=BLACK, linewidth=1.8, label="mean of the tasks seen")
    ax.set(xlim=(0.5, tasks * epochs + 0.5), ylim=(-2, 101), xlabel="epoch of the run", ylabel=f"{METRICS[metric]} (%)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(mean):
        ax.legend(loc="lower left")
    return figure, points


def comparison(runs: dict[str, RunResult], metric: str = "class_il") -> tuple[Figure, pd.DataFrame]:
    """Mean accuracy of the tasks seen as they arrive, accuracy on each task at the end, and training FLOPs, by run."""
    figure = Figure(figsize=(7.4, 2.7 + 0.16 * len(runs)), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(3, 3, 2))
    which = {"class_il": "accuracy_matrix", "task_il": "task_il_matrix"}[metric]
    power = 3 * int(np.log10(max(result.flops.honest for result in runs.values())) // 3)
    points = []
    for number, (name, result) in enumerate(runs.items()):
        look = {"color": RUN_COLOURS[number % len(RUN_COLOURS)], "marker": "osD^v"[number // len(RUN_COLOURS) % 5]}
        matrix = result.matrix(which)
        means, final = [np.nanmean(row) if not np.isnan(row).all() else np.nan for row in matrix], matrix[-1]
        x = np.arange(1, len(matrix) + 1)
        left.plot(x, means, label=name, **look)
        middle.plot(x, final, **look)
        bars = right.barh(-number, result.flops.honest / 10**power, height=0.6, color=look["color"])
        right.bar_label(bars, [f" {result.flops.honest:.2g}".replace("e+", "e")], fontsize=7)
        points += [
            {"run": name, "task": task, "mean_of_seen": mean, "at_the_end": end, "flops": result.flops.honest}
            for task, mean, end in zip(x, means, final, strict=True)
        ]
    left.set(xlabel="after task", ylabel=f"{METRICS[metric]}, mean of the tasks seen (%)", ylim=(0, 101))
    middle.set(xlabel="task", ylabel="at the end of the run (%)", ylim=(0, 101))
    right.set(xlabel=f"training FLOPs, honest ($10^{{{power}}}$)", yticks=[], ylim=(-len(runs) + 0.4, 0.6))
    for ax in (left, middle):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.xaxis.set_major_locator(MaxNLocator(3))
    right.margins(x=0.3)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure, pd.DataFrame(points)
