"""What to train on a budget: the frontier as a table, the answer to "I have S seconds and M megabytes", and a goal."""

from typing import Any

import pandas as pd

from sparcl_lite.measure.statistics import Interval
from sparcl_lite.papers.clfd.costs import within
from sparcl_lite.papers.experiments import Experiment
from sparcl_lite.report.tables import Table, plus_minus, signed

GOAL = 12  # times faster than dense ER, without a loss of accuracy


def costs_table(experiment: Experiment, found: pd.DataFrame, report: dict[str, Any]) -> Table:
    """Every row of `costs.points` with its accuracy, costs and savings; `report` is of one round of measuring."""
    labels = {row.id: row.label for row in experiment.rows}
    lines = [
        {
            "method": labels[line["row"]],
            "Class-IL": plus_minus(_interval(line, "class_il", line["n"])),
            "against ER": _difference(line) if line["pairs"] else "-",
            "seconds": f"{line['seconds']:.0f}",
            "times faster": plus_minus(_interval(line, "seconds_saved", 2)),
            "MB": f"{line['megabytes']:.0f}",
            "times less": plus_minus(_interval(line, "megabytes_saved", 2)),
            "front": "yes" if line["front"] else "",
            "n": line["n"],
        }
        for line in found.to_dict("records")
    ]
    caption = (
        "Mean ± half of the 95 % interval: of accuracy over n seeds, of savings against dense ER over the rounds of "
        f"measuring. Seconds of one core of {report['environment']['processor']}; memory above the loaded process. "
        "Front: no other row is as accurate and as cheap in both."
    )
    return Table(pd.DataFrame(lines), caption)


def _difference(line: dict[str, Any]) -> str:
    text = signed(_interval(line, "difference", line["pairs"]))
    return text if line["pairs"] == line["n"] else f"{text}, n {line['pairs']}"


def _interval(line: dict[str, Any], name: str, n: int) -> Interval:
    low, high = line[f"{name}_low"], line[f"{name}_high"]
    return Interval(line[name], low, high, 1 if pd.isna(low) else n)


def answer(found: pd.DataFrame, seconds: float, megabytes: float) -> str:
    """What to train in so many seconds of one core and megabytes, in one line."""
    asked, fits = f"{seconds:.0f} s and {megabytes:.0f} MB", within(found, seconds, megabytes)
    if fits.empty:
        cheapest = found.loc[found["seconds"].idxmin()]
        return f"{asked}: nothing fits; the quickest is {_described(cheapest)}"
    return f"{asked}: train {_described(fits.iloc[0])}"


def _described(line: pd.Series) -> str:
    known = Interval(line["class_il"], line["class_il_low"], line["class_il_high"], int(line["n"]))
    return f"{line['label']}: {plus_minus(known)} % Class-IL in {line['seconds']:.0f} s and {line['megabytes']:.0f} MB"


def goal(found: pd.DataFrame) -> str:
    """Whether a row is `GOAL` times faster than dense ER and, by its interval, not less accurate; else the fastest."""
    fast = found[found["seconds_saved"] >= GOAL].sort_values("difference", ascending=False)
    best = (fast if len(fast) else found.sort_values("seconds_saved", ascending=False)).iloc[0]
    if best["seconds_saved"] < GOAL or best["difference_high"] < 0:
        outcome = "not reached"
    else:
        outcome = "reached" if best["difference_low"] >= 0 else "inconclusive"
    faster, less = plus_minus(_interval(best, "seconds_saved", 2)), f"{best['megabytes_saved']:.1f}x less memory"
    difference = signed(_interval(best, "difference", best["pairs"]))
    return (
        f"{GOAL}x faster than dense ER and not less accurate: {outcome}. {best['label']}: {faster} times as fast, "
        f"{less}, {difference} points of Class-IL, n {best['pairs']}."
    )
