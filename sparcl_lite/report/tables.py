"""Tables that show paper | ours +- interval | verdict, as HTML in a notebook, text in a terminal, or Markdown."""

import html
import math
from dataclasses import dataclass, field

import pandas as pd

from sparcl_lite.measure.statistics import Interval, t_interval
from sparcl_lite.papers.claims import NOT, PARTLY, REPRODUCED, UNTESTABLE, Judged
from sparcl_lite.papers.differences import differences
from sparcl_lite.papers.experiments import Experiment, Row

COLOURS = {REPRODUCED: "#d5ecd9", PARTLY: "#fcefc7", NOT: "#f8d7d3", UNTESTABLE: "#eeeeee"}
METRIC_NAMES = {"class_il": "Class-IL", "task_il": "Task-IL"}
SIGNIFICANT = 0.05


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
        styler = self.frame.style.hide(axis="index").set_uuid("kit").set_caption(html.escape(self.caption))
        styler = styler.format(escape="html").format_index(escape="html", axis="columns")
        if self.linked:
            styler = styler.format(_link, subset=[self.linked])
        styler = styler.map(lambda v: f"background-color: {COLOURS[v]}" if v in COLOURS else "")
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


def direction_verdict(printed: float | None, effect: Interval) -> str:
    """Whether ours differs from the baseline in the paper's direction.

    `reproduced`: the interval of our paired difference lies on the paper's side of zero; `partly`: only its mean does;
    `not reproduced`: the mean is on the other side; `not testable here`: fewer than two seeds, or no printed direction.
    """
    if not printed or math.isnan(printed) or effect.n < 2:
        return UNTESTABLE
    sign = 1 if printed > 0 else -1
    low, mean = min(sign * effect.low, sign * effect.high), sign * effect.mean
    if low > 0:
        return REPRODUCED
    return PARTLY if mean > 0 else NOT


def comparison(experiment: Experiment, frame: pd.DataFrame, *, column: str = "cifar10") -> Table:
    """The paper's table beside ours: accuracy with interval, difference to the baseline row, verdict, FLOPs."""
    printed = experiment.printed_values(column)
    effects = {metric: differences(experiment, frame, metric).set_index("row") for metric in METRIC_NAMES}
    lines, italic = [], set()
    for row in experiment.rows:
        ours = frame[frame["row"] == row.id]
        if ours.empty:
            continue
        line = {"method": row.label}
        if experiment.item == "table1":
            line = {"buffer": row.values.get("buffer_size") or "-", **line}
        for metric, name in METRIC_NAMES.items():
            values = ours[metric].dropna().astype(float)
            line[f"{name} paper"] = _printed_text(printed.get((row.id, metric)))
            line[f"{name} ours"] = plus_minus(t_interval(values)) if len(values) else "-"
            line |= _difference(row, effects[metric], printed, metric, len(values))
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
    unprinted = [c.replace("paper", "verdict") for c in empty if c != "FLOPs paper"]
    return Table(table.drop(columns=[*empty, *unprinted]), _caption(column if printed else None), italic)


def _difference(row: Row, effects: pd.DataFrame, printed: dict, metric: str, count: int) -> dict[str, str]:
    """Difference to the row's baseline with its mark, and the verdict; `count` runs have the metric."""
    name = METRIC_NAMES[metric]
    if row.against is None or not count:
        return {f"{name} difference": "-" if row.against else "baseline", f"{name} verdict": "-"}
    if row.id not in effects.index:
        return {f"{name} difference": "-", f"{name} verdict": UNTESTABLE}
    line = effects.loc[row.id]
    effect = Interval(line["difference"], line["low"], line["high"], int(line["n"]))
    mine, base = printed.get((row.id, metric)), printed.get((row.against, metric))
    theirs = None if mine is None or base is None else mine["value"] - base["value"]
    text = ("+" if effect.mean >= 0 else "") + plus_minus(effect)
    text += " ‡" if line["p_holm"] < SIGNIFICANT else " †" if line["p"] < SIGNIFICANT else ""
    text += "" if theirs is None else f" (paper {theirs:+.1f})"
    if effect.n < count:
        text += f", n {effect.n}"  # the baseline has fewer seeds
    return {f"{name} difference": text, f"{name} verdict": direction_verdict(theirs, effect)}


