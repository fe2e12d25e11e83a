"""What a run of the profile `desk` takes, by which its size was chosen.

`python tools/pilot_desk.py` times an epoch of each candidate size and writes `results/tuning/desk_seconds.csv`: steps
of a run, milliseconds a step (the median of an epoch's second half) and minutes of a run. They are processor time of
one thread, so that a busy machine counts for little. The noise between seeds is that of the runs: docs/results.md.
"""

import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sparcl_lite import RunConfig, SparCL
from sparcl_lite.data.sources import Dataset, load
from sparcl_lite.planning import planned
from sparcl_lite.threads import using_threads
from sparcl_lite.training import Trainer

ROOT = Path(__file__).parent.parent
TIMED_IMAGES = 200  # a class, in the epoch that is timed
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


if __name__ == "__main__":
    path = ROOT / "results" / "tuning" / "desk_seconds.csv"
    seconds().to_csv(path, index=False)
    print(os.path.relpath(path))
