"""Tables of paper and ours side by side, as HTML in a notebook, text in a terminal, or Markdown."""

import html
from dataclasses import dataclass, field
from hashlib import sha256

import pandas as pd
from pandas.io.formats.style import Styler

from sparcl_lite.measure.statistics import (
    CONTRADICTED,
    INCONCLUSIVE,
    REPRODUCED,
    UNTESTABLE,
    Interval,
    t_interval,
)
from sparcl_lite.papers.claims import ACCURACY_RULES, Claim
from sparcl_lite.papers.differences import ENOUGH_SEEDS, differences, inside, printed_difference
from sparcl_lite.papers.experiments import Experiment, Row
from sparcl_lite.papers.verdicts import NEWER, Evidence, Judged

VERDICTS = (REPRODUCED, CONTRADICTED, INCONCLUSIVE, UNTESTABLE)
COLOURS = {REPRODUCED: "#d5ecd9", INCONCLUSIVE: "#fcefc7", CONTRADICTED: "#f8d7d3", UNTESTABLE: "#eeeeee"}
COLOURS |= {"yes": COLOURS[REPRODUCED], "unclear": COLOURS[INCONCLUSIVE], "no": COLOURS[CONTRADICTED]}
TEXT = "#1b1b1b"  # on these colours, also where the page around them is dark
PUBLICATIONS = {"sparcl": "SparCL", "clfd": "CLFD", "lightcl": "LightCL", "ksparse": "K-sparse"}
METRIC_NAMES = {"class_il": "Class-IL", "task_il": "Task-IL"}
BY_BUFFER = ("table1", "tables")  # items whose rows have several buffers
BESIDE_PAPER = ("direction", "inside")  # columns of a metric that say how our difference lies to the paper's


@dataclass
class Table:
    """A table of text cells.

    `italic` holds the (row number, column) of values whose source is not confirmed; cells of the column `linked` name a
    notebook and lead to it.
    """

    frame: pd.DataFrame
    caption: str = ""
    italic: set[tuple[int, str]] = field(default_factory=set)
    linked: str | None = None

    def _repr_html_(self) -> str:
        uuid = sha256(repr(self).encode()).hexdigest()[:10]  # tables of one page differ, and one is always the same
        styler = Styler(self.frame, uuid=uuid, cell_ids=False).hide(axis="index").set_caption(html.escape(self.caption))
        styler = styler.format(escape="html").format_index(escape="html", axis="columns")
        if self.linked in self.frame:
            styler = styler.format(_link, subset=[self.linked])
        styler = styler.map(lambda v: f"background-color: {COLOURS[v]}; color: {TEXT}" if v in COLOURS else "")
        styles = pd.DataFrame("", index=self.frame.index, columns=self.frame.columns)
        for row, column in self.italic:
            styles.loc[self.frame.index[row], column] = "font-style: italic"
        return styler.apply(lambda _: styles, axis=None).to_html()

    def __repr__(self) -> str:
        return f"{self.caption}\n{self.frame.to_string(index=False)}"

    def to_markdown(self) -> str:
        """A GitHub table; unconfirmed values in italics."""
        lines = ["| " + " | ".join(self.frame.columns) + " |", "|" + "---|" * len(self.frame.columns)]
        for number, (_, row) in enumerate(self.frame.iterrows()):
            cells = (f"*{v}*" if (number, c) in self.italic else str(v) for c, v in row.items())
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines)


def _link(notebook: str) -> str:
    name = html.escape(notebook)
    return f'<a href="{name}.ipynb">{name}</a>' if notebook else ""


def plus_minus(interval: Interval, digits: int = 1) -> str:
    """`71.3 ± 1.2` (half the 95 % interval), or the mean alone when a single seed gives no interval."""
    if interval.n < 2:
        return f"{interval.mean:.{digits}f}"
    return f"{interval.mean:.{digits}f} ± {(interval.high - interval.low) / 2:.{digits}f}"


def signed(interval: Interval) -> str:
    """`plus_minus` of a difference, with its sign."""
    return ("+" if interval.mean >= 0 else "") + plus_minus(interval)


