"""Choose hyper-parameters on validation data: 20 % of the training data, never the test set.

Run it as `python tools/tune.py STREAM [FAMILY ...]`. The streams `lite` and `desk` are those of the profiles, `lightcl`
and `lightcl-desk` those of LightCL's table, after pre-training, at each; a family is a row of the papers' tables,
whatever its buffer and loss. Runs are kept in `build/tuning`, so that an interrupted call goes on; the outcome goes to
`results/tuning/STREAM.csv`, where the lines of other families stay. The best line of each family is what
`sparcl_lite/profiles.toml` says; a test compares the two. Seeds differ from those of the results, so class orders and
subsets differ too. A run that diverges counts as 0 %.

`--rates` learning rates are tried and `--seeds` seeds; more of either reuse the runs of fewer. At `desk` runs are long:
there are fewer of both, outwards from a rate that was chosen before (the published one, in LightCL's table that of
`lite`), and `--cost` says how many core-hours they take, and trains nothing.
"""

import argparse
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from pilot_desk import SIZES

from sparcl_lite import RunConfig, Store, sweep
from sparcl_lite.papers.clfd.frontier import frontier
from sparcl_lite.papers.lightcl import tables as lightcl
from sparcl_lite.papers.sparcl import tables as sparcl
from sparcl_lite.planning import planned
from sparcl_lite.runs.sweep import SweepError

ROOT = Path(__file__).parent.parent
TUNING = ROOT / "results" / "tuning"
SEEDS = 1000  # the first of those that are used nowhere else
BUFFER = 200
#: Rows of SparCL's Tables 1 and 2, at the smaller buffer, by the lowest of five learning rates, each twice the one
#: before. The terms' own weights are the papers'. Windows were moved until no choice was on an edge.
LITE: dict[str, float] = {
    "sgd": 0.06,
    "joint": 0.03,
    "ewc": 0.03,
    "lwf": 0.0075,
    "packnet": 0.03,
    "lps": 0.03,
    "a-gem": 0.03,
    "icarl": 0.06,
    "fdr": 0.03,
    "er": 0.03,
    "der++": 0.03,
    "sparcl-er-0.75": 0.03,
    "sparcl-er-0.90": 0.03,
    "sparcl-er-0.95": 0.03,
    "sparcl-der++-0.75": 0.03,
    "sparcl-der++-0.90": 0.03,
    "sparcl-der++-0.95": 0.03,
    "snip-der++-0.90": 0.12,
    "snip-der++-0.95": 0.03,
    "rigl-der++-0.90": 0.06,
    "rigl-der++-0.95": 0.12,
    "random-der++-0.90": 0.06,
    "random-der++-0.95": 0.03,
}
#: Rows of LightCL's table, all with as many candidates: by the lowest of six learning rates, tried at the weights that
#: are named here (the papers'). Then, at the best of them, four other values of the first weight, or of the learning
#: rate where a row has no weight of its own. Windows were moved as above.
LIGHTCL: dict[str, tuple[float, dict[str, float]]] = {
    "joint": (0.015, {}),
    "sgd": (0.001875, {}),
    "ewc": (0.0009375, {"penalty": 10.0}),
    "pnn": (0.0075, {}),
    "fdr-15": (0.0075, {}),
    "er-15": (0.015, {}),
    "der++-15": (0.0075, {"alpha": 0.1, "beta": 0.5}),
    "sparcl-er-0.90-15": (0.0075, {}),
    "sparcl-der++-0.90-15": (0.015, {"alpha": 0.1, "beta": 0.5}),
    "freeze": (0.0075, {}),
    "er-frozen-15": (0.0075, {}),
    "lightcl-15": (0.00375, {"beta": 2e-4}),
    "lightcl-0.90-15": (0.0075, {"beta": 2e-4}),
}
#: Rows of SparCL's Tables 1 and 2, of CLFD's Tables 1 and 3 and of the frontier. The rates tried are the first of
#: `STEPS` times the published one, which SparCL's and CLFD's rows have from the method below.
DESK: dict[str, float] = {
    **dict.fromkeys(("sgd", "joint"), 0.1),
    **{
        family: rate
        for method, rate in (("er", 0.1), ("der++", 0.03), ("er-ace", 0.03))
        for family in (
            method,
            *(f"sparcl-{method}-{sparsity}" for sparsity in ("0.75", "0.90", "0.95")),
            f"clfd-{method}",
            *(f"clfd-sparcl-{method}-{sparsity}" for sparsity in ("0.75", "0.90", "0.95")),
        )
    },
    **{f"{kind}-der++-{s}": 0.03 for kind in ("snip", "rigl", "random") for s in ("0.90", "0.95")},
}
STEPS = (1.0, 3.0, 1 / 3, 9.0, 1 / 9, 27.0, 1 / 27)
WEIGHTS = (0.3, 3.0, 0.1, 10.0)  # times the weight; among equally good candidates the first is taken
LOWER_WEIGHTS = {"lightcl-0.90-15": (0.01, 0.03, 0.1, 0.3)}  # where the lowest was the best of these
FINER = (0.6, 0.8, 1.25, 1.6)  # times the learning rate
METRICS = ["class_il", "task_il"]
Candidate = tuple[dict[str, Any], dict[str, Any]]  # a line's first columns, and the fields of its runs


