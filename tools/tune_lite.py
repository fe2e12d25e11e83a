"""Choose the hyper-parameters of the `lite` profile on validation data: 20 % of the training data, never the test set.

Run it as `python tools/tune_lite.py`; runs are kept in `build/tuning`, the outcome goes to `results/tuning/lite.csv`.
The best row of each method and buffer is what `sparcl_lite/profiles.toml` says for `lite`; a test compares the two.
Seeds differ from those of the results, so class orders and subsets differ too.
"""

from itertools import product
from pathlib import Path

import pandas as pd

from sparcl_lite import RunConfig, sweep

ROOT = Path(__file__).parent.parent
SEEDS = (1000, 1001, 1002)
BUFFERS = (200, 500)
GRIDS: dict[str, dict[str, tuple]] = {
    "sgd": {"lr": (0.01, 0.03, 0.06)},
    "joint": {"lr": (0.01, 0.03, 0.06)},
    "er": {"buffer_size": BUFFERS, "lr": (0.01, 0.03, 0.06)},
    "der": {"buffer_size": BUFFERS, "lr": (0.03, 0.06), "alpha": (0.3, 1.0)},
    "der++": {"buffer_size": BUFFERS, "lr": (0.03, 0.06), "alpha": (0.1, 0.3), "beta": (0.5, 1.0)},
    "ewc": {"lr": (0.03, 0.06), "penalty": (10.0, 100.0)},
    "lwf": {"lr": (0.01, 0.03), "alpha": (1.0, 3.0)},
    "agem": {"buffer_size": BUFFERS, "lr": (0.03, 0.06)},
    "icarl": {"buffer_size": BUFFERS, "lr": (0.03, 0.1)},
    "fdr": {"buffer_size": BUFFERS, "lr": (0.03, 0.06)},
    "packnet": {"lr": (0.03, 0.06)},
    "lps": {"lr": (0.03, 0.06), "penalty": (0.001, 0.01)},
}


def candidates() -> list[tuple[str, dict]]:
    """Every method with every combination of its grid."""
    return [
        (method, dict(zip(grid, values, strict=True)))
        for method, grid in GRIDS.items()
        for values in product(*grid.values())
    ]


def main() -> None:
    """Run the grid and write one row per candidate: mean validation accuracy over the seeds, and whether it is best."""
    chosen = [(method, values, seed) for (method, values), seed in product(candidates(), SEEDS)]
    configs = [
        RunConfig(profile="lite", method=method, holdout="validation", seed=seed, **values)
        for method, values, seed in chosen
    ]
    results = sweep(configs, store=ROOT / "build" / "tuning")
    table = pd.DataFrame(
        {"method": method} | values | {"seed": seed, "class_il": result.class_il, "task_il": result.task_il}
        for (method, values, seed), result in zip(chosen, results, strict=True)
    )
    keys = ["method", *dict.fromkeys(name for grid in GRIDS.values() for name in grid)]
    table = table.groupby(keys, dropna=False, sort=False)[["class_il", "task_il"]].mean().reset_index()
    ranked = table.sort_values(["class_il", "task_il"], ascending=False)  # Task-IL breaks ties, and is all PackNet has
    table["best"] = ~ranked.duplicated(["method", "buffer_size"]).reindex(table.index)
    path = ROOT / "results" / "tuning" / "lite.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    table.round(3).to_csv(path, index=False)
    print(table[table["best"]].to_string(index=False))


if __name__ == "__main__":
    main()
