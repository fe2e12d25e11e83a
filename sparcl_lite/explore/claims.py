"""The view of the claims: filter by paper and verdict, choose one, and see its rule and its evidence."""

from __future__ import annotations

import html
import inspect
from collections import Counter
from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sparcl_lite.drawing import BLACK, interval_bars
from sparcl_lite.explore.cells import NAMES
from sparcl_lite.explore.grid import Grid
from sparcl_lite.explore.view import DRAWING, Drawn, Picture, View, heading, message_figure
from sparcl_lite.papers.registry import ALL_SEEDS, RULES_OF, judged
from sparcl_lite.papers.verdicts import Judged
from sparcl_lite.registry import RULES
from sparcl_lite.report.documents import PUBLICATIONS
from sparcl_lite.report.figures.claims import OUTCOMES
from sparcl_lite.report.tables import COLOURS, scoreboard
from sparcl_lite.runs.store import Store

ALL = "all"
COLUMNS = ("claim", "verdict", "expected", "seeds to decide")
WIDE = {"layout": {"width": "22em"}, "style": {"description_width": "5em"}}


def chosen(entries: list[Judged], paper: str = ALL, verdict: str = ALL, query: str = "") -> list[Judged]:
    """The claims of a paper with a verdict whose statement, id or rule has every word of `query` in it."""
    return [
        entry
        for entry in entries
        if paper in (ALL, entry.claim.publication)
        and verdict in (ALL, entry.verdict)
        and all(
            w in f"{entry.claim.statement} {entry.claim.id} {entry.claim.rule}".lower() for w in query.lower().split()
        )
    ]


def facts(entry: Judged, store: Store) -> dict[str, str]:
    """What a reader asks of a claim: its rule and bound, what was measured, and what would decide it."""
    claim, line = entry.claim, scoreboard([entry]).frame.iloc[0]
    rule = ({**RULES} | RULES_OF[claim.publication](store)).get(claim.rule)
    doc = inspect.getdoc(rule).splitlines()[0] if rule else "cannot be tested"
    ages = {True: "It is older than its runs.", False: "It is newer than its runs.", None: ""}
    return {
        "verdict": entry.verdict + (f": {entry.reason}" if entry.reason else ""),
        "source": claim.source,
        "rule": f"{claim.rule}: {doc} {ages[entry.rule_first]}",
        "expected": line["expected"],
        "measured": line["measured"],
        "paper inside our intervals": line["paper inside"],
        "seeds to decide": line["seeds to decide"],
    }


def evidence(entry: Judged) -> tuple[Figure, pd.DataFrame]:
    """Every comparison of a claim: its effect and interval, the side of the bound where it has to lie, the paper's."""
    points = pd.DataFrame(
        [
            {"comparison": f"{e.a} vs {e.b}", "effect": e.effect.mean, "low": np.minimum(e.effect.low, e.effect.mean),
             "high": np.maximum(e.effect.high, e.effect.mean), "n": e.effect.n, "outcome": e.outcome,
             "paper": np.nan if e.paper is None else e.paper}
            for e in entry.evidence
        ],
        columns=["comparison", "effect", "low", "high", "n", "outcome", "paper"],
    )  # fmt: skip
    if points["effect"].isna().all():
        return message_figure(entry.reason or "no runs of this claim are stored"), points
    figure = Figure(figsize=(7.4, 1.1 + 0.3 * len(points)), layout="constrained")
    ax, y = figure.subplots(), np.arange(len(points))[::-1]
    for outcome, colour in OUTCOMES.items():
        mine = (points["outcome"] == outcome).to_numpy()
        if mine.any():
            interval_bars(ax, points[mine], "effect", y[mine], color=colour, label=outcome)
    ax.plot(points["paper"], y, "D", mfc="none", color=BLACK, markersize=5, label="paper")
    ax.margins(x=0.15)
    _bound(ax, entry)
    ax.set(yticks=y, yticklabels=points["comparison"], ylim=(-0.7, len(points) - 0.3), xlabel=_unit(entry))
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return figure, points


def _bound(ax: Any, entry: Judged) -> None:
    """Shade where the effect has to lie."""
    bound, (low, high) = entry.claim.bound, ax.get_xlim()
    if bound is None:
        return
    ends = (
        bound if isinstance(bound, tuple) else (low, bound) if entry.claim.rule == "never_increases" else (bound, high)
    )
    low, high = min(low, *ends), max(high, *ends)
    room = 0.06 * (high - low)
    ends = tuple({low: low - room, high: high + room}.get(end, end) for end in ends)
    ax.axvspan(*ends, color="#d5ecd9", zorder=-1, label="where it has to lie")
    ax.set_xlim(low - room, high + room)


