"""Training memory of one network: measured peak of a process of its own, beside what must be held."""

import json
import statistics
import sys
from typing import Any

from sparcl_lite.bench.step import sparse_step, training_step
from sparcl_lite.bench.timing import in_a_process
from sparcl_lite.bench.workload import CHANNELS, Workload
from sparcl_lite.measure.flops import measured_costs
from sparcl_lite.measure.memory import FLOAT_BYTES, PeakMemory
from sparcl_lite.runs.result import environment
from sparcl_lite.threads import using_threads

STEPS = 3
MODULE = "sparcl_lite.bench.memory"  # this one, whose `measure` a fresh process calls


def memory(*, repeats: int = 5, **sizes: Any) -> dict[str, Any]:
    """Peak bytes of a few training steps, dense and sparse: medians over fresh processes of each, in turn.

    `ratio` is that of the medians. `analytic` holds nonzero weights, their gradients and one copy of the convolutions'
    outputs, as SparCL counts. `sizes` are those of a `Workload`.
    """
    work = Workload(**sizes)
    found: dict[str, list[int]] = {"dense": [], "sparse": []}
    for _ in range(repeats):
        for engine, peaks in found.items():
            peaks.append(in_a_process(MODULE, work.settings(engine=engine)))
    middle = {engine: statistics.median(peaks) for engine, peaks in found.items()}
    costs = measured_costs(work.dense(), CHANNELS, work.image)
    maps = FLOAT_BYTES * work.batch * sum(c.outputs for c in costs)
    weights = {
        name: sum(c.parameters * (1 - work.sparsity if c.prunable and name == "sparse" else 1) for c in costs)
        for name in found
    }
    analytic = {name: round(2 * FLOAT_BYTES * count + maps) for name, count in weights.items()}
    return {
        "dense_bytes": middle["dense"],
        "sparse_bytes": middle["sparse"],
        "ratio": middle["sparse"] / middle["dense"],
        "rounds_bytes": found,
        "analytic": analytic,
        "settings": work.settings(repeats=repeats),
        "environment": environment(work.threads, "cpu"),
    }


def in_words(report: dict[str, Any]) -> str:
    """The main numbers of a report."""
    return (
        f"dense {report['dense_bytes'] / 1e6:.0f} MB, sparse {report['sparse_bytes'] / 1e6:.0f} MB: "
        f"{report['ratio']:.2f} of it"
    )


def measure(engine: str, **settings: Any) -> int:
    """Peak bytes of this process above its start, over a few steps."""
    work = Workload(**settings)
    if engine == "sparse":
        sparse_step(Workload(network="small", width=8, image=8, batch=8))[0]()  # code of the kernels belongs to no run
    with using_threads(work.threads):
        peak = PeakMemory("cpu")
        call = sparse_step(work)[0] if engine == "sparse" else training_step(work.dense(), *work.noise(), {})
        peak.begin()  # masks are drawn for the benchmark only
        for _ in range(STEPS):
            call()
        return peak.read()


if __name__ == "__main__":
    print(measure(**json.loads(sys.argv[1])))
