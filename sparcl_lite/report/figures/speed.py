"""Figures of measured speed: against accuracy, sparsity and width, and where the time goes."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from sparcl_lite.drawing import colour_of


def acceleration(points: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Class-IL against measured acceleration, memory as the circle's area, one circle a row (SparCL, Figure 4).

    `points` has kind, label, acceleration, class_il and memory (bytes), the columns that are drawn. SparCL's labels are
    on the other side of their circles, which lie close to those of others.
    """
    figure, ax = plt.subplots(layout="constrained")
    largest = points["memory"].max()
    for row in points.itertuples():
        ax.scatter(row.acceleration, row.class_il, s=400 * row.memory / largest, color=colour_of(row.kind), alpha=0.7)
        look = {"xytext": (6, 6)} if row.kind != "sparcl" else {"xytext": (-9, -9), "ha": "right", "va": "center"}
        ax.annotate(row.label, (row.acceleration, row.class_il), textcoords="offset points", fontsize=6, **look)
    ax.margins(0.2)
    ax.set(xlabel="training acceleration over dense (×)", ylabel="Class-IL accuracy (%)")
    return figure, points


def speed_by_sparsity(points: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Speed-up of a training step against sparsity, a line for each network (columns network, sparsity, speedup)."""
    figure, ax = plt.subplots(layout="constrained")
    for (network, lines), marker in zip(points.groupby("network", sort=False), "osD^vP", strict=False):
        ax.plot(lines["sparsity"], lines["speedup"], marker=marker, label=network)
    ax.axhline(1, color="#999999", linewidth=0.8)
    ax.set(xlabel="sparsity", ylabel="speed-up of a step over dense (×)")
    ax.legend()
    return figure, points


def speed_by_width(points: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Speed-up of a training step against the network's width, a line for each sparsity (columns width, ...)."""
    figure, ax = plt.subplots(layout="constrained")
    for (level, lines), marker in zip(points.groupby("sparsity"), "osD^vP", strict=False):
        ordered = lines.sort_values("width")
        ax.plot(ordered["width"], ordered["speedup"], marker=marker, label=f"{level:.0%} zeros")
    ax.axhline(1, color="#999999", linewidth=0.8)
    widths = sorted(points["width"].unique())
    ax.set_xscale("log", base=2)
    ax.set_xticks(widths, [str(width) for width in widths])
    ax.set(xlabel="channels of the first stage", ylabel="speed-up of a step over dense (×)")
    ax.legend()
    return figure, points


def time_by_part(points: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Milliseconds of a step by engine, stacked by part (columns engine, part, ms)."""
    figure, ax = plt.subplots(layout="constrained", figsize=(6.4, 2.6))
    engines = list(points["engine"].unique())[::-1]
    left = pd.Series(0.0, index=engines)
    for part, lines in points.groupby("part", sort=False):
        lengths = lines.set_index("engine")["ms"].reindex(engines)
        ax.barh(engines, lengths, left=left, label=part)
        left += lengths
    for engine, total in left.items():
        ax.annotate(f"{total:.0f} ms", (total, engine), xytext=(4, 0), textcoords="offset points", va="center")
    ax.margins(x=0.12)
    ax.set_xlabel("milliseconds of a training step")
    ax.legend(fontsize=7)
    return figure, points
