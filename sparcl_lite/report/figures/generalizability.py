"""Figure of the generalisability of a network's blocks, task by task."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

METRICS = {"plasticity": "learning plasticity", "stability": "memory stability"}


def generalizability(points: pd.DataFrame, trained_from: str | None = None) -> tuple[Figure, pd.DataFrame]:
    """Plasticity above, stability below, by block; a line a task and its mean, a column for each kind of pre-training.

    `points` has pretraining, task (from 1), block (in order of execution), plasticity and stability, and may have
    several seeds, whose mean is drawn. A vertical line before `trained_from` shows where the paper stops to freeze.
    """
    columns = ["pretraining", "task", "block"]
    points = points.groupby(columns, sort=False, as_index=False)[list(METRICS)].mean()
    starts, tasks = points["pretraining"].unique(), sorted(points["task"].unique())
    blocks = list(points["block"].unique())
    figure, axes = plt.subplots(2, len(starts), figsize=(6.6, 4.2), layout="constrained", squeeze=False,
                                sharex=True, sharey="row")  # fmt: skip
    colours = dict(zip(tasks, sns.color_palette("cividis", len(tasks)), strict=True))
    for column, start in zip(axes.T, starts, strict=True):
        chosen = points[points["pretraining"] == start]
        for ax, metric in zip(column, METRICS, strict=True):
            table = chosen.pivot(index="block", columns="task", values=metric).reindex(blocks)
            for task in table:
                ax.plot(range(len(blocks)), table[task], marker="o", markersize=3, color=colours[task],
                        label=f"task {task}")  # fmt: skip
            ax.plot(range(len(blocks)), table.mean(axis=1), color="#000000", linewidth=2, label="mean")
            if trained_from is not None:
                ax.axvline(blocks.index(trained_from) - 0.5, color="#666666", linewidth=0.8, linestyle=":")
        column[0].set_title(start)
        column[1].set_xticks(np.arange(len(blocks)), blocks, rotation=60)
    for ax, name in zip(axes[:, 0], METRICS.values(), strict=True):
        ax.set_ylabel(name)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure, points
