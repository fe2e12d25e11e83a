"""Verdicts on claims, computed from finished runs by the rules that all papers share.

A verdict is `reproduced`, `contradicted`, `inconclusive` or `not testable here` (`measure.statistics`). Rules that look
at measurements or at another accounting are in each paper's `judge`.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from sparcl_lite.config import RunConfig
from sparcl_lite.measure.flops import paper_flops
from sparcl_lite.measure.statistics import (
    CONTRADICTED,
    REPRODUCED,
    UNTESTABLE,
    Interval,
    joint_verdict,
    paired_interval,
    verdict,
)
from sparcl_lite.papers.claims import RATIO_TOLERANCE, Claim
from sparcl_lite.papers.differences import inside, paired, printed_difference, printed_saving
from sparcl_lite.papers.experiments import Experiment, runs_of
from sparcl_lite.papers.verdicts import Evidence, Judged, from_seeds
from sparcl_lite.planning import planned, training_memory
from sparcl_lite.registry import RULES

Rule = Callable[[Claim, Experiment, pd.DataFrame, str, str], Evidence]
PLANNED = "planned at the paper's size, not run"


def judge(
    listed: list[Claim],
    experiments: dict[str, Experiment],
    runs: dict[str, pd.DataFrame],
    further_rules: dict[str, Rule] | None = None,
) -> list[Judged]:
    """Verdicts of the claims that belong to the experiments; `runs` holds what is known of each (`Experiment.stored`).

    A paper whose runs or accounting are of another kind brings `further_rules`, which replace those of the same name.
    """
    own = further_rules or {}
    judged = []
    for claim in listed:
        if claim.experiment not in experiments:
            continue
        experiment = experiments[claim.experiment]
        if obstacle := _obstacle(claim, experiment):
            judged.append(Judged(claim, UNTESTABLE, reason=obstacle))
            continue
        frame = runs.get(claim.experiment, pd.DataFrame())
        rule = own.get(claim.rule) or RULES[claim.rule]
        evidence = [rule(claim, experiment, frame, a, b) for a, b in claim.comparisons]
        outcome = joint_verdict(e.outcome for e in evidence)
        reasons = [e.note for e in evidence if outcome == e.outcome == UNTESTABLE]
        judged.append(Judged(claim, outcome, evidence, "".join(reasons[:1])))
    return judged


def _obstacle(claim: Claim, experiment: Experiment) -> str:
    """Why the claim cannot be judged whatever the runs say; empty when it can."""
    if claim.rule == "untestable":
        return claim.reason
    if not experiment.printed:
        return f"other settings than those of the paper's {experiment.item}"
    missing = {name for pair in claim.comparisons for name in pair} - {row.id for row in experiment.rows}
    return f"no row {', '.join(sorted(missing))} in this experiment" if missing else ""


def _accuracy(claim: Claim, experiment: Experiment, frame: pd.DataFrame, a: str, b: str) -> Evidence:
    """The paired difference a - b in points."""
    left, right = paired(frame, a, b, claim.metric)
    if not len(left):
        return nothing_known(a, b, "no runs of both rows")
    printed = printed_difference(experiment, a, b, claim.metric, claim.dataset)
    return from_seeds(
        claim, a, b, paired_interval(left, right, claim.level), paper=None if printed is None else printed.value,
        note="one seed: no interval" if len(left) == 1 else "", runs=runs_of(frame, a, b),
    )  # fmt: skip


def _flops_below(claim: Claim, experiment: Experiment, frame: pd.DataFrame, a: str, b: str) -> Evidence:
    """Percent of b's honest FLOPs that a saves, from the smallest to the largest of all pairs of runs."""
    left, right = paired(frame, a, b, "flops_honest")
    if not len(left):
        return nothing_known(a, b, "no runs of both rows")
    saved = 100 * (1 - left / right)
    effect = Interval(float(saved.mean()), float(saved.min()), float(saved.max()), len(saved))
    low, mean, high = (f"{-value:+.1f}" for value in (effect.high, effect.mean, effect.low))
    spread = "the same in every run" if low == high else f"from {low} to {high}"
    paper = printed_saving(experiment, a, b, claim.dataset)
    return Evidence(
        a, b, effect, f"{mean} % honest FLOPs, {spread}, n {effect.n}", verdict(effect, claim.bound), paper,
        inside(effect, paper, RATIO_TOLERANCE), runs=runs_of(frame, a, b),
    )  # fmt: skip


def _flops_ratio(claim: Claim, experiment: Experiment, frame: pd.DataFrame, a: str, b: str) -> Evidence:
    """Honest FLOPs of b / a; the paper's convention, whose constant was fitted to what it prints, goes beside it."""
    small, large = at_paper_size(claim, experiment, a, b)
    return honest_flops(claim, experiment, a, b, paper_flops(large) / paper_flops(small))


def honest_flops(claim: Claim, experiment: Experiment, a: str, b: str, convention: float) -> Evidence:
    """Honest FLOPs of b / a at the paper's size, beside the ratio by a formula that was fitted to published values."""
    small, large = at_paper_size(claim, experiment, a, b)
    ratio = planned(large).ledger.total / planned(small).ledger.total
    fitted = f"{convention:.2f}x by the formula fitted to the published values"
    return counted(claim, a, b, ratio, f"{ratio:.2f}x counted honestly, {fitted} ({PLANNED})")


def _memory_saving(claim: Claim, experiment: Experiment, frame: pd.DataFrame, a: str, b: str) -> Evidence:
    """Share that a saves of what a run of b holds: weights, their gradients, the maps of current and replayed samples.

    The paper counts the maps of the current batch only; the share without those of replayed samples goes beside it.
    """
    held, current = [], []
    for config in at_paper_size(claim, experiment, a, b):
        parts = training_memory(config)
        rest = parts["weights"] + parts["gradients"]
        held.append(rest + parts["activations"])
        current.append(rest + parts["activations"] * config.batch_size / planned(config).samples)
    saved, alone = (1 - small / large for small, large in (held, current))
    note = f"{saved:.0%} of what a run holds, {alone:.0%} with the maps of the current batch only ({PLANNED})"
    return counted(claim, a, b, saved, note)


def nothing_known(a: str, b: str, why: str) -> Evidence:
    """Evidence of a comparison that nothing was run or measured for."""
    return Evidence(a, b, Interval(np.nan, np.nan, np.nan, 0), note=why)


def counted(claim: Claim, a: str, b: str, value: float, note: str) -> Evidence:
    """Evidence from a number that has no interval: it reaches the claim's bound, or not."""
    effect = Interval(value, value, value, 1)
    outcome = REPRODUCED if value >= claim.bound else CONTRADICTED
    return Evidence(a, b, effect, note, outcome, claim.ratio, inside(effect, claim.ratio, RATIO_TOLERANCE))


def at_paper_size(claim: Claim, experiment: Experiment, *rows: str) -> list[RunConfig]:
    """The rows' configurations at the paper's size, on the claim's data set."""
    size = {"profile": "paper", "dataset": claim.dataset}
    return [RunConfig(**(experiment.row(name).values | size)) for name in rows]


RULES.register("above", _accuracy)
RULES.register("not_below", _accuracy)
RULES.register("honest_flops", _flops_ratio)
RULES.register("flops_below", _flops_below)
RULES.register("held_memory", _memory_saving)
