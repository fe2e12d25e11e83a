"""Whole training runs: DER++ dense against SparCL-DER++ with TDM, DDR and DGM, for the same number of epochs."""

import statistics
from typing import Any

from sparcl_lite.bench.overhead import random_images
from sparcl_lite.bench.timing import median_ratio
from sparcl_lite.config import RunConfig, SparCL
from sparcl_lite.result import environment
from sparcl_lite.runs import using_threads
from sparcl_lite.training import Trainer


def train(
    *,
    profile: str = "lite",
    sparsity: float = 0.95,
    threads: int = 2,
    repeats: int = 3,
    steps: int = 0,
    **settings: Any,
) -> dict[str, Any]:
    """Seconds of training of whole runs (probes, mask and data updates included), on images of noise.

    Dense and sparse runs alternate `repeats` times; `speedup` is the median of their ratios. `steps` of a dense epoch
    replace the profile's own number where that would take too long.
    """
    common = {"profile": profile, "method": "der++", "buffer_size": 200} | settings
    dense = RunConfig(**common)
    sparse = RunConfig(**common, sparse=SparCL(sparsity=sparsity), engine="sparse")
    steps = steps or dense.images_per_class * dense.classes // dense.tasks // dense.batch_size
    images = dense.images_per_class and steps * dense.batch_size * dense.tasks // dense.classes
    taken: dict[str, list[float]] = {"dense": [], "sparse": []}
    with using_threads(threads):
        for round_ in range(repeats + 1):  # the first warms up
            for name, config in (("dense", dense), ("sparse", sparse)):
                config = config.model_copy(update={"images_per_class": images})
                trainer = Trainer(config, random_images(config, steps))
                trainer.run()
                if round_:
                    taken[name].append(trainer.seconds["train"])
    return {
        "dense_seconds": statistics.median(taken["dense"]),
        "sparse_seconds": statistics.median(taken["sparse"]),
        "speedup": median_ratio(taken["dense"], taken["sparse"]),
        "rounds_seconds": taken,
        "settings": {
            "profile": profile, "network": dense.network, "width": dense.width, "sparsity": sparsity, "steps": steps,
            "epochs": dense.epochs, "tasks": dense.tasks, "threads": threads, "repeats": repeats,
        },
        "environment": environment(threads, "cpu"),
    }  # fmt: skip
