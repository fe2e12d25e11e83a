"""Choose the hyper-parameters of the `lite` profile on validation data: 20 % of the training data, never the test set.

Run it as `python tools/tune_lite.py STREAM [FAMILY ...]`. The stream `lite` is the profile's own, `lightcl` that of
LightCL's table, after pre-training; a family is a row of the papers' tables, whatever its buffer and loss. Runs are
kept in `build/tuning`, the outcome goes to `results/tuning/STREAM.csv`, where the lines of other families stay.
The best line of each family is what `sparcl_lite/profiles.toml` says for `lite`; a test compares the two. Seeds differ
from those of the results, so class orders and subsets differ too. A run that diverges counts as 0 %.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from sparcl_lite import RunConfig, Store, sweep
from sparcl_lite.papers.lightcl import tables as lightcl
from sparcl_lite.papers.sparcl import tables as sparcl
from sparcl_lite.runs.sweep import SweepError

ROOT = Path(__file__).parent.parent
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
WEIGHTS = (0.3, 3.0, 0.1, 10.0)  # times the weight; among equally good candidates the first is taken
LOWER_WEIGHTS = {"lightcl-0.90-15": (0.01, 0.03, 0.1, 0.3)}  # where the lowest was the best of these
FINER = (0.6, 0.8, 1.25, 1.6)  # times the learning rate
METRICS = ["class_il", "task_il"]
Candidate = tuple[dict[str, Any], dict[str, Any]]  # a line's first columns, and the fields of its runs


def by_rate(families: Iterable[str]) -> pd.DataFrame:
    """Rows of SparCL's tables, each with its five learning rates; the best of each."""
    experiments = (sparcl.table1(buffers=(BUFFER,), masked=()), sparcl.table2(buffer=BUFFER))
    rows = {row.id.removesuffix(f"-{BUFFER}"): row.values for experiment in experiments for row in experiment.rows}
    rates = {family: [LITE[family] * 2**step for step in range(5)] for family in families}
    candidates = [
        ({"family": f, "lr": lr}, {"profile": "lite"} | rows[f] | {"lr": lr}) for f in rates for lr in rates[f]
    ]
    return with_best(measured(candidates))


def by_search(rows: Iterable[str]) -> pd.DataFrame:
    """Rows of LightCL's table, each with the candidates of its two steps; the best of each row."""
    experiment, rows = lightcl.table1(profile="lite"), list(rows)

    def candidate(row: str, values: dict[str, float]) -> Candidate:
        return {"family": row} | values, experiment.shared | experiment.row(row).values | values

    rates = {row: [LIGHTCL[row][0] * 2**step for step in range(6)] for row in rows}
    first = measured([candidate(row, {"lr": lr} | LIGHTCL[row][1]) for row in rows for lr in rates[row]])
    best = with_best(first).query("best").set_index("family")["lr"]
    second = measured([candidate(row, values) for row in rows for values in refined(row, best[row])])
    return with_best(pd.concat([first, second], ignore_index=True))


def refined(row: str, lr: float) -> list[dict[str, float]]:
    """The second step of a row: around its first weight, or around its learning rate."""
    _, weights = LIGHTCL[row]
    name, factors = (next(iter(weights)), LOWER_WEIGHTS.get(row, WEIGHTS)) if weights else ("lr", FINER)
    values = {"lr": lr} | weights
    return [values | {name: float(f"{factor * values[name]:.3g}")} for factor in factors]


def measured(candidates: list[Candidate]) -> pd.DataFrame:
    """One line per candidate: its columns, and its mean validation accuracy over the seeds."""
    runs = [
        (columns, RunConfig(**fields | {"holdout": "validation", "seed": seed}))
        for columns, fields in candidates
        for seed in SEEDS
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


#: How each stream is tuned, and its families.
STREAMS = {"lite": (by_rate, LITE), "lightcl": (by_search, LIGHTCL)}


def main(stream: str = "", *names: str) -> None:
    """Validate the given names (all when none is given) and write them among the others' lines."""
    if stream not in STREAMS:
        sys.exit(f"stream = {stream!r}; allowed: {', '.join(STREAMS)}")
    tuned, known = STREAMS[stream]
    unknown = set(names) - set(known)
    if unknown:
        sys.exit(f"no grid for {', '.join(sorted(unknown))}; allowed: {', '.join(known)}")
    chosen, outcome = list(names or known), ROOT / "results" / "tuning" / f"{stream}.csv"
    table = tuned(chosen)
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
    main(*sys.argv[1:])
