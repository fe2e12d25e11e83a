"""Verdicts on SparCL's claims: measured speed beside the rules of all papers."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from sparcl_lite.measure.statistics import Interval
from sparcl_lite.papers.claims import NOT, REPRODUCED, Claim, Evidence, Judged, claims, judge, nothing_known
from sparcl_lite.papers.experiments import Experiment
from sparcl_lite.papers.measured import measurement
from sparcl_lite.store import Store

STEPS = "sweep-resnet18-64"  # what `sparcl-lite bench sweep` measured at the paper's width


def judge_claims(experiments: dict[str, Experiment], frames: dict[str, pd.DataFrame], store: Store) -> list[Judged]:
    """Verdicts on the claims that belong to the given experiments, also from the benchmarks beside `store`'s runs."""
    listed = [claim for claim in claims("sparcl") if claim.experiment in experiments]
    return judge(listed, experiments, frames, {"step_speedup": partial(_step_speedup, measurement(store, STEPS))})


def _step_speedup(
    steps: dict[str, Any] | None, claim: Claim, experiment: Experiment, frame: pd.DataFrame, a: str, b: str
) -> Evidence:
    """Dense over sparse time of a training step, which has to reach the ratio in the median of alternating rounds."""
    level = str(experiment.row(a).values["sparse"].sparsity)
    if steps is None or level not in steps["rounds_ms"]:
        return nothing_known(a, b, "not measured")
    rounds = steps["rounds_ms"]
    ratios = np.array(rounds[steps["dense_layout"]]) / np.array(rounds[level])
    effect = Interval(float(np.median(ratios)), float(ratios.min()), float(ratios.max()), len(ratios))
    threads = steps["settings"]["threads"]
    note = (
        f"{effect.mean:.2f}x (from {effect.low:.2f} to {effect.high:.2f} in {effect.n} rounds) a step, "
        f"{threads} threads of {steps['environment']['processor']}, against PyTorch's faster layout"
    )
    return Evidence(a, b, effect, note=note, outcome=REPRODUCED if effect.mean >= claim.ratio else NOT)