def _printed_text(cell: dict | None) -> str:
    if cell is None:
        return "-"
    return f"{cell['value']:.2f}" + ("" if pd.isna(cell["std"]) else f" ± {cell['std']:.2f}")


def _caption(column: str | None) -> str:
    paper = f"Paper ({column}): its own mean ± std, italics where recalled and not confirmed. " if column else ""
    verdict = " Verdict: is the difference on the paper's side?" if column else ""
    return (
        f"{paper}Ours: mean ± half of the 95 % interval over n seeds. Difference: to the row's baseline, paired by "
        "seed; † p < 0.05 in the exact paired test (fewer than 6 seeds cannot reach it), ‡ also after Holm's "
        f"correction over the table.{verdict}"
    )


def scoreboard(judged: list[Judged]) -> Table:
    """One line per claim: statement, what was measured, verdict."""
    lines = [
        {
            "claim": entry.claim.statement,
            "source": entry.claim.source,
            "expected": _expected(entry),
            "measured": "; ".join(_measured(entry, e) for e in entry.evidence) or entry.reason,
            "verdict": entry.verdict,
            "notebook": entry.claim.experiment,
        }
        for entry in judged
    ]
    return Table(
        pd.DataFrame(lines),
        linked="notebook",
        caption=f"Claims; effects in points of {_units(judged)} [95 % interval]; p: of no difference from the bound, "
        "Holm-corrected over the tests of this table",
    )


def _units(judged: list[Judged]) -> str:
    names = {"class_il": "Class-IL accuracy", "accuracy": "clustering accuracy", "precision": "precision of genes"}
    used = {entry.claim.metric for entry in judged if entry.claim.rule in ("above", "not_below")}
    return ", ".join(name for metric, name in names.items() if metric in used) or names["class_il"]


def _expected(entry: Judged) -> str:
    claim = entry.claim
    texts = {
        "not_below": f"at most {claim.margin:g} lower",
        "above": f"above {claim.margin:g}" + ("" if claim.expected is None else f" (paper {claim.expected:+g})"),
        "flops_ratio": f"{claim.ratio:g}x" if claim.ratio else "",
        "flops_below": "fewer FLOPs",
        "memory_saving": f"{claim.ratio:.0%} less" if claim.ratio else "",
        "memory_ratio": f"{claim.ratio:g}x less" if claim.ratio else "",
        "memory_measured": f"{claim.ratio:g}x less" if claim.ratio else "",
        "step_speedup": f"{claim.ratio:g}x" if claim.ratio else "",
        "converges": f"never increases, last change below {claim.margin:.0%} of the start",
        "slope_between": "slope {:g} to {:g}".format(*claim.between) if claim.between else "",
        "untestable": "-",
    }
    return texts[claim.rule]


def _measured(entry: Judged, evidence) -> str:
    where = f"{evidence.a} vs {evidence.b}: "
    effect = evidence.effect
    if entry.claim.rule.startswith(("flops", "memory", "step", "converges", "slope")) or effect.n == 0:
        return where + evidence.note
    if effect.n == 1:
        return where + f"{effect.mean:+.1f} ({evidence.note})"
    return where + f"{effect.mean:+.1f} [{effect.low:.1f}, {effect.high:.1f}], p {evidence.p_holm:.3f}, n {effect.n}"


def verdict_line(judged: list[Judged]) -> str:
    """`5 reproduced, 1 partly, 2 not reproduced, 1 not testable here`."""
    verdicts = [entry.verdict for entry in judged]
    return ", ".join(f"{verdicts.count(v)} {v}" for v in (REPRODUCED, PARTLY, NOT, UNTESTABLE))
