"""Figures of one run: what it reached, what was trained, what became of its masks and of its samples."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from sparcl_lite.drawing import BLUE, GREEN, ORANGE, VERMILION
from sparcl_lite.measure.flops import costs_of
from sparcl_lite.runs.result import RunResult


def accuracy_matrices(result: RunResult) -> tuple[Figure, pd.DataFrame]:
    """Class-IL and Task-IL accuracy on task j after task i, as heat maps."""
    return heat_maps({"Class-IL": result.matrix("accuracy_matrix"), "Task-IL": result.matrix("task_il_matrix")})


def heat_maps(
    matrices: dict[str, np.ndarray], size: tuple[float, float] = (6.6, 2.7), *, annotated: bool = True
) -> tuple[Figure, pd.DataFrame]:
    """Two matrices by the name of their metric: accuracy (%) on task j after task i, NaN where it is unknown."""
    figure, axes = plt.subplots(1, 2, figsize=size, layout="constrained")
    points = []
    for ax, (name, matrix) in zip(axes, matrices.items(), strict=True):
        ticks = [str(i + 1) for i in range(len(matrix))]
        bar = {"cbar": ax is axes[1], "cbar_kws": {"label": "accuracy (%)"} if ax is axes[1] else None}
        names = {"xticklabels": ticks, "yticklabels": ticks}
        sns.heatmap(
            matrix, ax=ax, vmin=0, vmax=100, cmap="cividis", annot=annotated, fmt=".0f", linewidths=0.5, **bar, **names
        )
        ax.set(xlabel="accuracy on task", ylabel="after training task", title=name)
        ax.grid(False)
        points += [
            {"metric": name, "after": i + 1, "on": j + 1, "accuracy": matrix[i, j]}
            for i, j in np.ndindex(*matrix.shape)
            if not np.isnan(matrix[i, j])
        ]
    return figure, pd.DataFrame(points)


def training_trace(result: RunResult) -> tuple[Figure, pd.DataFrame]:
    """What is trained in each epoch: nonzero weights, updated weights, and the samples DDR left."""
    points = pd.DataFrame(result.trace)
    points["epoch_of_run"] = np.arange(len(points)) + 1
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(6.6, 3.6), sharex=True, layout="constrained")
    for column, name, colour in (
        ("weight_density", "weights (TDM)", BLUE),
        ("gradient_density", "weight gradients (DGM)", ORANGE),
    ):
        top.step(points["epoch_of_run"], 100 * points[column], where="mid", label=name, color=colour)
    top.set(ylabel="nonzero (%)", ylim=(0, None))
    top.legend(loc="lower right", ncols=2)
    bottom.step(points["epoch_of_run"], points["samples"], where="mid", color=GREEN)
    bottom.set(xlabel="epoch of the run", ylabel="samples per epoch", ylim=(0, None))
    for start in points.index[points["epoch"] == 0]:
        for ax in (top, bottom):
            ax.axvline(points.loc[start, "epoch_of_run"] - 0.5, color="#bbbbbb", linewidth=0.6)
        bottom.annotate(
            f" task {points.loc[start, 'task'] + 1}",
            (points.loc[start, "epoch_of_run"] - 0.5, 0),
            fontsize=8,
            va="bottom",
        )
    return figure, points


def mask_survival(results: dict[str, list[RunResult]]) -> tuple[Figure, pd.DataFrame]:
    """How much of each mask is still there later: weight masks above, DGM's gradient masks below, by run.

    Row i, column j: share (%) of the weights kept at moment i that are kept at moment j, over all prunable layers; the
    mean of the seeds of each entry of `results`.
    """
    figure, axes = plt.subplots(2, len(results), figsize=(6.6, 4.4), layout="constrained", squeeze=False)
    points = []
    for column, (name, seeds) in enumerate(results.items()):
        for ax, kind in zip(axes[:, column], ("weight", "gradient"), strict=True):
            matrix = 100 * np.mean([overall_survival(result, kind) for result in seeds], axis=0)
            first = ["init"] if kind == "weight" else []
            ticks = first + [str(task + 1) for task in range(len(matrix) - len(first))]
            names = {"xticklabels": ticks, "yticklabels": ticks, "cbar": column == len(results) - 1}
            if names["cbar"]:
                names["cbar_kws"] = {"label": "still there (%)"}
            sns.heatmap(matrix, ax=ax, vmin=0, vmax=100, cmap="cividis", annot=True, fmt=".0f",
                        annot_kws={"size": 7}, linewidths=0.5, **names)  # fmt: skip
            ax.set(title=f"{name}: {kind}s", xlabel="after task" if kind == "gradient" else "")
            ax.grid(False)
            points += [
                {"run": name, "mask": kind, "kept_at": ticks[i], "still_at": ticks[j], "share": matrix[i, j]}
                for i, j in np.ndindex(*matrix.shape)
            ]
        axes[0, 0].set_ylabel("kept after task")
        axes[1, 0].set_ylabel("kept after task")
    return figure, pd.DataFrame(points)


def overall_survival(result: RunResult, kind: str) -> np.ndarray:
    """Survival matrix of a run's weight or gradient masks, layers weighted by their number of weights."""
    layers = result.sparse[f"{kind}_survival"]
    sizes = {cost.name: cost.parameters for cost in costs_of(result.config)}
    return np.average(list(layers.values()), axis=0, weights=[sizes[name] for name in layers])


