"""Figures of the papers' items at the size of a paper column, each saved with the points it draws.

Colours are fixed per method across all figures (Okabe and Ito's colour-blind-safe palette).
"""

from importlib.resources import as_file, files
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from sparcl_lite.measure.statistics import paired_interval, t_interval
from sparcl_lite.papers.claims import paired
from sparcl_lite.papers.experiments import Experiment
from sparcl_lite.papers.reference import reference
from sparcl_lite.result import RunResult

PALETTE = {
    "sgd": "#999999",
    "joint": "#000000",
    "er": "#E69F00",
    "der": "#009E73",
    "der++": "#0072B2",
}
NAMES = {"sgd": "SGD", "joint": "JOINT", "er": "ER", "der": "DER", "der++": "DER++"}


def use_style() -> None:
    """Draw everything that follows in the kit's style."""
    with as_file(files("sparcl_lite.report").joinpath("kit.mplstyle")) as path:
        plt.style.use(path)


def save(figure: Figure, points: pd.DataFrame, folder: str | Path, name: str) -> None:
    """Write `name`.pdf, .png and the points drawn as .csv; the same input gives the same bytes."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})
    figure.savefig(folder / f"{name}.png", metadata={"Software": None})
    points.to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")


def accuracy_matrices(result: RunResult) -> tuple[Figure, pd.DataFrame]:
    """Class-IL and Task-IL accuracy on task j after task i, as heat maps."""
    figure, axes = plt.subplots(1, 2, figsize=(6.6, 2.7), layout="constrained")
    points = []
    for ax, which, name in zip(axes, ("accuracy_matrix", "task_il_matrix"), ("Class-IL", "Task-IL"), strict=True):
        matrix = result.matrix(which)
        ticks = [str(i + 1) for i in range(len(matrix))]
        bar = {"cbar": ax is axes[1], "cbar_kws": {"label": "accuracy (%)"} if ax is axes[1] else None}
        names = {"xticklabels": ticks, "yticklabels": ticks}
        sns.heatmap(
            matrix, ax=ax, vmin=0, vmax=100, cmap="cividis", annot=True, fmt=".0f", linewidths=0.5, **bar, **names
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
        ("weight_density", "weights (TDM)", PALETTE["der++"]),
        ("gradient_density", "weight gradients (DGM)", PALETTE["er"]),
    ):
        top.step(points["epoch_of_run"], 100 * points[column], where="mid", label=name, color=colour)
    top.set(ylabel="nonzero (%)", ylim=(0, None))
    top.legend(loc="lower right", ncols=2)
    bottom.step(points["epoch_of_run"], points["samples"], where="mid", color=PALETTE["der"])
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


def accuracy_by_sparsity(
    experiment: Experiment, frame: pd.DataFrame, *, column: str = "cifar10"
) -> tuple[Figure, pd.DataFrame]:
    """Class-IL accuracy of ER and DER++, dense and sparse, by buffer: the paper's numbers beside ours."""
    points = pd.concat([_printed_points(experiment, column), _own_points(experiment, frame)], ignore_index=True)
    buffers = sorted(points.loc[points["buffer"] > 0, "buffer"].unique())
    figure, axes = plt.subplots(2, len(buffers), figsize=(6.6, 5.0), layout="constrained", squeeze=False, sharex=True)
    for axes_row, source in zip(axes, ("paper", "ours"), strict=True):
        for ax, buffer in zip(axes_row, buffers, strict=True):
            _draw_by_sparsity(ax, points[points["source"] == source], buffer)
            ax.set_title(f"{'paper, CIFAR-10' if source == 'paper' else 'this kit'}: buffer {buffer}")
        axes_row[0].set_ylabel("Class-IL accuracy (%)")
        limits = [ax.get_ylim() for ax in axes_row]
        for ax in axes_row:
            ax.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    for ax in axes[1]:
        ax.set_xlabel("sparsity (%)")
    return figure, points


