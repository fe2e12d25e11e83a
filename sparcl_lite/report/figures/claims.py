"""The figure of the claims that accuracies decide: a panel a paper, a group of intervals a claim."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparcl_lite.drawing import GREEN, GREY, ORANGE, VERMILION, interval_bars
from sparcl_lite.measure.statistics import CONTRADICTED, INCONCLUSIVE, REPRODUCED, UNTESTABLE
from sparcl_lite.papers.claims import ACCURACY_RULES
from sparcl_lite.papers.verdicts import NEWER, Judged
from sparcl_lite.report.tables import PUBLICATIONS

OUTCOMES = {REPRODUCED: GREEN, INCONCLUSIVE: ORANGE, CONTRADICTED: VERMILION, UNTESTABLE: GREY}
COLUMNS = ["publication", "claim", "comparison", "effect", "low", "high", "n", "level", "outcome", "bound", "paper"]
LINE, GAP = 0.14, 0.10  # inches of a comparison, and between claims


def effects(judged: list[Judged]) -> tuple[Figure, pd.DataFrame]:
    """Every comparison of accuracies that decides a claim: effect, interval, bound, and the paper's own difference.

    A panel a paper and a label a claim, in the order of its file; the comparisons of a claim are named in the points.
    """
    points = pd.DataFrame(
        [
            {"publication": entry.claim.publication, "claim": entry.claim.id + "*" * (entry.rule_first is False),
             "comparison": f"{e.a} − {e.b}", "effect": e.effect.mean, "low": e.effect.low, "high": e.effect.high,
             "n": e.effect.n, "level": entry.claim.level, "outcome": e.outcome, "bound": entry.claim.bound,
             "paper": np.nan if e.paper is None else e.paper}
            for entry in judged
            for e in entry.evidence
            if entry.claim.rule in ACCURACY_RULES and e.effect.n
        ],
        columns=COLUMNS,
    )  # fmt: skip
    papers = list(dict.fromkeys(points["publication"])) or [""]
    columns = min(2, len(papers))
    rows = [papers[first : first + columns] for first in range(0, len(papers), columns)]
    heights = [0.9 + max(_height(points[points["publication"] == paper]) for paper in row) for row in rows]
    figure = plt.figure(figsize=(3.6 * columns, sum(heights)), layout="constrained")
    grid = figure.add_gridspec(len(rows), columns, height_ratios=heights)
    for number, paper in enumerate(papers):
        _panel(figure.add_subplot(grid[divmod(number, columns)]), points[points["publication"] == paper], paper)
    named = {text: line for ax in figure.axes for line, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    if named:
        figure.legend(named.values(), named.keys(), loc="outside upper center", ncols=5)
    newer = points["claim"].str.endswith("*").any()
    figure.supxlabel("paired difference in accuracy (points)" + (f"; * {NEWER}" if newer else ""), fontsize=9)
    return figure, points


def _panel(ax: Axes, points: pd.DataFrame, paper: str) -> None:
    y = _heights(points)
    for outcome, colour in OUTCOMES.items():
        chosen = (points["outcome"] == outcome).to_numpy()
        if chosen.any():
            interval_bars(ax, points[chosen], "effect", y[chosen], color=colour, label=outcome)
    ax.axvline(0, color="#666666", linewidth=0.8)
    if len(points):
        ax.plot(points["bound"], y, "|", color="#000000", markersize=9, label="bound")
        ax.plot(points["paper"], y, "D", mfc="none", color="#000000", markersize=4, label="paper")
        middles = pd.Series(y).groupby(points["claim"].to_numpy(), sort=False).mean()
        ax.set(yticks=middles, yticklabels=middles.index, ylim=(y.min() - LINE, LINE))
        for edge in pd.Series(y).groupby(points["claim"].to_numpy(), sort=False).min()[:-1]:
            ax.axhline(edge - (LINE + GAP) / 2, color="#dddddd", linewidth=0.6)
    ax.tick_params(axis="y", labelsize=8, length=0)
    ax.set_title(PUBLICATIONS.get(paper, paper))


def _heights(points: pd.DataFrame) -> np.ndarray:
    """Of each comparison, from the top down, in inches; claims stand apart."""
    new = (points["claim"] != points["claim"].shift()).to_numpy()
    return -np.cumsum(np.where(new, LINE + GAP, LINE)) + LINE + GAP if len(points) else np.empty(0)


def _height(points: pd.DataFrame) -> float:
    return float(-_heights(points).min()) if len(points) else 1.0
