"""Figures of the studies: data removal, one parameter at a time, and confounders."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sparcl_lite.measure.statistics import t_interval
from sparcl_lite.papers.claims import NOT, PARTLY, REPRODUCED, UNTESTABLE, Judged
from sparcl_lite.papers.differences import differences
from sparcl_lite.papers.experiments import Experiment
from sparcl_lite.report.figures.style import OURS, PALETTE, interval_bars

OUTCOMES = {
    REPRODUCED: PALETTE["der"],
    PARTLY: PALETTE["er"],
    NOT: PALETTE["sparcl"],
    UNTESTABLE: PALETTE["sgd"],
}
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
        look = {"color": PALETTE[rule], "marker": "o", "capsize": 2.5, "label": name}
        ax.errorbar(line["removed"] + 1.2 * (number - 1), line["difference"], error, **look)
    ax.axhline(0, color="#666666", linewidth=0.8)
    ax.set(xlabel="samples of each task removed (%)", ylabel="Class-IL against no removal (points)")
    ax.legend(loc="lower left")
    return figure, points


def one_at_a_time(experiment: Experiment, frame: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Differences to the default for each changed parameter, beside dense and sparse accuracy by buffer size."""
    points = differences(experiment, frame)
    points = points[points["against"] == "default"].reset_index(drop=True)
    buffers = _by_buffer(experiment, frame)
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.6, 4.4), width_ratios=(3, 2), layout="constrained")
    y = _grouped([row.partition("=")[0] for row in points["row"]])
    interval_bars(left, points, "difference", y, color=PALETTE["sparcl"])
    left.axvline(0, color="#666666", linewidth=0.8)
    left.set(xlabel="Class-IL against the default (points)", yticks=y, yticklabels=points["label"])
    for kind, name, beside in (("dense", "DER++", 0.95), ("sparse", "SparCL-DER++", 1.05)):
        line = buffers[buffers["kind"] == kind]
        error = [line["class_il"] - line["low"], line["high"] - line["class_il"]]
        colour = PALETTE["der++" if kind == "dense" else "sparcl"]
        right.errorbar(
            beside * line["buffer"], line["class_il"], error, marker="o", capsize=2.5, color=colour, label=name
        )
    right.set(xscale="log", xlabel="buffer size (samples)", ylabel="Class-IL accuracy (%)")
    sizes = sorted(buffers["buffer"].unique())
    right.set_xticks(sizes, [str(size) for size in sizes], minor=False)
    right.set_xticks([], minor=True)
    figure.legend(*right.get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure, pd.concat([points, buffers], ignore_index=True)


def _by_buffer(experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    base = experiment.row("default").values["buffer_size"]
    lines = []
    for row in experiment.rows:
        kind, _, size = row.id.partition("-")
        if row.id == "default":
            kind, size = "sparse", str(base)
        values = frame.loc[frame["row"] == row.id, "class_il"]
        if kind in ("dense", "sparse") and size.isdigit() and len(values):
            mean = t_interval(values)
            lines.append({"kind": kind, "buffer": int(size), "class_il": mean.mean, "low": mean.low, "high": mean.high})
    return pd.DataFrame(lines, columns=["kind", "buffer", "class_il", "low", "high"]).sort_values(["kind", "buffer"])


def _grouped(groups: list[str]) -> np.ndarray:
    """Heights from the top down, with half a line between groups."""
    steps = [1.0 if i == 0 or groups[i] == groups[i - 1] else 1.5 for i in range(len(groups))]
    return -np.cumsum(steps)


def against_each(experiment: Experiment, frame: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Every row against the one it is compared with: the label says which."""
    points = differences(experiment, frame)
    labels = {row.id: row.label for row in experiment.rows}
    figure, ax = plt.subplots(figsize=(6.6, 0.34 * len(points) + 0.9), layout="constrained")
    y = np.arange(len(points))[::-1]
    interval_bars(ax, points, "difference", y, color=OURS)
    ax.axvline(0, color="#666666", linewidth=0.8)
    names = [f"{line.label}  −  {labels[line.against]}" for line in points.itertuples()]
    ax.set(xlabel="difference in Class-IL (points), 95 % interval", yticks=y, yticklabels=names)
    return figure, points


def effects(judged: list[Judged]) -> tuple[Figure, pd.DataFrame]:
    """Every comparison of accuracies that decides a claim: effect, interval, and the bound it has to stay above."""
    points = pd.DataFrame(
        {"claim": entry.claim.id, "comparison": f"{e.a} − {e.b}", "effect": e.effect.mean, "low": e.effect.low,
         "high": e.effect.high, "n": e.effect.n, "outcome": e.outcome,
         "bound": entry.claim.margin if entry.claim.rule == "above" else -entry.claim.margin}
        for entry in judged
        for e in entry.evidence
        if entry.claim.rule in ("above", "not_below") and e.effect.n
    )  # fmt: skip
    figure, ax = plt.subplots(figsize=(6.6, 0.24 * max(4, len(points)) + 0.9), layout="constrained")
    y = np.arange(len(points))[::-1]
    for outcome, colour in OUTCOMES.items():
        chosen = (points["outcome"] == outcome).to_numpy() if len(points) else []
        if any(chosen):
            interval_bars(ax, points[chosen], "effect", y[chosen], color=colour, label=outcome)
    if len(points):
        ax.plot(points["bound"], y, "|", color="#000000", markersize=9, label="bound")
        names = [f"{line.claim}: {line.comparison}" for line in points.itertuples()]
        ax.set(yticks=y, yticklabels=names)
        ax.tick_params(axis="y", labelsize=6.5)
        figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=5)
    ax.axvline(0, color="#666666", linewidth=0.8)
    ax.set(xlabel="paired difference in accuracy (points)")
    return figure, points
