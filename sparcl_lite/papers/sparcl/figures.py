"""Figures of the papers' tables: the paper's numbers and ours, side by side."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sparcl_lite.drawing import BLACK, BLUE, OURS, PAPER, VERMILION, colour_of, interval_bars
from sparcl_lite.measure.statistics import t_interval
from sparcl_lite.papers.differences import difference
from sparcl_lite.papers.experiments import Experiment, Row
from sparcl_lite.papers.sparcl.tables import MASKED, NAMES

KINDS = {
    "random": "random mask",
    "magnitude": "magnitude mask",
    "snip": "SNIP",
    "rigl": "RigL",
    "sparcl": "SparCL",
}


def accuracy_by_sparsity(
    experiment: Experiment, frame: pd.DataFrame, *, column: str = "cifar10"
) -> tuple[Figure, pd.DataFrame]:
    """Class-IL accuracy of ER and DER++, dense and sparse, by buffer: the paper's numbers beside ours."""
    points = _both_points(experiment, frame, column)
    points = points[points["method"].isin(("er", "der++", "sgd", "joint"))].reset_index(drop=True)
    buffers = sorted(points.loc[points["buffer"] > 0, "buffer"].unique())
    figure, axes = plt.subplots(2, len(buffers), figsize=(6.6, 5.0), layout="constrained", squeeze=False, sharex=True)
    for axes_row, source in zip(axes, ("paper", "ours"), strict=True):
        for ax, buffer in zip(axes_row, buffers, strict=True):
            _draw_by_sparsity(ax, points[points["source"] == source], buffer)
            ax.set_title(f"{_title(source)}: buffer {buffer}")
        axes_row[0].set_ylabel("Class-IL accuracy (%)")
        _share_limits(axes_row)
    for ax in axes[1]:
        ax.set_xlabel("sparsity (%)")
    return figure, points


def _title(source: str) -> str:
    return "paper, CIFAR-10" if source == "paper" else "this kit"


def _share_limits(axes) -> None:
    limits = [ax.get_ylim() for ax in axes]  # of accuracies: intervals of few seeds reach beyond what there is
    for ax in axes:
        ax.set_ylim(max(0, min(low for low, _ in limits)), min(100, max(high for _, high in limits)))


def _both_points(experiment: Experiment, frame: pd.DataFrame, column: str, metric: str = "class_il") -> pd.DataFrame:
    """The paper's values and ours, with intervals, one line each."""
    both = [_printed_points(experiment, column, metric), _own_points(experiment, frame, metric)]
    return pd.concat([part for part in both if len(part)], ignore_index=True)


