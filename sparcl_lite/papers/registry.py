"""All papers' experiments and claims in one place, for those who show them together."""

from sparcl_lite.papers.claims import Judged
from sparcl_lite.papers.experiments import Experiment
from sparcl_lite.papers.ksparse import judge as ksparse
from sparcl_lite.papers.lightcl import judge as lightcl
from sparcl_lite.papers.lightcl.experiments import EXPERIMENTS as LIGHTCL
from sparcl_lite.papers.sparcl import judge as sparcl
from sparcl_lite.papers.sparcl.experiments import EXPERIMENTS as SPARCL
from sparcl_lite.store import Store

__all__ = ["ALL_SEEDS", "EXPERIMENTS", "experiments", "judged"]

EXPERIMENTS = SPARCL | LIGHTCL
ALL_SEEDS = 10  # no row's evidence has more


def experiments(profile: str, dataset: str = "") -> dict[str, Experiment]:
    """Every experiment of training runs by name, at a profile and a data set (empty: the profile's own)."""
    shared = {"profile": profile} | ({"dataset": dataset} if dataset else {})
    return {name: make(**shared) for name, make in EXPERIMENTS.items()}


def judged(store: Store, *, profile: str, dataset: str = "", seeds: int = ALL_SEEDS) -> list[Judged]:
    """Every claim with its verdict, from the runs that `store` holds; trains nothing."""
    known = experiments(profile, dataset)
    frames = {name: experiment.stored(seeds=seeds, store=store) for name, experiment in known.items()}
    trained = [paper.judge_claims(known, frames, store) for paper in (sparcl, lightcl)]
    return [entry for entries in trained for entry in entries] + ksparse.judged(store, profile=profile, seeds=seeds)
