"""What a run of the profile `desk` takes, and how many seeds decide a claim there.

`python tools/pilot_desk.py seconds` times an epoch of each candidate size and writes `results/tuning/desk_seconds.csv`:
steps of a run, milliseconds a step (the median of an epoch's second half) and minutes of a run. They are processor time
of one thread, so that a busy machine counts for little.
`python tools/pilot_desk.py noise` trains the rows of `NOISE` on `SEEDS`, evaluated on validation data, and writes
`results/tuning/desk_noise.csv`: the spread of differences paired by seed, and the seeds whose interval has half a width
of `HALF_WIDTH` points. Runs are kept in `build/pilot`, so an interrupted pilot goes on.
"""

import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sparcl_lite import RunConfig, SparCL, Store, sweep
from sparcl_lite.data.sources import Dataset, load
from sparcl_lite.measure.statistics import paired_interval, seeds_to_decide
from sparcl_lite.planning import planned
from sparcl_lite.threads import using_threads
from sparcl_lite.training import Trainer

ROOT = Path(__file__).parent.parent
TIMED_IMAGES = 200  # a class, in the epoch that is timed
SEEDS = range(2000, 2003)  # others than those of the results and of tuning
HALF_WIDTH = 0.75  # percentage points: half of the 1.5 points that a claim must be able to show
DERPP: dict[str, Any] = {"profile": "desk", "method": "der++"}
SIZES = {
    "DER++": DERPP,
    "SparCL-DER++ 0.90": DERPP | {"sparse": SparCL(sparsity=0.9)},
    "SparCL-DER++ 0.95": DERPP | {"sparse": SparCL(sparsity=0.95)},
    "CLFD-DER++": DERPP | {"clfd": True},
    "CLFD-SparCL-DER++ 0.95": DERPP | {"clfd": True, "sparse": SparCL(sparsity=0.95), "engine": "sparse"},
    "ER": DERPP | {"method": "er"},
    "DER++, 24 channels": DERPP | {"width": 24},
    "DER++, 32 channels": DERPP | {"width": 32},
}
#: Pairs whose difference a claim of Table 1 or 2 is about.
NOISE = {
    "DER++": DERPP,
    "SparCL-DER++ 0.95": SIZES["SparCL-DER++ 0.95"],
    "ER, buffer 50": {"profile": "desk", "method": "er", "buffer_size": 50},
    "SparCL-ER 0.75, buffer 50": {
        "profile": "desk",
        "method": "er",
        "buffer_size": 50,
        "sparse": SparCL(sparsity=0.75),
    },
}
#: Differences that a claim is about.
PAIRS = (("SparCL-DER++ 0.95", "DER++"), ("SparCL-ER 0.75, buffer 50", "ER, buffer 50"))


def seconds() -> pd.DataFrame:
    """One line for each size."""
    dataset, lines = load("cifar10"), []
    for label, values in SIZES.items():
        config = RunConfig(**values)
        milliseconds = step_milliseconds(config, dataset)
        steps = planned(config).steps
        minutes = steps * milliseconds / 60_000
        lines.append({"size": label, "steps": steps, "step_ms": round(milliseconds, 1), "minutes": round(minutes, 1)})
        print(lines[-1], flush=True)
    return pd.DataFrame(lines)


def step_milliseconds(config: RunConfig, dataset: Dataset) -> float:
    """Median of the second half of an epoch of the second task, where everything that a step does is on."""
    config = config.model_copy(update={"images_per_class": TIMED_IMAGES})
    times: list[float] = []
    with using_threads(1):
        trainer = Trainer(config, dataset, on_step=lambda: times.append(time.process_time()))
        trainer.begin(0)
        trainer.train_epoch(0, 0)
        trainer.end(0)
        trainer.begin(1)
        times.clear()
        trainer.train_epoch(1, 0)
    taken = np.diff(times)
    return 1000 * statistics.median(taken[len(taken) // 2 :])


def noise() -> pd.DataFrame:
    """One line for each pair."""
    runs = {
        label: [RunConfig(**values, holdout="validation", seed=seed) for seed in SEEDS]
        for label, values in NOISE.items()
    }
    store = Store(ROOT / "build" / "pilot")
    sweep([config for configs in runs.values() for config in configs], store=store)
    found = {label: np.array([store.get(config).class_il for config in configs]) for label, configs in runs.items()}
    lines = []
    for row, baseline in PAIRS:
        effect = paired_interval(found[row], found[baseline])
        spread, *single = (values.std(ddof=1) for values in (found[row] - found[baseline], found[row], found[baseline]))
        needed = seeds_to_decide(effect, effect.mean - HALF_WIDTH)
        line = {"row": row, "baseline": baseline, "seeds": effect.n, "difference": effect.mean, "spread": spread}
        lines.append(line | {"spread_unpaired": np.hypot(*single), "seeds_needed": needed})
    return pd.DataFrame(lines).round(2)


if __name__ == "__main__":
    parts = {"seconds": seconds, "noise": noise}
    if sys.argv[1:] not in [[name] for name in parts]:
        sys.exit(f"usage: python tools/pilot_desk.py {'|'.join(parts)}")
    (name,) = sys.argv[1:]
    path = ROOT / "results" / "tuning" / f"desk_{name}.csv"
    parts[name]().to_csv(path, index=False)
    print(os.path.relpath(path))
