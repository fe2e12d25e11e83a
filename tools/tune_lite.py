"""Choose the hyper-parameters of the `lite` profile on validation data: 20 % of the training data, never the test set.

Run it as `python tools/tune_lite.py STREAM [NAME ...]`. The stream `lite` is the profile's own, `lightcl` that of
LightCL's table, after pre-training; the names are methods of the one, rows of the other. Runs are kept in
`build/tuning`, the outcome goes to `results/tuning/STREAM.csv`, where lines of names that are not given stay.
The best line of each method and buffer, or of each row, is what `sparcl_lite/profiles.toml` says for `lite`; a test
compares the two. Seeds differ from those of the results, so class orders and subsets differ too. A run that diverges
counts as 0 %.
"""

import sys
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from sparcl_lite import RunConfig, Store, sweep
from sparcl_lite.papers.lightcl.tables import table1
from sparcl_lite.sweeps import SweepError

ROOT = Path(__file__).parent.parent
SEEDS = (1000, 1001, 1002)
TWO = SEEDS[:2]
MORE_SEEDS = {"ewc": (1003, 1004, 1005)}  # a stiff penalty lets it diverge on some seeds only
BUFFERS = (200, 500)
LITE: dict[str, dict[str, tuple]] = {
    "sgd": {"lr": (0.01, 0.03, 0.06)},
    "joint": {"lr": (0.01, 0.03, 0.06)},
    "er": {"buffer_size": BUFFERS, "lr": (0.01, 0.03, 0.06)},
    "der": {"buffer_size": BUFFERS, "lr": (0.03, 0.06), "alpha": (0.3, 1.0)},
    "der++": {"buffer_size": BUFFERS, "lr": (0.03, 0.06), "alpha": (0.1, 0.3), "beta": (0.5, 1.0)},
    "ewc": {"lr": (0.01,), "penalty": (10.0, 100.0)},  # at 0.03, seed 0 of the results diverged in its fourth task
    "lwf": {"lr": (0.01, 0.03), "alpha": (1.0, 3.0)},
    "agem": {"buffer_size": BUFFERS, "lr": (0.03, 0.06)},
    "icarl": {"buffer_size": BUFFERS, "lr": (0.03, 0.1)},
    "fdr": {"buffer_size": BUFFERS, "lr": (0.03, 0.06)},
    "packnet": {"lr": (0.03, 0.06)},
    "lps": {"lr": (0.03, 0.06), "penalty": (0.001, 0.01)},
}
#: Rows of LightCL's table, all with as many candidates. First the learning rates, at the weights that are named here;
#: then, at the best of them, other values of the first weight, or of the learning rate where a row has no weight.
LIGHTCL: dict[str, dict[str, float]] = {
    "joint": {},
    "sgd": {},
    "ewc": {"penalty": 10.0},
    "pnn": {},
    "fdr-15": {},
    "er-15": {},
    "der++-15": {"alpha": 0.1, "beta": 0.5},
    "sparcl-er-0.90-15": {},
    "sparcl-der++-0.90-15": {"alpha": 0.1, "beta": 0.5},
    "freeze": {},
    "er-frozen-15": {},
    "lightcl-15": {"beta": 2e-4},
    "lightcl-0.90-15": {"beta": 2e-4},
}
RATES = (0.0075, 0.015, 0.03, 0.06, 0.12, 0.24)
WEIGHTS = (0.1, 0.3, 3.0, 10.0)  # times the weight
FINER = (0.6, 0.8, 1.25, 1.6)  # times the learning rate
METRICS = ["class_il", "task_il"]
Candidate = tuple[dict[str, Any], dict[str, Any]]  # a line's first columns, and the fields of its runs


def by_grid(methods: Iterable[str]) -> pd.DataFrame:
    """Each method with every combination of its grid, on the profile's own stream; the best of each buffer."""
    lines = [
        {"method": method} | dict(zip(LITE[method], values, strict=True))
        for method in methods
        for values in product(*LITE[method].values())
    ]
    table = measured([(line, {"profile": "lite"} | line) for line in lines], SEEDS)
    return with_best(table, [name for name in ("method", "buffer_size") if name in table])


def by_search(rows: Iterable[str]) -> pd.DataFrame:
    """Rows of LightCL's table, each with the candidates of its two steps; the best of each row."""
    experiment, rows = table1(profile="lite"), list(rows)

    def candidate(row: str, values: dict[str, float]) -> Candidate:
        return {"family": row} | values, experiment.shared | experiment.row(row).values | values

    first = measured([candidate(row, {"lr": lr} | LIGHTCL[row]) for row in rows for lr in RATES], TWO)
    best = with_best(first, ["family"]).query("best").set_index("family")["lr"]
    second = measured([candidate(row, values) for row in rows for values in refined(best[row], LIGHTCL[row])], TWO)
    return with_best(pd.concat([first, second], ignore_index=True), ["family"])


def refined(lr: float, weights: dict[str, float]) -> list[dict[str, float]]:
    """The second step of a row: around its first weight, or around its learning rate."""
    name, factors = (next(iter(weights)), WEIGHTS) if weights else ("lr", FINER)
    values = {"lr": lr} | weights
    return [values | {name: float(f"{factor * values[name]:.3g}")} for factor in factors]


def measured(candidates: list[Candidate], seeds: tuple[int, ...]) -> pd.DataFrame:
    """One line per candidate: its columns, and its mean validation accuracy over the seeds (for some, `MORE_SEEDS`)."""
    runs = [
        (columns, RunConfig(**fields, holdout="validation", seed=seed))
        for columns, fields in candidates
        for seed in (*seeds, *MORE_SEEDS.get(columns.get("method", ""), ()))
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


def with_best(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The table and whether a line is the best of its group; Task-IL breaks ties, and is all PackNet and PNN have."""
    ranked = table.sort_values(METRICS, ascending=False, kind="stable")
    return table.assign(best=~ranked.duplicated(by).reindex(table.index)).round(dict.fromkeys(METRICS, 4))


#: How each stream is tuned, its names, and the column that has them.
STREAMS = {"lite": (by_grid, LITE, "method"), "lightcl": (by_search, LIGHTCL, "family")}


def main(stream: str = "", *names: str) -> None:
    """Validate the given names (all when none is given) and write them among the others' lines."""
    if stream not in STREAMS:
        sys.exit(f"stream = {stream!r}; allowed: {', '.join(STREAMS)}")
    tuned, known, column = STREAMS[stream]
    unknown = set(names) - set(known)
    if unknown:
        sys.exit(f"no grid for {', '.join(sorted(unknown))}; allowed: {', '.join(known)}")
    chosen, outcome = list(names or known), ROOT / "results" / "tuning" / f"{stream}.csv"
    table = tuned(chosen)
    if outcome.exists():
        others = pd.read_csv(outcome)
        table = pd.concat([others[~others[column].isin(chosen)], table])
    last = [*METRICS, "best"]
    table = table[[*table.columns.difference(last, sort=False), *last]]
    table = table.sort_values(column, key=lambda names: names.map([*known].index), kind="stable")
    outcome.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(outcome, index=False)
    print(table[table["best"]].to_string(index=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
