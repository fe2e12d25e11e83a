"""Figures of the K-sparse experiments, each returned with the points it draws."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from scipy import sparse
from sklearn.decomposition import PCA

from sparcl_lite.clustering import KSparse
from sparcl_lite.clustering.data.cells import Cells
from sparcl_lite.measure.statistics import t_interval
from sparcl_lite.papers.experiments import Experiment
from sparcl_lite.papers.ksparse.judge import log_slope, medians

#: Okabe and Ito's colours, one per method in all figures; K-sparse's variants differ by marker.
METHOD_COLOURS = {
    "pca": "#999999",
    "spectral": "#E69F00",
    "simlr": "#009E73",
    "sparse-kmeans": "#CC79A7",
    "leiden": "#56B4E9",
    "k-sparse": "#0072B2",
}
START, ACCENT = "#E69F00", "#D55E00"  # K-sparse starts from a spectral clustering
SHOWN_GENES, SHOWN_CELLS = 25, 300  # of a heat map
DRAWN_CELLS = 20_000  # of a scatter plot


def accuracy_by_method(experiment: Experiment, frame: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """One panel a data set: accuracy of every method with its interval, and where K-sparse started from."""
    points = _intervals(experiment, frame, "accuracy")
    datasets = list(dict.fromkeys(points["dataset"]))
    columns = min(3, len(datasets))
    fullest = points["dataset"].value_counts(sort=False).idxmax()  # its rows are in the order of all
    labels = list(dict.fromkeys([*points.loc[points["dataset"] == fullest, "label"], *points["label"]]))
    height = 0.7 + 0.24 * len(labels) * -(-len(datasets) // columns)
    figure, axes = plt.subplots(
        -(-len(datasets) // columns), columns, figsize=(6.6, height), sharey=True, layout="constrained", squeeze=False
    )
    for ax, dataset in zip(axes.flat, datasets, strict=False):
        _panel(ax, points[points["dataset"] == dataset], labels)
        ax.set(title=dataset, xlim=(0, 102))
    for ax in axes[-1]:
        ax.set_xlabel("accuracy (%)")
    for ax in axes.flat[len(datasets) :]:
        ax.set_visible(False)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure, points


def _panel(ax, points: pd.DataFrame, labels: list[str]) -> None:
    y = np.array([len(labels) - 1 - labels.index(label) for label in points["label"]])
    for height, point in zip(y, points.to_dict("records"), strict=True):
        error = [[point["accuracy"] - point["low"]], [point["high"] - point["accuracy"]]]
        ax.errorbar(point["accuracy"], height, xerr=error, fmt="o", capsize=2.5, color=METHOD_COLOURS[point["method"]])
    ax.plot(points["start"], y, "|", color=START, markersize=10, markeredgewidth=2, label="its start")
    ax.plot([], [], "ko", label="final, 95 % interval")
    ax.set_yticks(range(len(labels)), labels[::-1])


def convergence(frame: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """The criterion over its initial value, and the scale-free one over that of the first loop; mean over seeds."""
    lines = [
        {"method": run["method"], "dataset": run["dataset"], "seed": run["seed"], "loop": loop, "form": form,
         "share": value / run[column][0]}
        for run in frame.dropna(subset="criterion").to_dict("records")
        for column, form, first in (("criterion", "criterion", 0), ("relative_criterion", "scale-free", 1))
        for loop, value in enumerate(run[column], first)
    ]  # fmt: skip
    points = (
        pd.DataFrame(lines).groupby(["dataset", "method", "form", "loop"], sort=False)["share"].mean().reset_index()
    )
    datasets = list(dict.fromkeys(points["dataset"]))
    figure, axes = plt.subplots(1, len(datasets), figsize=(6.6, 2.7), layout="constrained", sharey=True, squeeze=False)
    for ax, dataset in zip(axes[0], datasets, strict=True):
        for (method, form), line in points[points["dataset"] == dataset].groupby(["method", "form"], sort=False):
            style = {"color": METHOD_COLOURS["k-sparse"] if form == "criterion" else ACCENT}
            style["linestyle"] = "-" if method == "K-sparse" else "--"
            ax.plot(line["loop"], line["share"], marker=".", label=f"{method}, {form}", **style)
        ax.set(title=dataset, xlabel="loop", yscale="log")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0, 0].set_ylabel("share of the first value")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure, points


def eta_path(frame: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Accuracy, silhouette, precision and number of genes along eta."""
    points = frame[["eta", "features", "silhouette", "accuracy", "precision", "recall"]].sort_values("eta")
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.6, 2.7), layout="constrained")
    left.plot(points["eta"], points["features"], "o-", color=METHOD_COLOURS["k-sparse"])
    left.set(xscale="log", yscale="log", xlabel="eta", ylabel="genes selected")
    for column, name, colour in (
        ("accuracy", "accuracy", METHOD_COLOURS["k-sparse"]),
        ("precision", "precision of genes", METHOD_COLOURS["simlr"]),
        ("silhouette", "silhouette (x 100)", ACCENT),
    ):
        scale = 100 if column == "silhouette" else 1
        right.plot(points["eta"], scale * points[column], "o-", color=colour, label=name)
    right.set(xscale="log", xlabel="eta", ylabel="%", ylim=(0, 103))
    right.legend(loc="lower left")
    for ax in (left, right):
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
    return figure, points