def _own_points(experiment: Experiment, frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    lines = []
    for row in experiment.rows:
        values = frame.loc[frame["row"] == row.id, metric].dropna()
        if len(values):
            interval = t_interval(values.astype(float))
            lines.append(_place(row) | {"source": "ours", metric: interval.mean, "low": interval.low,
                                        "high": interval.high, "n": interval.n})  # fmt: skip
    return pd.DataFrame(lines)


def _printed_points(experiment: Experiment, column: str, metric: str) -> pd.DataFrame:
    printed = experiment.printed_values(column)
    return pd.DataFrame(
        _place(row)
        | {
            "source": "paper",
            metric: printed[row.id, metric]["value"],
            "provenance": printed[row.id, metric]["provenance"],
        }
        for row in experiment.rows
        if (row.id, metric) in printed
    )


def _place(row: Row) -> dict:
    sparse = row.values.get("sparse")
    return {
        "row": row.id,
        "label": row.label,
        "method": row.values["method"],
        "buffer": row.values.get("buffer_size", 0),
        "kind": sparse.kind if sparse else "dense",
        "sparsity": 100 * sparse.sparsity if sparse else 0.0,
        "masked": row.id.endswith(MASKED),
    }


def _draw_by_sparsity(ax, points: pd.DataFrame, buffer: int) -> None:
    levels = sorted(points["sparsity"].unique())
    replay = points[points["method"].isin(("er", "der++")) & (points["buffer"] == buffer)]
    for (method, masked), line in replay.sort_values(["masked", "sparsity"]).groupby(["method", "masked"]):
        x = [levels.index(s) + 0.06 * masked for s in line["sparsity"]]  # side by side, not on top
        error = [line["class_il"] - line["low"], line["high"] - line["class_il"]] if "low" in line else None
        look = {"linestyle": "--", "mfc": "white", "alpha": 0.8} if masked else {}
        label = NAMES[method] + (", masked loss" if masked else "")
        ax.errorbar(x, line["class_il"], error, color=colour_of(method), marker="o", capsize=2.5, label=label, **look)
    for method, place in (("joint", "bottom"), ("sgd", "bottom")):
        value = points.loc[points["method"] == method, "class_il"]
        if len(value):
            ax.axhline(value.iloc[0], color=colour_of(method), linewidth=1, linestyle=":")
            ax.annotate(NAMES[method], (len(levels) - 1, value.iloc[0]), ha="right", va=place, fontsize=8)
    ax.set_xticks(range(len(levels)), ["dense" if s == 0 else f"{s:.0f}" for s in levels])
    ax.legend(loc="lower left")


def all_methods(experiment: Experiment, frame: pd.DataFrame, *, column: str = "cifar10") -> tuple[Figure, pd.DataFrame]:
    """Every dense method of the table, Class-IL and Task-IL: the paper's value and ours with its interval."""
    dense = [row for row in experiment.rows if "sparse" not in row.values]
    figure, axes = plt.subplots(1, 2, figsize=(6.6, 4.2), layout="constrained", sharey=True)
    parts = []
    for ax, metric, name in zip(axes, ("class_il", "task_il"), ("Class-IL", "Task-IL"), strict=True):
        points = _both_points(experiment, frame, column, metric)
        for source, look in (("paper", {"color": PAPER, "mfc": "none"}), ("ours", {"color": OURS})):
            shown = points[(points["source"] == source) & (points["kind"] == "dense")]
            y = [-[row.id for row in dense].index(row) for row in shown["row"]]
            if source == "paper":
                ax.plot(shown[metric], y, "D", label=_title(source), **look)
            else:
                interval_bars(ax, shown, metric, y, label=f"{_title(source)}, 95 % interval", **look)
        ax.set(xlabel=f"{name} accuracy (%)", xlim=(0, 100))
        parts.append(points[points["kind"] == "dense"].rename(columns={metric: "accuracy"}).assign(metric=name))
    names = [
        row.label + (f", buffer {row.values['buffer_size']}" if row.values.get("buffer_size") else "") for row in dense
    ]
    axes[0].set_yticks(range(0, -len(dense), -1), names)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure, pd.concat(parts, ignore_index=True)


def sparse_rivals(
    experiment: Experiment, frame: pd.DataFrame, *, column: str = "cifar10"
) -> tuple[Figure, pd.DataFrame]:
    """Ways of sparse training over one replay method, by sparsity: the paper's numbers beside ours."""
    points = _both_points(experiment, frame, column)
    figure, axes = plt.subplots(1, 2, figsize=(6.6, 3.0), layout="constrained")
    for ax, source in zip(axes, ("paper", "ours"), strict=True):
        shown = points[points["source"] == source]
        levels = sorted(shown.loc[shown["kind"] != "dense", "sparsity"].unique())
        for number, (kind, name) in enumerate(KINDS.items()):
            line = shown[shown["kind"] == kind].sort_values("sparsity")
            error = [line["class_il"] - line["low"], line["high"] - line["class_il"]] if "low" in line else None
            x = [levels.index(s) + 0.06 * (number - 2) for s in line["sparsity"]]  # side by side, not on top
            if x:
                look = {"color": colour_of(kind), "marker": "o", "capsize": 2.5, "label": name}
                ax.errorbar(x, line["class_il"], error, **look)
        dense = shown.loc[shown["kind"] == "dense", "class_il"]
        if len(dense):
            ax.axhline(dense.iloc[0], color=BLACK, linewidth=1, linestyle=":", label="dense")
        ax.set_xticks(range(len(levels)), [f"{s:.0f}" for s in levels])
        ax.set(xlabel="sparsity (%)", title=_title(source), xlim=(-0.4, max(len(levels), 1) - 0.6))
    axes[0].set_ylabel("Class-IL accuracy (%)")
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside upper center", ncols=6)
    return figure, points


def accuracy_by_flops(
    experiment: Experiment, frame: pd.DataFrame, *, buffer: int = 500, column: str = "tiny-imagenet"
) -> tuple[Figure, pd.DataFrame]:
    """Class-IL accuracy against training FLOPs of DER++ and SparCL-DER++: the paper's figure beside ours."""
    points = pd.concat(
        [_flops_points(experiment.printed_values(column), experiment, buffer), _own_flops(experiment, frame, buffer)],
        ignore_index=True,
    )
    figure, axes = plt.subplots(1, 2, figsize=(6.6, 2.9), layout="constrained")
    for ax, source, name in zip(axes, ("paper", "ours"), ("paper, Tiny-ImageNet", "this kit"), strict=True):
        shown = points[points["source"] == source]
        for line in shown.itertuples():
            colour = BLUE if line.sparsity == 0 else VERMILION
            error = None if np.isnan(line.low) else [[line.class_il - line.low], [line.high - line.class_il]]
            ax.errorbar(line.flops, line.class_il, error, fmt="o", color=colour, capsize=2.5)
            text = "DER++" if line.sparsity == 0 else f"SparCL {line.sparsity:.0f}"
            ax.annotate(text, (line.flops, line.class_il), (5, 6), textcoords="offset points", fontsize=8)
        ax.set(xscale="log", xlabel="training FLOPs, paper's convention", title=f"{name}, buffer {buffer}")
        ax.margins(x=0.3, y=0.25)
    axes[0].set_ylabel("Class-IL accuracy (%)")
    return figure, points


def _flops_points(printed: dict, experiment: Experiment, buffer: int) -> pd.DataFrame:
    lines = []
    for row in _der_rows(experiment, buffer):
        accuracy, flops = printed.get((row.id, "class_il")), printed.get((row.id, "flops"))
        if accuracy and flops:
            low, high = (accuracy["value"] + sign * accuracy["std"] for sign in (-1, 1))  # the paper's bars: +- std
            value = {
                "source": "paper",
                "class_il": accuracy["value"],
                "low": low,
                "high": high,
                "flops": flops["value"],
            }
            lines.append(_place(row) | value | {"provenance": accuracy["provenance"]})
    return pd.DataFrame(lines)


def _own_flops(experiment: Experiment, frame: pd.DataFrame, buffer: int) -> pd.DataFrame:
    own = _own_points(experiment, frame, "class_il")
    own = own[own["row"].isin([row.id for row in _der_rows(experiment, buffer)])]
    flops = frame.groupby("row")[["flops_paper", "flops_honest"]].mean()
    return own.assign(flops=own["row"].map(flops["flops_paper"]), flops_honest=own["row"].map(flops["flops_honest"]))


def _der_rows(experiment: Experiment, buffer: int) -> list[Row]:
    rows = [r for r in experiment.rows if r.values["method"] == "der++" and r.values["buffer_size"] == buffer]
    return [row for row in rows if not row.id.endswith(MASKED)]


def ablation(experiment: Experiment, frame: pd.DataFrame, *, column: str = "cifar10") -> tuple[Figure, pd.DataFrame]:
    """Each combination of TDM, DDR and DGM against dense: accuracy difference (paired) and FLOPs."""
    points = _ablation_points(experiment, frame, column)
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.6, 3.2), sharey=True, layout="constrained")
    y = np.arange(len(points))[::-1]
    interval_bars(left, points, "difference", y, color=OURS, label="ours, 95 % interval")
    left.plot(points["paper_difference"], y, "D", mfc="none", color=PAPER, label="paper, CIFAR-10")
    left.axvline(0, color="#666666", linewidth=0.8)
    left.set(xlabel="Class-IL against dense (points)", yticks=y, yticklabels=points["label"])
    right.barh(y, 100 * points["honest_share"], height=0.5, color=OURS, label="ours, counted honestly")
    right.plot(100 * points["paper_share"], y, "D", mfc="none", color=PAPER, label="paper's convention, CIFAR-10")
    right.set(xlabel="training FLOPs (% of dense)")
    handles, labels = (a + b for a, b in zip(*(ax.get_legend_handles_labels() for ax in (left, right)), strict=True))
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    return figure, points


def _ablation_points(experiment: Experiment, frame: pd.DataFrame, column: str) -> pd.DataFrame:
    lines = experiment.printed_values(column)
    printed = {place: line["value"] for place, line in lines.items()}
    base, flops = experiment.rows[0].id, frame.groupby("row")["flops_honest"].mean()
    points = []
    for row in experiment.rows:
        effect = difference(frame, row.id, base, "class_il") if row.id in flops else None
        if effect is None:
            continue
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