def survival_by_layer(results: dict[str, list[RunResult]]) -> tuple[Figure, pd.DataFrame]:
    """By layer: the share of the initial mask, and of the first task's, that the last task still uses (means)."""
    lines = pd.DataFrame(
        {"run": name, "layer": layer.removesuffix(".weight"), "mask": mask, "share": 100 * matrix[0][-1]}
        for name, seeds in results.items()
        for result in seeds
        for mask, key in (("weights, since the start", "weight"), ("gradients, since task 1", "gradient"))
        for layer, matrix in result.sparse[f"{key}_survival"].items()
    )
    points = lines.groupby(["run", "layer", "mask"], sort=False, as_index=False)["share"].mean()
    figure, axes = plt.subplots(1, 2, figsize=(6.6, 2.8), layout="constrained", sharey=True)
    for ax, (mask, part) in zip(axes, points.groupby("mask", sort=False), strict=True):
        for number, (name, line) in enumerate(part.groupby("run", sort=False)):
            look = {"marker": "o", "color": sns.color_palette("cividis", len(results))[number], "label": name}
            ax.plot(line["layer"], line["share"], **look)
        ax.set(title=mask, ylim=(0, 100))
        ax.tick_params(axis="x", rotation=60)
    axes[0].set_ylabel("still used in the last task (%)")
    axes[1].legend()
    return figure, points


def removed_samples(result: RunResult, labels: np.ndarray, names: tuple[str, ...]) -> tuple[Figure, pd.DataFrame]:
    """Which samples DDR took: how often they were misclassified in the run, and of which classes they were.

    `labels` (N,) are those of the run's training split.
    """
    wrong = np.array(result.sparse["misclassified"])
    removed = np.zeros(len(labels), dtype=bool)
    removed[[sample for task in result.sparse["removed"] for stage in task for sample in stage]] = True
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.6, 3.0), layout="constrained", width_ratios=(3, 4))
    bins = np.arange(wrong.max() + 2)
    points = []
    for kind, chosen, colour in (("kept", ~removed, BLUE), ("removed", removed, VERMILION)):
        share = 100 * np.histogram(wrong[chosen], bins)[0] / max(1, chosen.sum())
        left.plot(bins[:-1], share.cumsum(), drawstyle="steps-post", color=colour, label=kind)
        points += [{"what": kind, "x": str(x), "share": s} for x, s in zip(bins[:-1], share.cumsum(), strict=True)]
    left.set(xlabel="misclassified at most so often", ylabel="samples (%)", ylim=(0, 101))
    left.legend(loc="lower right")
    balance = [100 * removed[labels == label].mean() for label in range(len(names))]
    right.barh(range(len(names)), balance, height=0.6, color=VERMILION)
    right.axvline(100 * removed.mean(), color="#666666", linewidth=0.8)
    right.set(xlabel="removed (% of the class)", yticks=range(len(names)), yticklabels=names)
    right.invert_yaxis()
    points += [{"what": "class", "x": name, "share": share} for name, share in zip(names, balance, strict=True)]
    return figure, pd.DataFrame(points)


def easiest_and_hardest(
    result: RunResult, images: np.ndarray, labels: np.ndarray, names: tuple[str, ...]
) -> tuple[Figure, pd.DataFrame]:
    """Per class, the two images misclassified least and the two misclassified most in the run.

    `images` (N, C, H, W) uint8 and `labels` (N,) are those of the run's training split.
    """
    wrong = np.array(result.sparse["misclassified"])
    classes = range(min(10, len(names)))
    figure, axes = plt.subplots(4, len(classes), figsize=(6.6, 3.0), layout="constrained")
    points = []
    for label, column in zip(classes, axes.T, strict=True):
        members = np.flatnonzero(labels == label)
        ranked = members[np.argsort(wrong[members], kind="stable")]
        for ax, sample in zip(column, [*ranked[:2], *ranked[-2:]], strict=True):
            picture = images[sample].transpose(1, 2, 0)
            ax.imshow(picture.squeeze(), cmap="gray_r" if picture.shape[2] == 1 else None)
            ax.set(xticks=[], yticks=[], xlabel=str(wrong[sample]))
            points.append({"class": names[label], "sample": sample, "misclassified": wrong[sample]})
        column[0].set_title(names[label].replace("_", " "), fontsize=7)
    for ax, name in zip(axes[:, 0], ("easiest", "", "hardest", ""), strict=True):
        ax.set_ylabel(name)
    return figure, pd.DataFrame(points)
