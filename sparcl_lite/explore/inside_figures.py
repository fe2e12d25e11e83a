"""Figures of a run at a moment, each returned with the points it draws."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from sparcl_lite.data.streams import TaskStream
from sparcl_lite.drawing import BLUE, GREY, ORANGE, VERMILION
from sparcl_lite.explore.moments import Moment, stream_of
from sparcl_lite.report.figures.runs import heat_maps

IMAGES_PER_ROW = 15
ANNOTATED = 12  # classes or tasks at most of a matrix whose cells carry numbers


def masks(moment: Moment, earlier: int) -> tuple[Figure, pd.DataFrame]:
    """Density of weights and of gradients by layer, and the overlap with the mask of an earlier task."""
    points = moment.layers(earlier)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(7.4, 1.2 + 0.28 * max(3, len(points))), sharey=True, layout="constrained"
    )
    y = np.arange(len(points))[::-1]
    left.barh(y + 0.17, points["density"], height=0.32, color=BLUE, label="weights")
    left.barh(y - 0.17, points["gradients"], height=0.32, color=ORANGE, label="gradients")
    left.set(xlabel="density (%)", yticks=y, yticklabels=points["layer"], title=f"after {moment.words}")
    right.barh(y, points["overlap"].fillna(0), height=0.5, color=VERMILION)
    right.plot(points["density"], y, "|", color="#000000", markersize=11, label="two random masks of this density")
    since = "before the first task" if earlier == -1 else f"at the end of task {earlier + 1}"
    title = f"{'not known' if points['overlap'].isna().all() else 'still active'} of those active {since}"
    right.set(xlabel="weights (%)", xlim=(0, 103), title=title)
    handles, labels = (a + b for a, b in zip(*(x.get_legend_handles_labels() for x in (left, right)), strict=True))
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure, points


def removed(moment: Moment) -> tuple[Figure, pd.DataFrame]:
    """The images that DDR removed from this task so far, stage by stage: the first of each in a row."""
    stream, stages = stream_of(moment.config), moment.removed
    labels, names = stream.train.labels.numpy(), stream.spec.classes
    points = pd.DataFrame(
        {"stage": number + 1, "sample": sample, "class": names[labels[sample]]}
        for number, stage in enumerate(stages)
        for sample in stage
    )
    rows = [(f"stage {n + 1}\n{len(stage)} images", stage[:IMAGES_PER_ROW]) for n, stage in enumerate(stages)]
    return grid(stream, rows, [[names[labels[s]] for s in stage] for _, stage in rows]), points


def extremes(moment: Moment) -> tuple[Figure, pd.DataFrame]:
    """Of this task's images those misclassified least often so far and those misclassified most often."""
    stream, wrong, samples = stream_of(moment.config), moment.misclassified, moment.samples
    ranked = samples[np.argsort(wrong[samples], kind="stable")]
    labels, names = stream.train.labels.numpy(), stream.spec.classes
    rows = [("easiest", ranked[:IMAGES_PER_ROW]), ("hardest", ranked[::-1][:IMAGES_PER_ROW])]
    under = [[f"{wrong[s]}x\n{names[labels[s]]}" for s in chosen] for _, chosen in rows]
    points = pd.DataFrame(
        {"what": what, "sample": sample, "misclassified": wrong[sample], "class": names[labels[sample]]}
        for what, chosen in rows
        for sample in chosen
    )
    return grid(stream, rows, under), points


def buffer(moment: Moment) -> tuple[Figure, pd.DataFrame]:
    """How many samples of each class the buffer holds now, and some images that it held at the end of the task."""
    recording, stream = moment.recording, stream_of(moment.config)
    labels, names = recording.buffer_labels[moment.number], stream.spec.classes
    counts = np.bincount(moment.held, minlength=len(names))
    images = recording.buffer_images[moment.task][: len(moment.held)]
    figure = plt.figure(figsize=(7.4, 3.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2, 3))
    ax = left.subplots()
    ax.barh(range(len(names)), counts, height=0.7, color=BLUE)
    ax.set(xlabel=f"samples of {len(labels)} places", yticks=range(len(names)), yticklabels=names)
    ax.tick_params(axis="y", labelsize=7 if len(names) < 30 else 3)
    ax.invert_yaxis()
    axes = right.subplots(6, 8)
    for ax, image in zip(axes.flat, images[:: max(1, len(images) // axes.size)], strict=False):
        _image(ax, image)
    for ax in axes.flat:
        ax.axis("off")
    return figure, pd.DataFrame({"class": names, "samples": counts})


def confusion(moment: Moment) -> tuple[Figure, pd.DataFrame]:
    """Share of each class's images that are taken for each class, in percent, classes in the order of the tasks."""
    stream, counts = stream_of(moment.config), moment.confusion
    order = np.concatenate([task.classes.numpy() for task in stream.tasks])
    names = [stream.spec.classes[c].replace("_", " ") for c in order]
    shares = 100 * counts[np.ix_(order, order)] / np.maximum(counts.sum(axis=1), 1)[order, None]
    figure, ax = plt.subplots(figsize=(5.6, 4.4), layout="constrained")
    sns.heatmap(
        np.where(counts.sum(axis=1)[order, None] > 0, shares, np.nan), ax=ax, vmin=0, vmax=100, cmap="cividis",
        annot=len(order) <= ANNOTATED, fmt=".0f", annot_kws={"size": 7}, xticklabels=names, yticklabels=names,
        cbar_kws={"label": "of the class (%)"},
    )  # fmt: skip
    for end in np.cumsum([len(task.classes) for task in stream.tasks])[:-1]:
        ax.axhline(end, color="white", linewidth=1.2)
        ax.axvline(end, color="white", linewidth=1.2)
    ax.set(xlabel="taken for", ylabel="class, in the order of the tasks", title=f"after {moment.words}")
    ax.grid(False)
    points = [{"class": names[i], "taken_for": names[j], "share": shares[i, j]} for i, j in np.ndindex(*shares.shape)]
    return figure, pd.DataFrame(points)


def accuracy(moment: Moment) -> tuple[Figure, pd.DataFrame]:
    """Class-IL and Task-IL accuracy on task j after task i, up to the moment."""
    matrices = {"Class-IL": moment.matrix("class_il"), "Task-IL": moment.matrix("task_il")}
    return heat_maps(matrices, (7.4, 3.0), annotated=len(matrices["Class-IL"]) <= ANNOTATED)


def grid(stream: TaskStream, rows: list[tuple[str, np.ndarray]], under: list[list[str]]) -> Figure:
    """Images of a run's training split in rows, each with its name and what stands under every image."""
    figure, axes = plt.subplots(
        len(rows), IMAGES_PER_ROW, figsize=(7.4, 0.95 * len(rows)), layout="constrained", squeeze=False
    )
    for (name, samples), texts, line in zip(rows, under, axes, strict=True):
        for ax, sample, text in zip(line, samples, texts, strict=False):
            _image(ax, stream.train.images[sample].numpy())
            ax.set_xlabel(text.replace("_", " "), fontsize=5)
        for ax in line:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_color(GREY)
        for ax in line[len(samples) :]:
            ax.set_visible(False)
        line[0].set_ylabel(name, fontsize=7, rotation=0, ha="right", va="center")
    return figure


def _image(ax, image: np.ndarray) -> None:
    picture = image.transpose(1, 2, 0)
    ax.imshow(picture.squeeze(), cmap="gray_r" if picture.shape[2] == 1 else None)
