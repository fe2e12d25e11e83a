"""Training memory of one network: measured peak of a process of its own, beside what must be held."""

import json
import subprocess
import sys
from typing import Any

from sparcl_lite.bench.step import sparse_step, training_step
from sparcl_lite.bench.timing import CLASSES, noise
from sparcl_lite.measure.flops import layer_costs
from sparcl_lite.measure.memory import FLOAT_BYTES, PeakMemory
from sparcl_lite.models import build
from sparcl_lite.runs import using_threads

STEPS = 3


def memory(
    *,
    network: str = "resnet18",
    width: int = 64,
    image: int = 32,
    batch: int = 32,
    sparsity: float = 0.95,
    threads: int = 2,
) -> dict[str, Any]:
    """Peak bytes of a few training steps, dense and sparse, each measured in a fresh process.

    `analytic` holds nonzero weights, their gradients and one copy of the convolutions' outputs, as SparCL counts.
    """
    settings = {
        "network": network,
        "width": width,
        "image": image,
        "batch": batch,
        "sparsity": sparsity,
        "threads": threads,
    }
    found = {engine: _in_a_process(settings | {"engine": engine}) for engine in ("dense", "sparse")}
    costs = layer_costs(network, width, 3, image, CLASSES)
    maps = FLOAT_BYTES * batch * sum(c.outputs for c in costs)
    weights = {
        name: sum(c.parameters * (1 - sparsity if c.prunable and name == "sparse" else 1) for c in costs)
        for name in found
    }
    analytic = {name: round(2 * FLOAT_BYTES * count + maps) for name, count in weights.items()}
    return {
        "dense_bytes": found["dense"],
        "sparse_bytes": found["sparse"],
        "ratio": found["sparse"] / found["dense"],
        "analytic": analytic,
        "settings": settings,
    }


def _in_a_process(settings: dict[str, Any]) -> int:
    command = [sys.executable, "-m", "sparcl_lite.bench.memory", json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


def measure(network: str, width: int, image: int, batch: int, sparsity: float, threads: int, engine: str) -> int:
    """Peak bytes of this process above its start, over a few steps."""
    if engine == "sparse":
        sparse_step("small", 8, 8, 8, 0.5, auto=False)[0]()  # code of the kernels belongs to no run
    with using_threads(threads):
        peak = PeakMemory("cpu")
        if engine == "sparse":
            call, _ = sparse_step(network, width, image, batch, sparsity, auto=False)
        else:
            model = build(network, width=width, channels=3, classes=CLASSES, seed=0).train()
            call = training_step(model, *noise(batch, 3, image), {})
        for _ in range(STEPS):
            call()
        return peak.read()


if __name__ == "__main__":
    print(measure(**json.loads(sys.argv[1])))
