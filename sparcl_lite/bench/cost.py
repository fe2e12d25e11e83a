"""What whole runs cost on this machine: processor time and peak memory of every row of the frontier, in turn."""

import json
import math
import sys
from collections.abc import Sequence
from typing import Any

from sparcl_lite.bench.overhead import random_images
from sparcl_lite.bench.step import sparse_step
from sparcl_lite.bench.timing import in_a_process
from sparcl_lite.bench.workload import Workload
from sparcl_lite.config import RunConfig
from sparcl_lite.measure.memory import PeakMemory
from sparcl_lite.papers.clfd.frontier import family_of, frontier
from sparcl_lite.planning import planned
from sparcl_lite.runs.result import environment
from sparcl_lite.threads import using_threads
from sparcl_lite.training import Trainer

MODULE = "sparcl_lite.bench.cost"  # this one, whose `measure` a fresh process calls
TIMED = (1, 2)  # epochs of the second task; the ones before warm up


def cost(*, profile: str = "lite", families: Sequence[str] = ()) -> dict[str, Any]:
    """Seconds of one core that training takes, and peak bytes, by family, on images of noise: one round.

    Each family is measured in a fresh process, one after the other, so what else the machine does hits all alike; a
    benchmark's seeds are its rounds. `seconds` are the processor's, of one thread, of two epochs in the second task
    (one of which adjusts the mask where there is one), scaled from their steps to the run's planned ones. Evaluation is
    not in it. `peak_bytes` are above the process with its libraries loaded.
    """
    configs = _configs(profile)
    chosen = list(families) or list(configs)
    steps = {family: planned(configs[family]).steps for family in chosen}
    found = {family: in_a_process(MODULE, {"profile": profile, "family": family}) for family in chosen}
    return {
        "seconds": {family: steps[family] * found[family]["step_seconds"] for family in chosen},
        "peak_bytes": {family: found[family]["peak_bytes"] for family in chosen},
        "steps": steps,
        "settings": {"profile": profile, "threads": 1},
        "environment": environment(1, "cpu"),
    }


def in_words(report: dict[str, Any]) -> str:
    """What each family costs."""
    return "\n".join(
        f"{family}: {seconds:.0f} s a run, {report['peak_bytes'][family] / 1e6:.0f} MB at the peak"
        for family, seconds in report["seconds"].items()
    )


def _configs(profile: str) -> dict[str, RunConfig]:
    experiment = frontier(profile=profile)
    return {family_of(row.id): experiment.configs(row, 1)[0] for row in experiment.rows}


def measure(profile: str, family: str) -> dict[str, float]:
    """Seconds a step and peak bytes of this process, whose libraries are loaded first."""
    config = _configs(profile)[family]
    images = config.images_per_class * config.classes / config.task_count
    sparse_step(Workload(network="small", width=8, image=8, batch=8))[0]()
    with using_threads(1):
        dataset, memory = random_images(config, math.ceil(images / config.batch_size)), PeakMemory("cpu")
        trainer = Trainer(config, dataset)
        trainer.begin(0)
        trainer.train_epoch(0, 0)
        trainer.end(0)
        trainer.begin(1)
        for epoch in range(TIMED[0]):
            trainer.train_epoch(1, epoch)
        seconds, steps = trainer.seconds["train_processor"], trainer.totals["steps"]
        for epoch in TIMED:
            trainer.train_epoch(1, epoch)
        seconds, steps = trainer.seconds["train_processor"] - seconds, trainer.totals["steps"] - steps
        return {"step_seconds": seconds / steps, "peak_bytes": memory.read()}


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
