"""Rules of CLFD's claims beside those of all papers: measured time and memory of whole runs."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from sparcl_lite.measure.statistics import t_interval
from sparcl_lite.papers.claims import Claim
from sparcl_lite.papers.clfd.frontier import family_of
from sparcl_lite.papers.experiments import Experiment
from sparcl_lite.papers.judge import Rule, nothing_known
from sparcl_lite.papers.measured import made_by, measurements
from sparcl_lite.papers.verdicts import Evidence, from_seeds
from sparcl_lite.runs.store import Store

COSTS = "frontier-{profile}"  # the benchmark of an experiment's profile


def rules(store: Store) -> dict[str, Rule]:
    """Rules by name, which look at the benchmarks beside `store`'s runs."""
    found = measurements(store)
    return {
        "measured_cost": partial(_ratio, found, "seconds", "of the processor time"),
        "measured_memory": partial(_ratio, found, "peak_bytes", "of the peak memory"),
    }


def _ratio(
    found: dict[str, dict], what: str, words: str, claim: Claim, experiment: Experiment, frame: pd.DataFrame, a: str,
    b: str,
) -> Evidence:  # fmt: skip
    """Cost of b / a, whose mean over alternating rounds has to be above the ratio."""
    report: dict[str, Any] = found.get(COSTS.format(profile=experiment.shared.get("profile", "lite")), {})
    costs, small, large = report.get(what, {}), family_of(a), family_of(b)
    if not {small, large} <= set(costs):
        return nothing_known(a, b, "not measured")
    effect = t_interval(np.array(costs[large]) / np.array(costs[small]), claim.level)
    note = (
        f"{b} takes {effect.mean:.2f}x [{effect.low:.2f}, {effect.high:.2f}] {words}, {effect.n} rounds, "
        f"one thread of {report['environment']['processor']}"
    )
    return from_seeds(claim, a, b, effect, paper=claim.ratio, note=note, runs=made_by(report))
