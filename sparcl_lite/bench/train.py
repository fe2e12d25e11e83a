"""Whole training runs: DER++ dense against SparCL-DER++ with TDM, DDR and DGM, for the same number of epochs."""

import statistics
from collections.abc import Sequence
from typing import Any

from sparcl_lite.bench.overhead import random_images
from sparcl_lite.bench.timing import median_ratio
from sparcl_lite.config import RunConfig
from sparcl_lite.runs.result import environment
from sparcl_lite.sparsity import SparCL
from sparcl_lite.threads import using_threads
from sparcl_lite.training import Trainer

WARM_UP = 2  # steps of an epoch


def train(
    *,
    profile: str = "lite",
    sparsities: Sequence[float] = (0.95,),
    threads: int = 2,
    repeats: int = 3,
    steps: int = 0,
    **settings: Any,
) -> dict[str, Any]:
    """Seconds of training of whole runs (probes, mask and data updates included), on images of noise.

    A dense run and one of each sparsity alternate `repeats` times; speed-ups are medians of their ratios. `steps` of a
    dense epoch replace the profile's own number where that would take too long. `step_ms` divides a run's seconds by
    its steps, of which DDR leaves fewer.
    """
    common = {"profile": profile, "buffer_size": 200} | settings
    dense = RunConfig(**common)
    levels = {str(level): SparCL(sparsity=level) for level in sparsities}
    configs = {"dense": dense} | {n: RunConfig(**common, sparse=s, engine="sparse") for n, s in levels.items()}
    steps = steps or dense.images_per_class * dense.classes // dense.task_count // dense.batch_size
    taken: dict[str, list[float]] = {name: [] for name in configs}
    step_ms: dict[str, list[float]] = {name: [] for name in configs}
    with using_threads(threads):
        for config in configs.values():
            _trained(config, WARM_UP)
        for _ in range(repeats):
            for name, config in configs.items():
                trainer = _trained(config, steps)
                taken[name].append(trainer.seconds["train"])
                step_ms[name].append(1000 * trainer.seconds["train"] / trainer.totals["steps"])
    return {
        "dense_seconds": statistics.median(taken["dense"]),
        "sparse_seconds": {level: statistics.median(taken[level]) for level in levels},
        "speedup": {level: median_ratio(taken["dense"], taken[level]) for level in levels},
        "step_ms": {name: statistics.median(values) for name, values in step_ms.items()},
        "rounds_seconds": taken,
        "settings": {
            "profile": profile, "network": dense.network, "width": dense.width, "sparsity": list(sparsities),
            "steps": steps, "epochs": dense.epochs, "tasks": dense.task_count, "batch": dense.batch_size,
            "replay": 2 * dense.replay_batch_size, "threads": threads, "repeats": repeats,
        },
        "environment": environment(threads, "cpu"),
    }  # fmt: skip


def in_words(report: dict[str, Any]) -> str:
    """The main numbers of a report."""
    lines = [f"DER++ {report['dense_seconds']:.1f} s"]
    for level, seconds in report["sparse_seconds"].items():
        lines.append(f"SparCL-DER++ {level} {seconds:.1f} s: {report['speedup'][level]:.2f}x")
    return "\n".join(lines)


def _trained(config: RunConfig, steps: int) -> Trainer:
    """A finished run with so many steps in a dense epoch."""
    images = config.images_per_class and steps * config.batch_size * config.task_count // config.classes
    config = config.model_copy(update={"images_per_class": images})
    trainer = Trainer(config, random_images(config, steps))
    trainer.run()
    return trainer