def comparison(experiment: Experiment, frame: pd.DataFrame, *, column: str = "cifar10") -> Table:
    """The paper's table beside ours: accuracy, difference to the baseline row and how it lies to the paper's, FLOPs."""
    printed = experiment.printed_values(column)
    effects = {metric: differences(experiment, frame, metric).set_index("row") for metric in METRIC_NAMES}
    lines, italic = [], set()
    for row in experiment.rows:
        ours = frame[frame["row"] == row.id]
        if ours.empty:
            continue
        line = {"method": row.label}
        if experiment.item in BY_BUFFER:
            line = {"buffer": row.values.get("buffer_size") or "-", **line}
        for metric, name in METRIC_NAMES.items():
            values = ours[metric].dropna().astype(float)
            line[f"{name} paper"] = _printed_text(printed.get((row.id, metric)))
            line[f"{name} ours"] = plus_minus(t_interval(values)) if len(values) else "-"
            line |= _difference(experiment, row, effects[metric], metric, column, len(values))
        flops = printed.get((row.id, "flops"))
        line["FLOPs paper"] = "-" if flops is None else f"{flops['value']:.2g}".replace("e+", "e")
        line["FLOPs ours (honest)"] = f"{ours['flops_honest'].mean():.2e}".replace("e+", "e")
        line["n"] = len(ours)
        for metric, name in (METRIC_NAMES | {"flops": "FLOPs"}).items():
            if printed.get((row.id, metric), {}).get("provenance", "verified") != "verified":
                italic.add((len(lines), f"{name} paper"))
        lines.append(line)
    table = pd.DataFrame(lines)
    empty = [c for c in table.columns if c.endswith(" paper") and (table[c] == "-").all()]
    unprinted = [c.replace("paper", what) for c in empty if c != "FLOPs paper" for what in BESIDE_PAPER]
    shown = table.drop(columns=[*empty, *unprinted])
    return Table(shown, _caption(shown, column), italic)


def _difference(
    experiment: Experiment, row: Row, effects: pd.DataFrame, metric: str, column: str, count: int
) -> dict[str, str]:
    """Difference to the row's baseline beside the paper's; `count` runs have the metric."""
    names = [f"{METRIC_NAMES[metric]} {what}" for what in ("difference", *BESIDE_PAPER)]
    if row.against is None or not count:
        return dict(zip(names, ("-" if row.against else "baseline", "-", "-"), strict=True))
    if seeds := tendency(experiment, row):
        return dict(zip(names, (f"tendency, {seeds} seeds", "-", "-"), strict=True))
    printed = printed_difference(experiment, row.id, row.against, metric, column)
    if row.id not in effects.index:
        return dict(zip(names, ("-", "-", "-"), strict=True))
    line = effects.loc[row.id]
    effect = Interval(line["difference"], line["low"], line["high"], int(line["n"]))
    text = signed(effect)
    text += "" if printed is None else f" (paper {printed.value:+.1f})"
    if effect.n < count:
        text += f", n {effect.n}"  # the baseline has fewer seeds
    direction = "-" if printed is None else printed.same_direction(effect)
    return dict(zip(names, (text, direction, yes_no(inside(effect, printed and printed.value))), strict=True))


def tendency(experiment: Experiment, row: Row) -> int:
    """The seeds of a row, or of its baseline, that are too few to show a difference; 0 when they are enough."""
    seeds = min(row.seeds, experiment.row(row.against).seeds)
    return seeds if seeds < ENOUGH_SEEDS else 0


def yes_no(value: bool | None) -> str:
    """`yes`, `no`, or `-` where it is not known."""
    return "-" if value is None else "yes" if value else "no"


def _printed_text(cell: dict | None) -> str:
    if cell is None:
        return "-"
    return f"{cell['value']:.2f}" + ("" if pd.isna(cell["std"]) else f" ± {cell['std']:.2f}")


def _caption(table: pd.DataFrame, column: str) -> str:
    """Explains the columns and seeds that this table has."""
    paper = any(name.endswith(" paper") for name in table)
    beside = any(name.endswith(BESIDE_PAPER) for name in table)
    values = [str(text) for name in table if name.endswith("difference") for text in table[name]]
    parts = [f"Paper ({column}): its own mean ± std, italics where recalled and not confirmed."] if paper else []
    parts.append("Ours: mean ± half of the 95 % interval over n seeds.")
    if any(text[0] in "+-" and text != "-" for text in values):
        parts.append(
            "Difference: to the row's baseline, paired by seed, ± half of its 95 % t interval; each interval stands "
            "for itself, none is corrected for the number of rows."
        )
    if any(text.startswith("tendency") for text in values):
        parts.append("Tendency: too few seeds to show a difference; see the levels.")
    if beside:
        parts.append(
            "Direction: does our interval lie on the paper's side of zero (unclear: it holds zero; -: the paper's "
            "difference is within its own error)? Inside: does the paper's difference lie in our interval?"
        )
    return " ".join(parts)


