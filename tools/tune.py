"""Choose hyper-parameters on validation data: 20 % of the training data, never the test set.

Run it as `python tools/tune.py STREAM [FAMILY ...]`. The streams `lite` and `desk` are those of the profiles, `lightcl`
and `lightcl-desk` those of LightCL's table, after pre-training, at each; a family is a row of the papers' tables,
whatever its buffer and loss. Runs are kept in `build/tuning`, so that an interrupted call goes on; the outcome goes to
`results/tuning/STREAM.csv`, where the lines of other families stay. The best line of each family is what
`sparcl_lite/profiles.toml` says; a test compares the two. Seeds differ from those of the results, so class orders and
subsets differ too. A run that diverges counts as 0 %.

At `desk` runs are long: `--rates` learning rates are tried, from one outwards that was chosen before (the
published one, in LightCL's table that of `lite`), and `--seeds` seeds; more of either reuse the runs of fewer.
`--cost` says how many core-hours that takes, and trains nothing.
"""

import argparse
from collections.abc import Iterable
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
SEEDS = (1000, 1001)
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


def by_window(families: Iterable[str]) -> pd.DataFrame:
    """Rows of SparCL's tables at `lite`, each with its five learning rates; the best of each."""
    return with_best(
        measured(with_rates("lite", {f: [LITE[f] * 2**step for step in range(5)] for f in families}), SEEDS)
    )


def outwards(candidates: list[Candidate], seeds: int) -> pd.DataFrame:
    """Rows at `desk`, each with so many learning rates; the best of each."""
    print(f"about {core_hours(candidates, seeds):.1f} core-hours in all, what is in build/tuning included", flush=True)
    return with_best(measured(candidates, range(SEEDS[0], SEEDS[0] + seeds)).assign(seeds=seeds))


def around_published(families: Iterable[str], rates: int) -> list[Candidate]:
    """So many learning rates of each row of `DESK`."""
    return with_rates("desk", {family: around(DESK[family], rates) for family in families})


def around_lite(rows: Iterable[str], rates: int) -> list[Candidate]:
    """So many learning rates of each row of LightCL's table; the terms' own weights are those of the profile."""
    lite, desk = (lightcl.table1(profile=profile) for profile in ("lite", "desk"))
    return [
        ({"family": row, "lr": lr}, desk.shared | desk.row(row).values | {"lr": lr})
        for row in rows
        for lr in around(lite.configs(lite.row(row), 1)[0].lr, rates)
    ]


def around(rate: float, count: int) -> list[float]:
    """A learning rate and the next ones on both sides."""
    return sorted(float(f"{rate * step:.2g}") for step in STEPS[:count])


def with_rates(profile: str, rates: dict[str, list[float]]) -> list[Candidate]:
    """Rows of SparCL's and CLFD's tables at the buffer of tuning, by family, each with its learning rates."""
    shared = {"profile": profile}
    tables = (
        sparcl.table1(buffers=(BUFFER,), masked=()),
        sparcl.table2(buffer=BUFFER),
        frontier(buffer=BUFFER, sparsities=(0.75, 0.90, 0.95)),
    )
    rows = {row.id.removesuffix(f"-{BUFFER}"): row.values for experiment in tables for row in experiment.rows}
    return [({"family": f, "lr": lr}, shared | rows[f] | {"lr": lr}) for f in rates for lr in rates[f]]


def by_search(rows: Iterable[str]) -> pd.DataFrame:
    """Rows of LightCL's table, each with the candidates of its two steps; the best of each row."""
    experiment, rows = lightcl.table1(profile="lite"), list(rows)

    def candidate(row: str, values: dict[str, float]) -> Candidate:
        return {"family": row} | values, experiment.shared | experiment.row(row).values | values

    rates = {row: [LIGHTCL[row][0] * 2**step for step in range(6)] for row in rows}
    first = measured([candidate(row, {"lr": lr} | LIGHTCL[row][1]) for row in rows for lr in rates[row]], SEEDS)
    best = with_best(first).query("best").set_index("family")["lr"]
    second = measured([candidate(row, values) for row in rows for values in refined(row, best[row])], SEEDS)
    return with_best(pd.concat([first, second], ignore_index=True))


def refined(row: str, lr: float) -> list[dict[str, float]]:
    """The second step of a row: around its first weight, or around its learning rate."""
    _, weights = LIGHTCL[row]
    name, factors = (next(iter(weights)), LOWER_WEIGHTS.get(row, WEIGHTS)) if weights else ("lr", FINER)
    values = {"lr": lr} | weights
    return [values | {name: float(f"{factor * values[name]:.3g}")} for factor in factors]


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


#: How each stream is tuned, and its families; at `desk`: what is tried.
STREAMS = {"lite": (by_window, LITE), "lightcl": (by_search, LIGHTCL)}
AT_DESK = {"desk": (around_published, DESK), "lightcl-desk": (around_lite, LIGHTCL)}


def main() -> None:
    """Validate the given names (all when none is given) and write them among the others' lines."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("stream", choices=(*STREAMS, *AT_DESK))
    parser.add_argument("families", nargs="*", metavar="family", help="all when left out")
    parser.add_argument(
        "--rates", type=int, default=3, choices=range(1, len(STEPS) + 1), help="at desk, of each family"
    )
    parser.add_argument("--seeds", type=int, default=1, help="at desk, of each candidate")
    parser.add_argument("--cost", action="store_true", help="at desk: say the core-hours, and train nothing")
    given = parser.parse_args()
    tuned, known = (STREAMS | AT_DESK)[given.stream]
    if unknown := set(given.families) - set(known):
        parser.error(f"no grid for {', '.join(sorted(unknown))}; allowed: {', '.join(known)}")
    chosen, outcome = given.families or list(known), TUNING / f"{given.stream}.csv"
    if given.cost and given.stream in STREAMS:
        parser.error(f"the cost of {given.stream} is not known; allowed: {', '.join(AT_DESK)}")
    if given.cost:
        hours = {family: core_hours(tuned([family], given.rates), given.seeds) for family in chosen}
        print("\n".join(f"{family:22} {value:5.2f}" for family, value in hours.items()))
        print(f"{'core-hours':22} {sum(hours.values()):5.2f}")
        return
    table = tuned(chosen) if given.stream in STREAMS else outwards(tuned(chosen, given.rates), given.seeds)
    if outcome.exists():
        others = pd.read_csv(outcome)
        table = pd.concat([others[~others["family"].isin(chosen)], table])
    last = [*METRICS, "best"]
    table = table[[*table.columns.difference(last, sort=False), *last]]
    table = table.sort_values("family", key=lambda names: names.map([*known].index), kind="stable")
    outcome.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(outcome, index=False)
    print(table[table["best"]].to_string(index=False))


if __name__ == "__main__":
    main()
