"""Claims as data, and their verdicts computed from finished runs.

A claim is a statement, its source, the comparisons that decide it and a rule with a margin, all written down before
the runs. A verdict is `reproduced`, `partly`, `not reproduced` or `not testable here`.
"""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import resources
from typing import Literal, Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from sparcl_lite.config import RunConfig
from sparcl_lite.measure.flops import paper_flops, planned_ledger
from sparcl_lite.measure.memory import training_memory
from sparcl_lite.measure.statistics import Interval, holm, paired_interval, paired_permutation_test
from sparcl_lite.methods import METHODS
from sparcl_lite.papers.differences import paired
from sparcl_lite.papers.experiments import Experiment

REPRODUCED, PARTLY, NOT, UNTESTABLE = "reproduced", "partly", "not reproduced", "not testable here"
CONTRADICTED = "contradicted"
RATIO_RULES = ("flops_ratio", "memory_saving", "memory_ratio", "memory_measured", "step_speedup")
RATIO_TOLERANCE = 0.05  # the papers print FLOPs and savings with two digits


class Claim(BaseModel):
    """One statement of a paper and the rule that decides it; see the head of the paper's `claims.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    statement: str
    source: str
    rule: Literal[
        "above",
        "not_below",
        "flops_ratio",
        "flops_below",
        "memory_saving",
        "memory_ratio",
        "memory_measured",
        "step_speedup",
        "converges",
        "slope_between",
        "untestable",
    ]
    experiment: str
    comparisons: list[tuple[str, str]]
    metric: Literal["class_il", "task_il", "accuracy", "precision"] = "class_il"
    margin: float = Field(0.0, ge=0)
    expected: float | None = None
    ratio: float | None = None
    between: tuple[float, float] | None = None
    scale: Literal["runs", "paper"] = "runs"
    dataset: str = Field("cifar10", description="of a claim computed at the paper's size")
    reason: str = ""

    @model_validator(mode="after")
    def _check_decidable(self) -> Self:
        if self.rule == "untestable" and not self.reason:
            raise ValueError(f"{self.id}: rule = 'untestable' needs a reason")
        if self.rule != "untestable" and not self.comparisons:
            raise ValueError(f"{self.id}: comparisons is empty; rule = {self.rule!r} needs one or more")
        if self.rule in RATIO_RULES and self.ratio is None:
            raise ValueError(f"{self.id}: rule = {self.rule!r} needs ratio")
        if self.rule == "slope_between" and self.between is None:
            raise ValueError(f"{self.id}: rule = 'slope_between' needs between")
        return self


@dataclass
class Evidence:
    """One comparison: the effect (points, or a FLOPs ratio), its interval, the seeds and the exact test."""

    a: str
    b: str
    effect: Interval
    p: float | None = None
    p_holm: float | None = None
    note: str = ""
    outcome: str = UNTESTABLE


@dataclass
class Judged:
    """A claim with its verdict and what it rests on."""

    claim: Claim
    verdict: str
    evidence: list[Evidence] = field(default_factory=list)
    reason: str = ""


def claims(paper: str) -> list[Claim]:
    """The claims of a paper."""
    text = resources.files(f"sparcl_lite.papers.{paper}").joinpath("claims.toml").read_text()
    return [Claim.model_validate(entry) for entry in tomllib.loads(text)["claim"]]


def judge(
    listed: list[Claim],
    experiments: dict[str, Experiment],
    runs: dict[str, pd.DataFrame],
    further_rules: dict[str, Callable[..., Evidence]] | None = None,
) -> list[Judged]:
    """Verdicts of all claims; `runs` holds what is known of each experiment (see `Experiment.stored`).

    A paper whose runs or accounting are of another kind brings `further_rules`, which take the same arguments as
    `RULES` and replace those of the same name.
    """
    rules = RULES | (further_rules or {})
    judged = []
    for claim in listed:
        if obstacle := _obstacle(claim, experiments):
            judged.append(Judged(claim, UNTESTABLE, reason=obstacle))
            continue
        experiment = experiments[claim.experiment]
        frame = runs.get(claim.experiment, pd.DataFrame())
        evidence = [rules[claim.rule](claim, experiment, frame, a, b) for a, b in claim.comparisons]
        judged.append(Judged(claim, _verdict(evidence), evidence, _reason(evidence)))
    _correct([e for entry in judged for e in entry.evidence])
    return judged


def _obstacle(claim: Claim, experiments: dict[str, Experiment]) -> str:
    """Why the claim cannot be judged whatever the runs say; empty when it can."""
    if claim.rule == "untestable":
        return claim.reason
    experiment = experiments[claim.experiment]
    if not experiment.printed:
        return f"other settings than those of the paper's {experiment.item}"
    missing = {name for pair in claim.comparisons for name in pair} - {row.id for row in experiment.rows}
    return f"no row {', '.join(sorted(missing))} in this experiment" if missing else ""


def _accuracy(claim: Claim, experiment: Experiment, frame: pd.DataFrame, a: str, b: str) -> Evidence:
    left, right = paired(frame, a, b, claim.metric)
    if not len(left):
        return nothing_known(a, b, "no runs of both rows")
    effect = paired_interval(left, right)
    if len(left) == 1:
        return Evidence(a, b, effect, note="one seed: no interval")
    bound = claim.margin if claim.rule == "above" else -claim.margin
    outcome = REPRODUCED if effect.low > bound else PARTLY if effect.mean > bound else NOT
    return Evidence(a, b, effect, paired_permutation_test(left, right + bound), outcome=outcome)


def _flops_ratio(claim: Claim, experiment: Experiment, frame: pd.DataFrame, a: str, b: str) -> Evidence:
    """FLOPs of b / a in the paper's convention at the paper's own size; the honest ratio goes beside it."""
    small, large = _at_paper_size(claim, experiment, a, b)
    ratio = paper_flops(large) / paper_flops(small)
    honest = planned_ledger(large).total / planned_ledger(small).total
    note = f"{ratio:.1f}x in the paper's convention, {honest:.1f}x counted honestly (planned at its size, not run)"
    return computed(claim, a, b, ratio, note)


def _memory_saving(claim: Claim, experiment: Experiment, frame: pd.DataFrame, a: str, b: str) -> Evidence:
    """Share of b's memory that a saves: weights, their gradients, and the maps of the current batch, as in the paper.

    What the maps of replayed samples add is the same for both; the share with them goes beside it.
    """
    sizes = []
    for config in _at_paper_size(claim, experiment, a, b):
        parts = training_memory(config)
        rest = parts["weights"] + parts["gradients"]
        passes = 1 + METHODS[config.method].replay_passes * config.replay_batch_size / config.batch_size
        sizes.append((rest + parts["activations"] / passes, rest + parts["activations"]))
    (small, small_full), (large, large_full) = sizes
    saved, with_replay = 1 - small / large, 1 - small_full / large_full
    note = f"{saved:.0%} saved, {with_replay:.0%} with the maps of replayed samples (planned at its size, not run)"
    return computed(claim, a, b, saved, note)


def nothing_known(a: str, b: str, why: str) -> Evidence:
    """Evidence of a comparison that nothing was run or measured for."""
    return Evidence(a, b, Interval(np.nan, np.nan, np.nan, 0), note=why)


def computed(claim: Claim, a: str, b: str, value: float, note: str) -> Evidence:
    """Evidence from a number that needs no runs: it reaches the claim's ratio, or not."""
    outcome = REPRODUCED if value >= claim.ratio * (1 - RATIO_TOLERANCE) else NOT
    return Evidence(a, b, Interval(value, value, value, 1), note=note, outcome=outcome)