@dataclass(frozen=True)
class Stream:
    """How the rows of a stream are tuned: each at as many learning rates, on as many seeds."""

    families: Collection[str]
    candidates: Callable[[str, int], list[Candidate]]  # of a family, at so many learning rates
    rates: int
    seeds: int
    refined: Callable[[str, float], list[Candidate]] = lambda family, lr: []  # more of them, at the best of the rates


def tuned(stream: Stream, families: Iterable[str], rates: int, seeds: int) -> pd.DataFrame:
    """One line for each candidate of these families; the best of each family."""
    drawn = range(SEEDS, SEEDS + seeds)
    tried = measured([c for family in families for c in stream.candidates(family, rates)], drawn)
    best = with_best(tried).query("best").set_index("family")["lr"]
    if more := [c for family in families for c in stream.refined(family, best[family])]:
        tried = pd.concat([tried, measured(more, drawn)], ignore_index=True)
    return with_best(tried).assign(seeds=seeds)


def from_lowest(family: str, rates: int) -> list[Candidate]:
    """A row of SparCL's tables at `lite`: its lowest learning rate, and each twice the one before."""
    return with_rates(family, "lite", doubled(LITE[family], rates))


def around_published(family: str, rates: int) -> list[Candidate]:
    """A row of SparCL's or CLFD's tables or of the frontier at `desk`."""
    return with_rates(family, "desk", around(DESK[family], rates))


def with_rates(family: str, profile: str, rates: list[float]) -> list[Candidate]:
    """A row of SparCL's or CLFD's tables or of the frontier, at the buffer of tuning, with each learning rate."""
    values = {"profile": profile} | rows_by_family()[family]
    return [({"family": family, "lr": lr}, values | {"lr": lr}) for lr in rates]


@cache
def rows_by_family() -> dict[str, dict[str, Any]]:
    """The fields of each such row."""
    tables = (
        sparcl.table1(buffers=(BUFFER,), masked=()),
        sparcl.table2(buffer=BUFFER),
        frontier(buffer=BUFFER, sparsities=(0.75, 0.90, 0.95)),
    )
    return {row.id.removesuffix(f"-{BUFFER}"): row.values for table in tables for row in table.rows}


def with_weights(row: str, rates: int) -> list[Candidate]:
    """A row of LightCL's table at `lite`: learning rates at the terms' own weights."""
    lowest, weights = LIGHTCL[row]
    return [of_lightcl(row, "lite", {"lr": lr} | weights) for lr in doubled(lowest, rates)]


def refined(row: str, lr: float) -> list[Candidate]:
    """The second step of such a row: around its first weight, or around its learning rate."""
    _, weights = LIGHTCL[row]
    name, factors = (next(iter(weights)), LOWER_WEIGHTS.get(row, WEIGHTS)) if weights else ("lr", FINER)
    values = {"lr": lr} | weights
    return [of_lightcl(row, "lite", values | {name: float(f"{factor * values[name]:.3g}")}) for factor in factors]


def around_lite(row: str, rates: int) -> list[Candidate]:
    """A row of LightCL's table at `desk`; the terms' own weights are those of the profile."""
    lite = lightcl.table1(profile="lite")
    (chosen,) = lite.configs(lite.row(row), 1)
    return [of_lightcl(row, "desk", {"lr": lr}) for lr in around(chosen.lr, rates)]


def of_lightcl(row: str, profile: str, values: dict[str, float]) -> Candidate:
    """A row of LightCL's table with these values."""
    table = lightcl.table1(profile=profile)
    return {"family": row} | values, table.shared | table.row(row).values | values


def doubled(lowest: float, count: int) -> list[float]:
    """A learning rate, twice that, and so on."""
    return [lowest * 2**step for step in range(count)]


def around(rate: float, count: int) -> list[float]:
    """A learning rate and the next ones on both sides."""
    return sorted(float(f"{rate * step:.2g}") for step in STEPS[:count])


