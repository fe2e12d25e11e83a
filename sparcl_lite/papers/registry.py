"""All papers' experiments and claims in one place, for those who show them together."""

from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from sparcl_lite.papers.claims import RUN_RULES, claims
from sparcl_lite.papers.clfd import judge as clfd
from sparcl_lite.papers.clfd.experiments import EXPERIMENTS as CLFD
from sparcl_lite.papers.experiments import Experiment
from sparcl_lite.papers.judge import judge
from sparcl_lite.papers.ksparse import judge as ksparse
from sparcl_lite.papers.ksparse.experiments import EXPERIMENTS as KSPARSE
from sparcl_lite.papers.lightcl import judge as lightcl
from sparcl_lite.papers.lightcl.experiments import EXPERIMENTS as LIGHTCL
from sparcl_lite.papers.measured import benchmarks
from sparcl_lite.papers.sparcl import judge as sparcl
from sparcl_lite.papers.sparcl.experiments import EXPERIMENTS as SPARCL
from sparcl_lite.papers.verdicts import Judged
from sparcl_lite.runs.evidence import Address
from sparcl_lite.runs.job import kind_of
from sparcl_lite.runs.store import Store

ALL_SEEDS = 10  # no row's evidence has more
RULES_OF = {"sparcl": sparcl.rules, "clfd": clfd.rules, "lightcl": lightcl.rules, "ksparse": ksparse.rules}


def experiments(profile: str, dataset: str = "") -> dict[str, Experiment]:
    """Every experiment by name, at a profile; those of continual learning on a data set (empty: the profile's own)."""
    shared = {"profile": profile} | ({"dataset": dataset} if dataset else {})
    continual = {name: make(**shared) for name, make in (SPARCL | CLFD | LIGHTCL).items()}
    return continual | {name: make(profile=profile) for name, make in KSPARSE.items()} | {"bench": benchmarks()}


def deciding(experiment: Experiment) -> list[str]:
    """The ids of its rows whose runs a claim compares, once each."""
    listed = [claim for paper in RULES_OF for claim in claims(paper) if claim.experiment == experiment.name]
    compared = [row for claim in listed if claim.rule in RUN_RULES for pair in claim.comparisons for row in pair]
    return list(dict.fromkeys(compared))


def planned(profile: str, dataset: str = "") -> dict[Address, tuple[str, str]]:
    """The first experiment and row of each run, by the kind and key that its first seed has (`row_of`)."""
    rows = [(e, row) for e in experiments(profile, dataset).values() for row in e.rows]
    return {(e.job.kind, e.configs(row, 1)[0].key): (e.name, row.id) for e, row in reversed(rows)}


def row_of(config: Any, rows: dict[Address, tuple[str, str]]) -> tuple[str, str] | None:
    """Experiment and row of a run among those `planned`, or None."""
    return rows.get((kind_of(config).kind, config.model_copy(update={"seed": 0}).key))


def export(store: Store, to: Path) -> dict[str, int]:
    """Write the runs of `store.root` as evidence, a file for each experiment that plans them; see `Store.export`.

    A run that no experiment plans goes to a file of its kind.
    """
    plans = cache(planned)

    def experiment_of(config: Any) -> str:
        row = row_of(config, plans(getattr(config, "profile", "lite")))
        return row[0] if row else kind_of(config).kind

    return store.export(to, experiment_of)


def judge_claims(known: dict[str, Experiment], frames: dict[str, pd.DataFrame], store: Store) -> list[Judged]:
    """Verdicts on the claims of all papers that belong to the given experiments.

    `frames` holds their runs; the benchmarks of `store` are looked at, too.
    """
    return [entry for paper, rules in RULES_OF.items() for entry in judge(claims(paper), known, frames, rules(store))]


def judged(store: Store, *, profile: str, dataset: str = "", seeds: int = ALL_SEEDS) -> list[Judged]:
    """Every claim with its verdict, from the runs that `store` holds; computes none."""
    known = experiments(profile, dataset)
    frames = {name: experiment.stored(seeds=seeds, store=store) for name, experiment in known.items()}
    return judge_claims(known, frames, store)
