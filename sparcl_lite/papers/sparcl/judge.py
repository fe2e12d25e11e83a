"""Rules of SparCL's claims beside those of all papers: measured speed."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from sparcl_lite.measure.statistics import t_interval
from sparcl_lite.papers.claims import Claim
from sparcl_lite.papers.experiments import Experiment
from sparcl_lite.papers.judge import Rule, nothing_known
from sparcl_lite.papers.measured import made_by, measurements
from sparcl_lite.papers.verdicts import Evidence, from_seeds
from sparcl_lite.runs.store import Store

STEPS = "sweep-resnet18-64"  # what `sparcl-lite bench sweep` measured at the paper's width


def rules(store: Store) -> dict[str, Rule]:
    """Rules by name, which look at the benchmarks beside `store`'s runs."""
    return {"measured_speedup": partial(_step_speedup, measurements(store).get(STEPS))}


def _step_speedup(
    steps: dict[str, Any] | None, claim: Claim, experiment: Experiment, frame: pd.DataFrame, a: str, b: str
) -> Evidence:
    """Dense over sparse time of a training step, whose mean over alternating rounds has to be above the ratio."""
    level = str(experiment.row(a).values["sparse"].sparsity)
    if steps is None or level not in steps["rounds_ms"]:
        return nothing_known(a, b, "not measured")
    rounds = steps["rounds_ms"]
    effect = t_interval(np.array(rounds[steps["dense_layout"]]) / np.array(rounds[level]), claim.level)
    note = (
        f"{effect.mean:.2f}x [{effect.low:.2f}, {effect.high:.2f}] a step, {effect.n} rounds, "
        f"{steps['settings']['threads']} threads of {steps['environment']['processor']}, "
        "against PyTorch's faster layout"
    )
    return from_seeds(claim, a, b, effect, paper=claim.ratio, note=note, runs=made_by(steps))