def recovered(frame: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """One panel a data set: accuracy on held-out cells by how genes were selected, a marker for each number of them."""
    keys = ["dataset", "method", "n_genes"]
    groups = {key: t_interval(values) for key, values in frame.groupby(keys, sort=False)["recovered"]}
    lines = [(*key, interval.mean, interval.low, interval.high) for key, interval in groups.items()]
    points = pd.DataFrame(lines, columns=[*keys, "mean", "low", "high"])
    datasets, methods = list(dict.fromkeys(points["dataset"])), list(dict.fromkeys(points["method"]))
    figure, axes = plt.subplots(
        1, len(datasets), figsize=(6.6, 1.2 + 0.3 * len(methods)), sharey=True, layout="constrained", squeeze=False
    )
    for ax, dataset in zip(axes.flat, datasets, strict=True):
        for at, (count, shown) in enumerate(points[points["dataset"] == dataset].groupby("n_genes")):
            y = [len(methods) - 1 - methods.index(name) + 0.16 * (0.5 - at) for name in shown["method"]]
            error = [shown["mean"] - shown["low"], shown["high"] - shown["mean"]]
            style = {"fmt": "os^"[at % 3], "capsize": 2, "color": (METHOD_COLOURS["k-sparse"], ACCENT)[at % 2]}
            ax.errorbar(shown["mean"], y, xerr=error, label=f"{count} genes", **style)
        ax.set(title=dataset, xlim=(0, 102))
    figure.supxlabel("accuracy on held-out cells (%)", fontsize=9)
    axes[0, 0].set_yticks(range(len(methods)), methods[::-1])
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure, points


def selected_genes(cells: Cells, model: KSparse, *, clusters: np.ndarray | None = None) -> tuple[Figure, pd.DataFrame]:
    """Heat map of the highest ranked genes over cells sorted by cluster, and the projected cells in two dimensions.

    `clusters` (m,) are the model's labels under other numbers. The projected cells have the colours of the true
    classes where `cells` has them, else of the clusters.
    """
    clusters = model.labels_ if clusters is None else clusters
    top = model.selected_features_[:SHOWN_GENES]
    m = len(clusters)
    chosen = np.sort(np.random.RandomState(0).permutation(m)[:SHOWN_CELLS])
    chosen = chosen[np.argsort(clusters[chosen], kind="stable")]
    drawn = np.sort(np.random.RandomState(0).permutation(m)[:DRAWN_CELLS])
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(6.6, 4.0), layout="constrained", gridspec_kw={"width_ratios": [1.3, 1]}
    )
    _heat_map(left, cells.X[chosen][:, top], cells.genes[top], clusters[chosen])
    projected = model.transform(cells.X[drawn])
    if min(projected.shape) < 2:  # of one gene, or of one cell: there is no plane
        projected = np.pad(projected, [(0, 2 - min(2, size)) for size in projected.shape])
    plane = PCA(2, svd_solver="full").fit_transform(projected)[: len(drawn)]
    points = pd.DataFrame({"x": plane[:, 0], "y": plane[:, 1], "cluster": clusters[drawn]})
    hue, title = "cluster", "projected cells, clusters found"
    if cells.labels is not None:
        points.insert(2, "class", cells.labels[drawn])
        hue, title = "class", "projected cells, true classes"
    names = sorted(points[hue].unique()) if hue == "cluster" else None
    palette = sns.color_palette("colorblind" if points[hue].nunique() <= 10 else "husl", points[hue].nunique())
    sns.scatterplot(points, x="x", y="y", hue=hue, hue_order=names, palette=palette, s=8, linewidth=0, ax=right)
    right.set(xlabel="first component of A W", ylabel="second component", title=title)
    handles, labels = right.get_legend_handles_labels()
    right.get_legend().remove()
    heading = {"title": "cluster"} if hue == "cluster" else {}
    columns = min(10, len(labels)) if hue == "cluster" else 4
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=7, **heading)
    return figure, points