def measured(candidates: list[Candidate], seeds: Iterable[int]) -> pd.DataFrame:
    """One line per candidate: its columns, and its mean validation accuracy over the seeds."""
    runs = [
        (columns, RunConfig(**fields | {"holdout": "validation", "seed": seed}))
        for columns, fields in candidates
        for seed in seeds
    ]
    store = Store(ROOT / "build" / "tuning")
    try:
        sweep([config for _, config in runs], store=store)
    except SweepError as error:
        print(f"counted as 0 %: {error}")
    found = [(columns, store.get(config)) for columns, config in runs]
    lines = pd.DataFrame(
        columns | {name: getattr(result, name) if result else 0.0 for name in METRICS} for columns, result in found
    )
    keys = list(lines.columns.difference(METRICS, sort=False))
    return lines.groupby(keys, dropna=False, sort=False)[METRICS].mean().reset_index()


def with_best(table: pd.DataFrame) -> pd.DataFrame:
    """The table and whether a line is the best of its family.

    The best has the highest mean of Class-IL and Task-IL (of what there is: PackNet, LPS and PNN have no Class-IL).
    """
    ranked = table[METRICS].mean(axis=1).sort_values(ascending=False, kind="stable").index
    best = ~table["family"].reindex(ranked).duplicated()
    return table.assign(best=best.reindex(table.index)).round(dict.fromkeys(METRICS, 4))


def core_hours(candidates: list[Candidate], seeds: int) -> float:
    """What these runs take at `desk`, by the seconds per FLOP of their kind: `results/tuning/desk_seconds.csv`."""
    return seeds * sum(_seconds(RunConfig(**fields, holdout="validation")) for _, fields in candidates) / 3600


def _seconds(config: RunConfig) -> float:
    plan, kind = planned(config), "CLFD-" if config.clfd else ""
    whole = planned(config.model_copy(update={"sparse": None}))
    dense = whole.ledger.total * _per_flop(f"{kind}DER++") * plan.steps / whole.steps
    if not config.sparse:
        return dense
    level = "0.95" if config.clfd or config.sparse.sparsity > 0.925 else "0.90"
    return min(dense, plan.ledger.total * _per_flop(f"{kind}SparCL-DER++ {level}"))


@cache
def _per_flop(size: str) -> float:
    """Seconds of one core for each FLOP of a run of this size, counted honestly."""
    minutes = pd.read_csv(TUNING / "desk_seconds.csv").set_index("size").loc[size, "minutes"]
    return 60 * minutes / planned(RunConfig(**SIZES[size])).ledger.total


STREAMS = {
    "lite": Stream(LITE, from_lowest, rates=5, seeds=2),
    "lightcl": Stream(LIGHTCL, with_weights, rates=6, seeds=2, refined=refined),
    "desk": Stream(DESK, around_published, rates=3, seeds=1),
    "lightcl-desk": Stream(LIGHTCL, around_lite, rates=3, seeds=1),
}
AT_DESK = ("desk", "lightcl-desk")


def main() -> None:
    """Validate the given names (all when none is given) and write them among the others' lines."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("stream", choices=STREAMS)
    parser.add_argument("families", nargs="*", metavar="family", help="all when left out")
    parser.add_argument("--rates", type=int, choices=range(1, len(STEPS) + 1), help="of each family")
    parser.add_argument("--seeds", type=int, help="of each candidate")
    parser.add_argument("--cost", action="store_true", help="at desk: say the core-hours, and train nothing")
    given = parser.parse_args()
    stream, outcome = STREAMS[given.stream], TUNING / f"{given.stream}.csv"
    if unknown := set(given.families) - set(stream.families):
        parser.error(f"no grid for {', '.join(sorted(unknown))}; allowed: {', '.join(stream.families)}")
    if given.cost and given.stream not in AT_DESK:
        parser.error(f"the cost of {given.stream} is not known; allowed: {', '.join(AT_DESK)}")
    chosen = given.families or list(stream.families)
    rates, seeds = given.rates or stream.rates, given.seeds or stream.seeds
    if given.stream in AT_DESK:
        hours = {family: core_hours(stream.candidates(family, rates), seeds) for family in chosen}
        for name, value in (*hours.items(), ("core-hours", sum(hours.values()))):
            print(f"{name:22} {value:5.2f}", flush=True)
    if given.cost:
        return
    table = tuned(stream, chosen, rates, seeds)
    if outcome.exists():
        others = pd.read_csv(outcome)
        table = pd.concat([others[~others["family"].isin(chosen)], table])
    last = ["seeds", *METRICS, "best"]
    table = table[[*table.columns.difference(last, sort=False), *last]]
    table = table.sort_values("family", key=lambda names: names.map([*stream.families].index), kind="stable")
    outcome.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(outcome, index=False)
    print(table[table["best"]].to_string(index=False))


if __name__ == "__main__":
    main()
