"""Rules of LightCL's claims: its table's own accounting, and measured memory."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from sparcl_lite.measure.statistics import CONTRADICTED, INCONCLUSIVE, REPRODUCED, Interval
from sparcl_lite.papers.claims import Claim
from sparcl_lite.papers.differences import inside
from sparcl_lite.papers.experiments import Experiment
from sparcl_lite.papers.judge import Rule, counted, honest_flops, nothing_known
from sparcl_lite.papers.lightcl.accounting import flops, memory, readings
from sparcl_lite.papers.measured import made_by, measurements
from sparcl_lite.papers.verdicts import Evidence
from sparcl_lite.runs.store import Store

PEAKS = "lightcl-memory"  # {"peak_bytes": {row: bytes}, ...}


def rules(store: Store) -> dict[str, Rule]:
    """Rules by name; `memory_measured` looks at the benchmarks beside `store`'s runs."""
    return {
        "honest_flops": _flops_ratio,
        "memory_ratio": _memory_ratio,
        "memory_measured": partial(_memory_measured, measurements(store).get(PEAKS)),
    }


def _flops_ratio(claim: Claim, experiment: Experiment, frame: pd.DataFrame, a: str, b: str) -> Evidence:
    """Honest FLOPs of b / a, beside the ratio as Table 1 counts."""
    return honest_flops(claim, experiment, a, b, flops(b, claim.dataset) / flops(a, claim.dataset))


def _memory_ratio(claim: Claim, experiment: Experiment, frame: pd.DataFrame, a: str, b: str) -> Evidence:
    """Memory of b / a as Table 1 counts it: every reading of what a's frozen part holds has to reach the ratio."""
    (large,) = (sum(memory(b, claim.dataset, reading).values()) for reading in readings(b))
    found = {name: large / sum(memory(a, claim.dataset, name).values()) for name in readings(a)}
    reached = [ratio >= claim.bound for ratio in found.values()]
    outcome = REPRODUCED if all(reached) else INCONCLUSIVE if any(reached) else CONTRADICTED
    ratios = np.array(list(found.values()))
    effect = Interval(float(np.median(ratios)), float(ratios.min()), float(ratios.max()), len(ratios))
    note = ", ".join(f"{ratio:.2f}x ({name})" for name, ratio in found.items())
    note += "; what the frozen part holds is not known; planned at its size, not run"
    return Evidence(a, b, effect, note, outcome, claim.ratio, inside(effect, claim.ratio))


def _memory_measured(
    peaks: dict[str, Any] | None, claim: Claim, experiment: Experiment, frame: pd.DataFrame, a: str, b: str
) -> Evidence:
    """Measured peak of b / a, which has to reach the ratio without a tolerance."""
    if peaks is None or not {a, b} <= set(peaks["peak_bytes"]):
        return nothing_known(a, b, "not measured")
    small, large = (peaks["peak_bytes"][row] for row in (a, b))
    note = f"{large / small:.2f}x: {large / 1e6:,.0f} MB against {small / 1e6:,.0f} MB at the peak"
    evidence = counted(claim, a, b, large / small, note)
    evidence.runs = made_by(peaks)
    return evidence