def _heat_map(ax, values, genes: np.ndarray, clusters: np.ndarray) -> None:
    """Genes (n,) by cells sorted by cluster, in standard deviations of each gene; lines and numbers at the clusters."""
    values = np.asarray(values.toarray() if sparse.issparse(values) else values, dtype=float)
    scaled = (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-9)
    sns.heatmap(scaled.T, ax=ax, cmap="vlag", center=0, vmin=-2, vmax=2, yticklabels=genes,
                xticklabels=False, cbar_kws={"label": "standard deviations"})  # fmt: skip
    ax.tick_params(axis="y", labelsize=6)
    edges = np.flatnonzero(np.diff(clusters)) + 1
    for boundary in edges:
        ax.axvline(boundary, color="black", linewidth=0.6)
    starts, stops = np.array([0, *edges]), np.array([*edges, len(clusters)])
    ax.set_xticks((starts + stops) / 2, clusters[starts], fontsize=6, rotation=0)
    ax.set(xlabel="cells, by cluster", title="highest ranked genes")
    ax.grid(False)


def scaling(frame: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Time and peak memory against cells and against genes, with the line of slope 1 through the first point."""
    points = medians(frame)
    figure, axes = plt.subplots(2, 2, figsize=(6.6, 4.6), layout="constrained")
    for column, (along, size) in enumerate((("cells", "cells"), ("genes", "n_genes"))):
        runs = points[points["row"].str.startswith(along)].sort_values(size)
        _log_log(axes[0, column], runs[size], runs["cpu_seconds"], "CPU seconds", along)
        _log_log(axes[1, column], runs[size], runs["peak_memory_bytes"] / 1e9, "peak memory (GB)", along)
    return figure, points


def _log_log(ax, sizes: pd.Series, values: pd.Series, name: str, along: str) -> None:
    x, y = sizes.to_numpy(float), values.to_numpy(float)
    ax.plot(x, y, "o-", color=METHOD_COLOURS["k-sparse"], label=f"slope {log_slope(x, y):.2f}")
    ax.plot(x, y[-1] * x / x[-1], ":", color="#666666", label="slope 1")
    ax.set(xscale="log", yscale="log", xlabel=along, ylabel=name)
    ax.legend(loc="upper left")


def _intervals(experiment: Experiment, frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    lines = []
    for row in experiment.rows:
        runs = frame[frame["row"] == row.id]
        if len(runs):
            interval = t_interval(runs[metric])
            lines.append(
                {"row": row.id, "dataset": row.values["dataset"], "label": row.label, "method": row.values["method"],
                 metric: interval.mean, "low": interval.low, "high": interval.high, "n": interval.n,
                 "start": runs["initial_accuracy"].astype(float).mean()}
            )  # fmt: skip
    return pd.DataFrame(lines)