def _unit(entry: Judged) -> str:
    if entry.claim.rule in ("above", "not_below"):
        return f"paired difference in {NAMES[entry.claim.metric].replace('(%)', '(points)')}"
    return f"effect ({entry.claim.rule.replace('_', ' ')})"


def overview(entries: list[Judged]) -> tuple[Figure, pd.DataFrame]:
    """How many claims of each paper have each verdict."""
    counts = {p: Counter(e.verdict for e in entries if e.claim.publication == p) for p in PUBLICATIONS}
    points = pd.DataFrame(
        {"paper": PUBLICATIONS[p], "verdict": v, "claims": counts[p][v]} for p in counts for v in OUTCOMES
    )
    figure = Figure(figsize=(7.4, 1.9), layout="constrained")
    ax, ends = figure.subplots(), np.zeros(len(counts))
    for verdict, colour in OUTCOMES.items():
        widths = points.loc[points["verdict"] == verdict, "claims"].to_numpy()
        bars = ax.barh(range(len(counts)), widths, left=ends, color=colour, label=verdict, height=0.6)
        ax.bar_label(bars, [str(width or "") for width in widths], label_type="center", fontsize=8)
        ends += widths
    ax.set(yticks=range(len(counts)), yticklabels=[PUBLICATIONS[p] for p in counts], xlabel="claims")
    ax.invert_yaxis()
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure, points


class Claims(View):
    """Every claim of the papers with its verdict, from the runs that `store` holds: at most `seeds` a row."""

    def __init__(self, store: Store, profile: str = "lite", dataset: str = "", seeds: int = ALL_SEEDS):
        super().__init__()
        self.store, self.shown = store, list[Judged]()
        self.judged = judged(store, profile=profile, dataset=dataset, seeds=seeds)
        papers = {ALL: ALL} | {name: paper for paper, name in PUBLICATIONS.items()}
        self.paper = widgets.Dropdown(description="paper", options=papers, **WIDE)
        self.verdict = widgets.Dropdown(description="verdict", options=[ALL, *OUTCOMES], **WIDE)
        self.query = widgets.Text(description="words", placeholder="FLOPs", continuous_update=False, **WIDE)
        self.grid, self.facts, self.figure = Grid(), widgets.HTML(), Picture()
        for field in (self.paper, self.verdict, self.query):
            field.observe(lambda _: self._fill(), names="value")
        self.grid.on_choice(lambda row, _: self._tell(self.shown[row]))
        filters = widgets.HBox([self.paper, self.verdict, self.query], layout={"flex_flow": "row wrap"})
        self.widget = widgets.VBox([filters, self.grid, heading("The claim"), self.facts, self.figure])
        self._fill()

    def _fill(self) -> None:
        self.shown = chosen(self.judged, self.paper.value, self.verdict.value, self.query.value)
        frame = scoreboard(self.shown).frame
        rows = [
            [(str(line[name]), entry.claim.id, COLOURS.get(line[name], "")) for name in COLUMNS]
            for entry, line in zip(self.shown, frame.to_dict("records"), strict=True)
        ]
        self.grid.show(list(COLUMNS), rows, f"{len(rows)} of {len(self.judged)} claims. Click one for its evidence.")
        self.facts.value = "click a claim above"
        with DRAWING:
            self.figure.show(self.still())

    def _tell(self, entry: Judged) -> None:
        claim, said = entry.claim, facts(entry, self.store)
        lines = "".join(
            f"<dt><b>{html.escape(name)}</b></dt><dd>{html.escape(text)}</dd>" for name, text in said.items()
        )
        link = f'<a href="{claim.experiment}.ipynb" target="_blank">{claim.experiment}</a>'
        title = f"<b>{html.escape(PUBLICATIONS[claim.publication])}: {html.escape(claim.statement)}</b>"
        self.facts.value = f"{title}<dl>{lines}<dt><b>notebook</b></dt><dd>{link}</dd></dl>"
        with DRAWING:
            self.figure.show(
                (evidence(entry)[0], f"evidence of: {claim.statement}; {facts(entry, self.store)['measured']}")
            )

    def still(self) -> Drawn:
        """The claims that are shown, by paper and verdict."""
        counts = Counter(entry.verdict for entry in self.shown)
        words = ", ".join(f"{counts[verdict]} {verdict}" for verdict in OUTCOMES)
        return overview(self.shown)[0], f"{len(self.shown)} claims: {words}"