def _own_points(experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    lines = []
    for row in experiment.rows:
        values = frame.loc[frame["row"] == row.id, "class_il"]
        if len(values):
            interval = t_interval(values)
            lines.append(_place(row) | {"source": "ours", "class_il": interval.mean, "low": interval.low,
                                        "high": interval.high, "n": interval.n})  # fmt: skip
    return pd.DataFrame(lines)


def _printed_points(experiment: Experiment, column: str) -> pd.DataFrame:
    lines = reference(experiment.paper, experiment.item)
    lines = lines[(lines["column"] == f"{column}/class_il") & experiment.printed].set_index("row")
    return pd.DataFrame(
        _place(row)
        | {"source": "paper", "class_il": lines.loc[row.id, "value"], "provenance": lines.loc[row.id, "provenance"]}
        for row in experiment.rows
        if row.id in lines.index
    )


def _place(row) -> dict:
    sparse = row.values.get("sparse")
    return {
        "row": row.id,
        "method": row.values["method"],
        "buffer": row.values["buffer_size"],
        "sparsity": 100 * sparse.sparsity if sparse else 0.0,
    }


def _draw_by_sparsity(ax, points: pd.DataFrame, buffer: int) -> None:
    levels = sorted(points["sparsity"].unique())
    for method in ("er", "der++"):
        line = points[(points["method"] == method) & (points["buffer"] == buffer)].sort_values("sparsity")
        x = [levels.index(s) for s in line["sparsity"]]
        error = [line["class_il"] - line["low"], line["high"] - line["class_il"]] if "low" in line else None
        ax.errorbar(x, line["class_il"], error, color=PALETTE[method], marker="o", capsize=2.5, label=NAMES[method])
    for method, place in (("joint", "bottom"), ("sgd", "bottom")):
        value = points.loc[points["method"] == method, "class_il"]
        if len(value):
            ax.axhline(value.iloc[0], color=PALETTE[method], linewidth=1, linestyle=":")
            ax.annotate(NAMES[method], (len(levels) - 1, value.iloc[0]), ha="right", va=place, fontsize=8)
    ax.set_xticks(range(len(levels)), ["dense" if s == 0 else f"{s:.0f}" for s in levels])
    ax.legend(loc="lower left")


def ablation(experiment: Experiment, frame: pd.DataFrame, *, column: str = "cifar10") -> tuple[Figure, pd.DataFrame]:
    """Each combination of TDM, DDR and DGM against dense: accuracy difference (paired) and FLOPs."""
    points = _ablation_points(experiment, frame, column)
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.6, 3.2), sharey=True, layout="constrained")
    y = np.arange(len(points))[::-1]
    widths = np.array([points["difference"] - points["low"], points["high"] - points["difference"]])
    left.errorbar(
        points["difference"],
        y,
        xerr=widths,  # NaN where a single seed gives no interval
        fmt="o",
        color=PALETTE["der++"],
        capsize=2.5,
        label="ours, 95 % interval",
    )
    left.plot(points["paper_difference"], y, "D", mfc="none", color=PALETTE["er"], label="paper, CIFAR-10")
    left.axvline(0, color="#666666", linewidth=0.8)
    left.set(xlabel="Class-IL against dense (points)", yticks=y, yticklabels=points["label"])
    right.barh(y, 100 * points["honest_share"], height=0.5, color=PALETTE["der++"], label="ours, counted honestly")
    right.plot(
        100 * points["paper_share"], y, "D", mfc="none", color=PALETTE["er"], label="paper's convention, CIFAR-10"
    )
    right.set(xlabel="training FLOPs (% of dense)")
    handles, labels = (a + b for a, b in zip(*(ax.get_legend_handles_labels() for ax in (left, right)), strict=True))
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure, points


def _ablation_points(experiment: Experiment, frame: pd.DataFrame, column: str) -> pd.DataFrame:
    lines = reference(experiment.paper, experiment.item)
    lines = lines[lines["column"].str.startswith(f"{column}/") & experiment.printed]
    printed = {(line["row"], line["column"].split("/")[1]): line["value"] for line in lines.to_dict("records")}
    base = experiment.rows[0].id
    points = []
    for row in experiment.rows:
        own = frame.loc[frame["row"] == base, "class_il"].to_numpy()
        a, b = paired(frame, row.id, base, "class_il") if row.id != base else (own, own)
        if not len(a):
            continue
        effect = paired_interval(a, b)
        flops = frame.groupby("row")["flops_honest"].mean()
        points.append(
            {
                "row": row.id,
                "label": row.label,
                "difference": effect.mean,
                "low": effect.low,
                "high": effect.high,
                "n": effect.n,
                "honest_share": flops[row.id] / flops[base],
                "paper_difference": printed.get((row.id, "class_il"), np.nan) - printed.get((base, "class_il"), np.nan),
                "paper_share": printed.get((row.id, "flops"), np.nan) / printed.get((base, "flops"), np.nan),
            }
        )
    return pd.DataFrame(points)