def scoreboard(judged: list[Judged]) -> Table:
    """One line per claim: statement, what was measured, verdict, and how the paper's value lies to it."""
    lines = [
        {
            "claim": entry.claim.statement,
            "source": entry.claim.source,
            "expected": _expected(entry.claim),
            "measured": _measured(entry),
            "verdict": entry.verdict,
            "paper inside": _inside(entry),
            "seeds to decide": _seeds(entry),
            "notebook": entry.claim.experiment,
        }
        for entry in judged
    ]
    caption = (
        f"Claims; effects in points of {_units(judged)} [95 % interval, or of the level named: that with which all "
        "intervals of the claim together err 5 % of the time]. Paper inside: do the paper's own values lie in our "
        "intervals? Seeds to decide: how many would put the bound outside, with the present means and spreads."
    )
    return Table(pd.DataFrame(lines), linked="notebook", caption=caption)


def _units(judged: list[Judged]) -> str:
    names = {
        "class_il": "Class-IL accuracy",
        "accuracy": "clustering accuracy",
        "precision": "precision of genes",
        "recovered": "accuracy on held-out cells",
        "markers": "known markers that are selected",
    }
    used = {entry.claim.metric for entry in judged if entry.claim.rule in ACCURACY_RULES}
    return ", ".join(name for metric, name in names.items() if metric in used) or names["class_il"]


def _expected(claim: Claim) -> str:
    texts = {
        "not_below": f"at most {claim.margin:g} lower",
        "above": f"above {claim.margin:g}" + ("" if claim.expected is None else f" (paper {claim.expected:+g})"),
        "honest_flops": f"{claim.ratio:g}x" if claim.ratio else "",
        "flops_below": "fewer FLOPs",
        "held_memory": f"{claim.ratio:.0%} less" if claim.ratio else "",
        "memory_ratio": f"{claim.ratio:g}x less" if claim.ratio else "",
        "memory_measured": f"{claim.ratio:g}x less" if claim.ratio else "",
        "measured_speedup": f"{claim.ratio:g}x" if claim.ratio else "",
        "measured_cost": f"{claim.ratio:g}x less time" if claim.ratio else "",
        "measured_memory": f"{claim.ratio:g}x less" if claim.ratio else "",
        "never_increases": f"never increases, last change below {claim.margin:.0%} of the start",
        "slope_between": "slope {:g} to {:g}".format(*claim.between) if claim.between else "",
        "untestable": "-",
    }
    return texts[claim.rule]


def _measured(entry: Judged) -> str:
    """Every comparison in words, then what a reader has to know of all of them."""
    sampled = entry.claim.rule in ACCURACY_RULES
    parts = [_comparison(e, sampled) for e in entry.evidence] or [entry.reason]
    if sampled and len(entry.evidence) > 2:
        parts.append(f"{100 * entry.claim.level:.1f} % intervals")
    parts += [entry.claim.note] if entry.claim.note else []
    parts += [NEWER] if entry.rule_first is False else []
    return "; ".join(parts)


def _comparison(evidence: Evidence, sampled: bool) -> str:
    where, effect = f"{evidence.a} vs {evidence.b}: ", evidence.effect
    if not sampled or effect.n == 0:
        return where + evidence.note
    paper = "" if evidence.paper is None else f", paper {evidence.paper:+.1f}"
    if effect.n == 1:
        return where + f"{effect.mean:+.1f} ({evidence.note}){paper}"
    return where + f"{effect.mean:+.1f} [{effect.low:.1f}, {effect.high:.1f}], n {effect.n}{paper}"


def _inside(entry: Judged) -> str:
    """`yes`, `no`, `1 of 2` of the comparisons whose paper's value is known, or `-`."""
    known = [e.paper_inside for e in entry.evidence if e.paper_inside is not None]
    return f"{sum(known)} of {len(known)}" if 0 < sum(known) < len(known) else yes_no(entry.paper_inside)


def _seeds(entry: Judged) -> str:
    """Seeds that would decide an inconclusive claim; `-` for decided claims and those that no seed would decide."""
    if entry.verdict != INCONCLUSIVE or entry.claim.rule not in ACCURACY_RULES:
        return "-"
    return "over 10,000" if entry.seeds_to_decide is None else str(entry.seeds_to_decide)


def verdict_line(judged: list[Judged]) -> str:
    """`5 reproduced, 1 contradicted, 2 inconclusive, 1 not testable here`."""
    verdicts = [entry.verdict for entry in judged]
    return ", ".join(f"{verdicts.count(v)} {v}" for v in VERDICTS)