def _at_paper_size(claim: Claim, experiment: Experiment, *rows: str) -> list[RunConfig]:
    size = {"profile": "paper", "dataset": claim.dataset}
    return [RunConfig(**(experiment.row(name).values | size)) for name in rows]


def _flops_below(claim: Claim, experiment: Experiment, frame: pd.DataFrame, a: str, b: str) -> Evidence:
    left, right = paired(frame, a, b, "flops_honest")
    if not len(left):
        return nothing_known(a, b, "no runs of both rows")
    ratios = left / right
    effect = Interval(float(ratios.mean()), float(ratios.min()), float(ratios.max()), len(ratios))
    low, mean, high = (f"{100 * (value - 1):+.1f}" for value in (effect.low, effect.mean, effect.high))
    spread = "the same in every run" if low == high else f"from {low} to {high}"
    note = f"{mean} % honest FLOPs, {spread}, n {effect.n}"
    return Evidence(a, b, effect, note=note, outcome=REPRODUCED if effect.high < 1 else NOT)


RULES = {
    "not_below": _accuracy,
    "above": _accuracy,
    "flops_ratio": _flops_ratio,
    "flops_below": _flops_below,
    "memory_saving": _memory_saving,
}


def _verdict(evidence: list[Evidence]) -> str:
    """One outcome when all agree, `partly` when mixed; but a mean alone does not make up for a failure beside it."""
    outcomes = {e.outcome for e in evidence}
    if UNTESTABLE in outcomes:
        return UNTESTABLE
    if outcomes == {PARTLY, NOT}:
        return NOT
    return outcomes.pop() if len(outcomes) == 1 else PARTLY


def _reason(evidence: list[Evidence]) -> str:
    notes = [e.note for e in evidence if e.outcome == UNTESTABLE]
    return notes[0] if notes else ""


def _correct(evidence: list[Evidence]) -> None:
    """Holm's correction over every test of the list."""
    tested = [e for e in evidence if e.p is not None]
    if tested:
        for entry, corrected in zip(tested, holm([e.p for e in tested]), strict=True):
            entry.p_holm = float(corrected)
