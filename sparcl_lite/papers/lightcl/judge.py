"""Verdicts on LightCL's claims: its table's own accounting, and measured memory beside the rules of all papers."""

from functools import partial

import numpy as np
import pandas as pd

from sparcl_lite.measure.statistics import Interval
from sparcl_lite.papers.claims import (
    NOT,
    PARTLY,
    RATIO_TOLERANCE,
    REPRODUCED,
    Claim,
    Evidence,
    Judged,
    claims,
    computed,
    judge,
    nothing_known,
)
from sparcl_lite.papers.experiments import Experiment
from sparcl_lite.papers.lightcl.accounting import flops, memory, readings
from sparcl_lite.papers.measured import measurement
from sparcl_lite.store import Store

PEAKS = "lightcl-memory"  # {"peak_bytes": {row: bytes}, ...}


def judge_claims(experiments: dict[str, Experiment], frames: dict[str, pd.DataFrame], store: Store) -> list[Judged]:
    """Verdicts on the claims that belong to the given experiments, also from the benchmarks beside `store`'s runs."""
    listed = [claim for claim in claims("lightcl") if claim.rule == "untestable" or claim.experiment in experiments]
    further = {
        "flops_ratio": _flops_ratio,
        "memory_ratio": _memory_ratio,
        "memory_measured": partial(_memory_measured, measured_peaks(store)),
    }
    return judge(listed, experiments, frames, further)


def measured_peaks(store: Store) -> dict[str, int]:
    """Peak training memory in bytes by row, all measured on one machine; empty where nothing was."""
    found = measurement(store, PEAKS)
    return found["peak_bytes"] if found else {}


def _flops_ratio(claim: Claim, experiment: Experiment, frame: pd.DataFrame, a: str, b: str) -> Evidence:
    """FLOPs of b / a as Table 1 counts them."""
    ratio = flops(b, claim.dataset) / flops(a, claim.dataset)
    return computed(claim, a, b, ratio, f"{ratio:.2f}x as Table 1 counts (planned at its size, not run)")


def _memory_ratio(claim: Claim, experiment: Experiment, frame: pd.DataFrame, a: str, b: str) -> Evidence:
    """Memory of b / a as Table 1 counts it, by every reading of what a's frozen part holds."""
    (large,) = (sum(memory(b, claim.dataset, reading).values()) for reading in readings(b))
    found = {name: large / sum(memory(a, claim.dataset, name).values()) for name in readings(a)}
    reached = [ratio >= claim.ratio * (1 - RATIO_TOLERANCE) for ratio in found.values()]
    outcome = REPRODUCED if all(reached) else PARTLY if any(reached) else NOT
    ratios = np.array(list(found.values()))
    effect = Interval(float(np.median(ratios)), float(ratios.min()), float(ratios.max()), len(ratios))
    note = ", ".join(f"{ratio:.2f}x ({name})" for name, ratio in found.items())
    return Evidence(a, b, effect, note=f"{note}; planned at its size, not run", outcome=outcome)


def _memory_measured(
    peaks: dict[str, int], claim: Claim, experiment: Experiment, frame: pd.DataFrame, a: str, b: str
) -> Evidence:
    """Measured peak of b / a, which has to reach the ratio in full."""
    if not {a, b} <= set(peaks):
        return nothing_known(a, b, "not measured")
    ratio = peaks[b] / peaks[a]
    note = f"{ratio:.2f}x: {peaks[b] / 1e6:,.0f} MB against {peaks[a] / 1e6:,.0f} MB at the peak"
    outcome = REPRODUCED if ratio >= claim.ratio else NOT
    return Evidence(a, b, Interval(ratio, ratio, ratio, 1), note=note, outcome=outcome)
