"""All papers' experiments and claims in one place, for those who show them together."""

import pandas as pd

from sparcl_lite.papers.claims import claims
from sparcl_lite.papers.experiments import Experiment
from sparcl_lite.papers.judge import judge
from sparcl_lite.papers.ksparse import judge as ksparse
from sparcl_lite.papers.ksparse.experiment import ClusteringExperiment
from sparcl_lite.papers.ksparse.experiments import EXPERIMENTS as KSPARSE
from sparcl_lite.papers.lightcl import judge as lightcl
from sparcl_lite.papers.lightcl.experiments import EXPERIMENTS as LIGHTCL
from sparcl_lite.papers.sparcl import judge as sparcl
from sparcl_lite.papers.sparcl.experiments import EXPERIMENTS as SPARCL
from sparcl_lite.papers.verdicts import Judged
from sparcl_lite.runs.store import Store

__all__ = ["ALL_SEEDS", "EXPERIMENTS", "experiments", "judge_claims", "judged"]

EXPERIMENTS = SPARCL | LIGHTCL
ALL_SEEDS = 10  # no row's evidence has more
RULES = {"sparcl": sparcl.rules, "lightcl": lightcl.rules, "ksparse": ksparse.rules}


def experiments(profile: str, dataset: str = "") -> dict[str, Experiment]:
    """Every experiment of training runs by name, at a profile and a data set (empty: the profile's own)."""
    shared = {"profile": profile} | ({"dataset": dataset} if dataset else {})
    return {name: make(**shared) for name, make in EXPERIMENTS.items()}


def judge_claims(
    known: dict[str, Experiment | ClusteringExperiment], frames: dict[str, pd.DataFrame], store: Store
) -> list[Judged]:
    """Verdicts on the claims of all papers that belong to the given experiments.

    `frames` holds their runs; the benchmarks beside those of `store` are looked at, too.
    """
    return [entry for paper, rules in RULES.items() for entry in judge(claims(paper), known, frames, rules(store))]


def judged(store: Store, *, profile: str, dataset: str = "", seeds: int = ALL_SEEDS) -> list[Judged]:
    """Every claim with its verdict, from the runs and clusterings that `store` holds; makes none."""
    known = experiments(profile, dataset) | {name: make(profile=profile) for name, make in KSPARSE.items()}
    frames = {name: experiment.stored(seeds=seeds, store=store) for name, experiment in known.items()}
    return judge_claims(known, frames, store)
