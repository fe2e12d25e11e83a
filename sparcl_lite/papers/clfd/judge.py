"""Rules of CLFD's claims beside those of all papers: measured time and memory of whole runs."""

from functools import partial

import numpy as np
import pandas as pd

from sparcl_lite.measure.statistics import t_interval
from sparcl_lite.papers.claims import Claim
from sparcl_lite.papers.clfd.frontier import family_of
from sparcl_lite.papers.experiments import Experiment
from sparcl_lite.papers.judge import Rule, nothing_known
from sparcl_lite.papers.measured import cost_rounds, made_by
from sparcl_lite.papers.verdicts import Evidence, from_seeds
from sparcl_lite.runs.store import Store


def rules(store: Store) -> dict[str, Rule]:
    """Rules by name, which look at the benchmarks beside `store`'s runs."""
    return {
        "measured_cost": partial(_ratio, store, "seconds", "of the processor time"),
        "measured_memory": partial(_ratio, store, "peak_bytes", "of the peak memory"),
    }


def _ratio(
    store: Store, what: str, words: str, claim: Claim, experiment: Experiment, frame: pd.DataFrame, a: str, b: str
) -> Evidence:
    """Cost of b / a, whose mean over rounds has to be above the ratio."""
    reports = cost_rounds(store, experiment.shared.get("profile", "lite"))
    if not reports:
        return nothing_known(a, b, "not measured")
    ratios = [report[what][family_of(b)] / report[what][family_of(a)] for report in reports]
    effect = t_interval(np.array(ratios), claim.level)
    note = (
        f"{effect.mean:.2f}x [{effect.low:.2f}, {effect.high:.2f}] {words}, {effect.n} rounds, one thread of "
        f"{reports[0]['environment']['processor']}"
    )
    made = frozenset().union(*map(made_by, reports))
    return from_seeds(claim, a, b, effect, paper=claim.ratio, note=note, runs=made)
