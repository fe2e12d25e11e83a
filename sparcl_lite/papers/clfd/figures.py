"""Figures of CLFD's tables: each method with and without CLFD, and accuracy against measured cost."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from sparcl_lite.drawing import BLACK, GREY, colour_of
from sparcl_lite.measure.statistics import t_interval
from sparcl_lite.papers.clfd.costs import on_front
from sparcl_lite.papers.experiments import Experiment, Row

FORMS = {"": "o", "SparCL": "s", "CLFD": "^", "CLFD and SparCL": "D"}  # what is on, and its marker
AXES = {"seconds": "seconds of one core, training", "megabytes": "peak memory (MB)"}


def with_and_without(
    experiment: Experiment, frame: pd.DataFrame, *, column: str = "cifar10"
) -> tuple[Figure, pd.DataFrame]:
    """Class-IL of each method without CLFD (open) and with it (filled): the paper's numbers beside ours."""
    pairs = [row for row in experiment.rows if row.id.startswith("clfd-")]
    points = pd.DataFrame([line for row in pairs for line in _both(experiment, frame, row, column)])
    figure, axes = plt.subplots(
        1, 2, figsize=(6.6, 0.36 * len(pairs) + 1.1), layout="constrained", sharex=True, sharey=True
    )
    titles = f"paper, {column} (± std)", _ours(experiment, frame)
    for ax, source, title in zip(axes, ("paper", "ours"), titles, strict=True):
        for y, row in zip(range(0, -len(pairs), -1), pairs, strict=True):
            shown = points[(points["source"] == source) & (points["pair"] == row.id)]
            colour = colour_of(row.values["method"])
            heights = y + np.where(shown["clfd"], 0.09, -0.09)
            ax.plot(shown["class_il"], heights, color=colour, linewidth=1, alpha=0.5)
            for height, line in zip(heights, shown.itertuples(), strict=True):
                error = None if np.isnan(line.low) else [[line.class_il - line.low], [line.high - line.class_il]]
                look = {"mfc": colour if line.clfd else "white", "color": colour, "capsize": 2.5}
                ax.errorbar(line.class_il, height, xerr=error, fmt="o", **look)
        ax.set(title=title, xlabel="Class-IL accuracy (%)")
    names = [f"{experiment.row(row.against).label}, buffer {row.values['buffer_size']}" for row in pairs]
    axes[0].set_yticks(range(0, -len(pairs), -1), names)
    handles = [Line2D([], [], marker="o", color=GREY, mfc=fill, linestyle="") for fill in ("white", GREY)]
    figure.legend(handles, ["without CLFD", "with CLFD"], loc="outside upper center", ncols=2)
    ours = points.loc[points["source"] == "ours", "class_il"]
    axes[0].set_xlim(left=0, right=min(100, max(70, ours.max() + 15)) if len(ours) else None)
    return figure, points


def _ours(experiment: Experiment, frame: pd.DataFrame) -> str:
    """What our runs are of: profile, data set, and how many there are a row."""
    config = experiment.configs(experiment.rows[0], 1)[0]
    here = f"here: {config.profile}, {config.dataset}"
    if frame.empty:
        return f"{here}, no runs"
    counts = frame.groupby("row").size()
    few, many = counts.min(), counts.max()
    number = f"n {few}" if few == many else f"n {few} to {many}"
    return f"{here}, {number}{' (95 %)' if few > 1 else ''}"


def _both(experiment: Experiment, frame: pd.DataFrame, row: Row, column: str) -> list[dict]:
    """The paper's value and ours of a row with CLFD and of the one without."""
    printed, lines = experiment.printed_values(column), []
    for name in (row.against, row.id):
        place = {"pair": row.id, "row": name, "clfd": name == row.id}
        if found := printed.get((name, "class_il")):
            low, high = (found["value"] + sign * found["std"] for sign in (-1, 1))
            lines.append(place | {"source": "paper", "class_il": found["value"], "low": low, "high": high})
        values = frame.loc[frame["row"] == name, "class_il"].dropna()
        if len(values):
            mean = t_interval(values)
            lines.append(place | {"source": "ours", "class_il": mean.mean, "low": mean.low, "high": mean.high})
    return lines


def pareto(experiment: Experiment, points: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Accuracy against each measured cost (`costs.points`): rows that no other beats are on a line and named below."""
    fronts = {cost: points[on_front(points, [cost])].sort_values(cost) for cost in AXES}
    height = 3.6 + 0.13 * max(map(len, fronts.values()))
    figure, axes = plt.subplots(1, 2, figsize=(6.6, height), layout="constrained", sharey=True)
    for ax, (cost, name) in zip(axes, AXES.items(), strict=True):
        for line in points.itertuples():
            values = experiment.row(line.row).values
            error = None if np.isnan(line.class_il_low) else [[line.class_il - line.class_il_low],
                                                              [line.class_il_high - line.class_il]]  # fmt: skip
            look = {"color": colour_of(values["method"]), "mfc": None if line.front else "white", "elinewidth": 0.6}
            ax.errorbar(getattr(line, cost), line.class_il, error, fmt=FORMS[_form(values)], **look)
        front = fronts[cost]
        ax.step(front[cost], front["class_il"], where="post", color=BLACK, linewidth=0.8, zorder=0)
        for number, line in enumerate(front.itertuples(), start=1):
            place = {"xytext": (-10, 2), "textcoords": "offset points"}
            ax.annotate(str(number), (getattr(line, cost), line.class_il), fontsize=8, **place)
        text = "\n".join(f"{number} {label}" for number, label in enumerate(front["label"], start=1))
        below = {"xytext": (0, -34), "textcoords": "offset points", "va": "top", "fontsize": 7}
        ax.annotate(text, (0, 0), xycoords="axes fraction", **below)
        ax.set(xscale="log", xlabel=name)
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.margins(x=0.12)
    low, high = points["class_il"].min(), points["class_il"].max()
    room = 0.2 * (high - low) + 1
    axes[0].set(ylabel="Class-IL accuracy (%)", ylim=(max(0, low - room), min(100, high + room)))
    _legend(figure, experiment, points)
    return figure, points


def _form(values: dict) -> str:
    return " and ".join(name for name, field in (("CLFD", "clfd"), ("SparCL", "sparse")) if field in values)


def _legend(figure: Figure, experiment: Experiment, points: pd.DataFrame) -> None:
    rows = [experiment.row(name) for name in points["row"]]
    methods = {row.values["method"]: row.label for row in rows if not _form(row.values)}
    handles = [Line2D([], [], marker="o", linestyle="", color=colour_of(name)) for name in methods]
    shapes = [name for name in FORMS if name and any(_form(row.values) == name for row in rows)]
    handles += [Line2D([], [], marker=FORMS[name], linestyle="", color=GREY) for name in shapes]
    handles.append(Line2D([], [], marker="o", linestyle="", color=GREY, mfc="white"))
    names = [*methods.values(), *(f"with {name}" for name in shapes), "not on the front of all three"]
    figure.legend(handles, names, loc="outside upper center", ncols=4)
