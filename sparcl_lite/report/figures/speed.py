"""Figures of measured speed: accuracy against acceleration, and speed-up against sparsity."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from sparcl_lite.report.figures.style import PALETTE


def acceleration(points: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Class-IL against measured acceleration, memory as the circle's area, one circle a row (SparCL, Figure 4).

    `points` has kind, label, acceleration, class_il and memory (bytes), the columns that are drawn.
    """
    figure, ax = plt.subplots(layout="constrained")
    largest = points["memory"].max()
    for row in points.itertuples():
        ax.scatter(row.acceleration, row.class_il, s=400 * row.memory / largest, color=PALETTE[row.kind], alpha=0.7)
        ax.annotate(row.label, (row.acceleration, row.class_il), xytext=(6, 6), textcoords="offset points", fontsize=6)
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
