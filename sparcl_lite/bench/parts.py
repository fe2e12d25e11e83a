"""Where the time of a training step goes, on PyTorch's dense layers and on the sparse engine."""

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from torch.autograd.profiler import profile

from sparcl_lite.bench.step import dense_steps, sparse_step
from sparcl_lite.bench.timing import Stopwatch
from sparcl_lite.bench.workload import Workload
from sparcl_lite.engine.layers import SparseLayer
from sparcl_lite.engine.update import SparseSGD
from sparcl_lite.runs.result import environment
from sparcl_lite.threads import using_threads

PARTS = ("convolutions, forward", "convolutions, backward", "update", "between")
FORWARD, BACKWARD, UPDATE, BETWEEN = PARTS


def parts(*, repeats: int = 7, **sizes: Any) -> dict[str, Any]:
    """Milliseconds of each of `PARTS` of a step, medians over alternating steps.

    `between` is batch norm, ReLU, residual sums, layout, head and loss; with the sparse engine `update` has the masking
    of gradients, too. The dense step is the one in channels_last, read from PyTorch's profiler.
    `sizes` are those of a `Workload`.
    """
    work = Workload(**sizes)
    with using_threads(work.threads):
        dense = dense_steps(work)["channels_last"]
        sparse, _ = sparse_step(work)
        for call in (dense, sparse) * 2:
            call()
        rounds = [(_dense_parts(dense), _sparse_parts(sparse)) for _ in range(repeats)]
    return {
        name: {part: statistics.median(r[number][part] for r in rounds) for part in PARTS}
        for number, name in enumerate(("dense", "sparse"))
    } | {
        "settings": work.settings(repeats=repeats),
        "environment": environment(work.threads, "cpu"),
    }


def in_words(report: dict[str, Any]) -> str:
    """The main numbers of a report."""
    return "\n".join(
        f"{name}: {', '.join(f'{part} {report[name][part]:.1f} ms' for part in PARTS)}" for name in ("dense", "sparse")
    )


def _dense_parts(step: Callable[[], None]) -> dict[str, float]:
    with profile(use_kineto=False) as profiler:  # which would write to the terminal
        start = time.perf_counter()
        step()
        total = 1000 * (time.perf_counter() - start)
    spent = {event.key: event.cpu_time_total / 1000 for event in profiler.key_averages()}
    found = {
        FORWARD: spent["aten::conv2d"],
        BACKWARD: spent["aten::convolution_backward"],
        UPDATE: next(ms for name, ms in spent.items() if name.startswith("Optimizer.step")),
    }
    return found | {BETWEEN: total - sum(found.values())}


def _sparse_parts(step: Callable[[], None]) -> dict[str, float]:
    watch = Stopwatch()
    owners = {
        (SparseLayer, "forward"): "forward",
        (SparseLayer, "input_gradient"): "backward",
        (SparseLayer, "weight_gradient"): "backward",
        (SparseSGD, "step"): "update",
    }
    with ExitStack() as stack:
        for (owner, name), part in owners.items():
            stack.enter_context(watch.timing(part, owner, name))
        start = time.perf_counter()
        step()
        total = 1000 * (time.perf_counter() - start)
    forward, backward, update = (1000 * watch.spent[part] for part in ("forward", "backward", "update"))
    found = {FORWARD: forward, BACKWARD: backward, UPDATE: update}
    return found | {BETWEEN: total - sum(found.values())}
