"""The rows of LightCL's table at full size: peak memory of training, and milliseconds of a step, measured."""

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

from sparcl_lite.bench.overhead import random_images
from sparcl_lite.bench.timing import alternating, in_a_process, median_ratio
from sparcl_lite.config import RunConfig
from sparcl_lite.measure.memory import PeakMemory
from sparcl_lite.papers.lightcl.tables import table1
from sparcl_lite.runs.result import environment
from sparcl_lite.threads import using_threads
from sparcl_lite.training import Trainer

ROWS = ("sgd", "er-15", "der++-15", "sparcl-der++-0.90-15", "freeze", "lightcl-15", "lightcl-0.90-15")
ON_SPARSE_ENGINE = "sparcl-der++-0.90-15, sparse engine"
MODULE = "sparcl_lite.bench.lightcl"  # this one, whose `measure` a fresh process calls
TIMED_AGAINST = "der++-15"
STEPS, EPOCHS = 3, 3  # of a task; SparCL removes data from the second epoch on


def lightcl(
    *, profile: str = "paper", rows: Sequence[str] = (*ROWS, ON_SPARSE_ENGINE), threads: int = 2, repeats: int = 5
) -> dict[str, Any]:
    """Peak bytes above the idle process and milliseconds of a step in the second task, by row, on images of noise.

    Each peak is that of a fresh process which trains two tasks without evaluating. Steps of all rows alternate in one
    process; `speedup` is the median over the rounds of DER++ / row. SparCL's contain the gradients that choose its
    mask, once an epoch of three steps, which weigh far less in epochs of hundreds. Nothing is pre-trained.
    """
    peaks = {row: in_a_process(MODULE, {"profile": profile, "row": row, "threads": threads}) for row in rows}
    with using_threads(threads):
        taken = alternating({row: _in_second_task(_trainer(profile, row)) for row in rows}, repeats)
    return {
        "peak_bytes": peaks,
        "step_ms": {row: statistics.median(taken[row]) / STEPS for row in rows},
        "speedup": {row: median_ratio(taken[TIMED_AGAINST], taken[row]) for row in rows},
        "settings": {"profile": profile, "threads": threads, "repeats": repeats},
        "environment": environment(threads, "cpu"),
    }


def in_words(report: dict[str, Any]) -> str:
    """The main numbers of a report."""
    return "\n".join(
        f"{row}: {peak / 1e6:.0f} MB, {report['step_ms'][row]:.1f} ms a step, {report['speedup'][row]:.2f}x of DER++"
        for row, peak in report["peak_bytes"].items()
    )


def _trainer(profile: str, row: str) -> Trainer:
    values = table1(profile=profile).row(row.partition(",")[0]).values
    values = values | {"masked_ce": True, "images_per_class": 0, "epochs": EPOCHS}
    if values["method"] == "lightcl":
        values = values | {"freeze_first_task": True}  # as after pre-training
    engine = "sparse" if row == ON_SPARSE_ENGINE else "dense"
    config = RunConfig(profile=profile, **values, engine=engine)
    return Trainer(config, random_images(config, STEPS))


def _in_second_task(trainer: Trainer) -> Callable[[], None]:
    """Trains the first task and begins the second; what is returned trains an epoch of the second."""
    trainer.begin(0)
    for epoch in range(EPOCHS):
        trainer.train_epoch(0, epoch)
    trainer.end(0)
    trainer.begin(1)
    trainer.train_epoch(1, 0)
    return lambda: trainer.train_epoch(1, 0)


def measure(profile: str, row: str, threads: int) -> int:
    """Peak bytes of this process above its start, over the steps of two tasks.

    A tiny run before has everything loaded that belongs to no run: code of kernels, of the optimiser, ...
    """
    with using_threads(threads):
        _in_second_task(_trainer("smoke", row))()
        peak = PeakMemory("cpu")
        _in_second_task(_trainer(profile, row))()
        return peak.read()


if __name__ == "__main__":
    print(measure(**json.loads(sys.argv[1])))
