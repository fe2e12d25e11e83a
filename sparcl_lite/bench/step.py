"""One training step: dense in both of PyTorch's layouts, dense with masks, compiled, and on the sparse engine."""

import os
import statistics
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from sparcl_lite.bench.timing import alternating, median_ratio
from sparcl_lite.bench.workload import Workload
from sparcl_lite.engine import engine_for
from sparcl_lite.engine.engine import Engine
from sparcl_lite.engine.update import SparseSGD
from sparcl_lite.masks import prunable_weights
from sparcl_lite.models import Network
from sparcl_lite.runs.result import environment
from sparcl_lite.threads import using_threads

LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
LR = 0.01


def step(*, repeats: int = 7, compiled: bool = False, **sizes: Any) -> dict[str, Any]:
    """Median milliseconds of a step (forward, backward, masking of gradients, SGD), from alternating runs.

    `dense_ms` is the faster of the two dense layouts, `masked_ms` the same with masks multiplied onto it, `auto_ms`
    the engine that `auto` chooses. Each speed-up is the median over the rounds of dense / other.
    `sizes` are those of a `Workload`.
    """
    work = Workload(**sizes)
    with using_threads(work.threads):
        calls, engines = dense_steps(work), {}
        calls["masked"] = _masked_step(work)
        for name in ("sparse", "auto"):
            calls[name], engines[name] = sparse_step(work, auto=name == "auto")
        failure = _add_compiled(calls, work) if compiled else "not asked for"
        taken = alternating(calls, repeats)
    middle = {name: statistics.median(times) for name, times in taken.items()}
    layout = min(LAYOUTS, key=middle.get)
    return {
        "dense_ms": middle[layout],
        "dense_layout": layout,
        "sparse_ms": middle["sparse"],
        "speedup": median_ratio(taken[layout], taken["sparse"]),
        "cpu_speedup": median_ratio(taken.cpu[layout], taken.cpu["sparse"]),
        "load": os.getloadavg()[0],
        "auto_ms": middle["auto"],
        "auto_speedup": median_ratio(taken[layout], taken["auto"]),
        "masked_ms": middle["masked"],
        "compiled_ms": middle.get("compiled"),
        "compiled_failure": failure,
        "rounds_ms": taken,
        "auto": engines["auto"].report()["engine"],
        "settings": work.settings(repeats=repeats),
        "environment": environment(work.threads, "cpu"),
    }


def in_words(report: dict[str, Any]) -> str:
    """The main numbers of a report."""
    return (
        f"dense {report['dense_ms']:.1f} ms ({report['dense_layout']}), masked {report['masked_ms']:.1f} ms, "
        f"sparse {report['sparse_ms']:.1f} ms: {report['speedup']:.2f}x; auto {report['auto_speedup']:.2f}x"
    )


def training_step(network: Network, images: torch.Tensor, labels: torch.Tensor, masks: dict) -> Callable[[], None]:
    """A step of SGD on one batch, gradients masked by `masks` (by layer; none: not at all).

    The network belongs to the steps from now on: on a sparse engine its weights stay released.
    """
    optimizer = SparseSGD(network, LR).__enter__()
    weights = prunable_weights(network)

    def call() -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        if network.engine is None or not network.engine.exact:
            for name, mask in masks.items():
                weights[name].grad.mul_(mask)
        optimizer.step()

    return call


def dense_steps(work: Workload) -> dict[str, Callable[[], None]]:
    """A dense step in each of PyTorch's layouts."""
    images, labels = work.noise()
    calls = {}
    for name, layout in LAYOUTS.items():
        model = work.dense().to(memory_format=layout)
        model.layout = layout
        calls[name] = training_step(model, images.contiguous(memory_format=layout), labels, {})
    return calls


def _masked_step(work: Workload) -> Callable[[], None]:
    model, strategy = work.masked()
    return training_step(model, *work.noise(), strategy.existing)


def sparse_step(work: Workload, *, auto: bool = False) -> tuple[Callable[[], None], Engine]:
    """A step on the sparse engine, and the engine; with `auto` one that chooses."""
    model, strategy = work.masked()
    model.engine = engine_for("auto" if auto else "sparse", model, strategy, alone=True)
    return training_step(model, *work.noise(), strategy.existing), model.engine


def _add_compiled(calls: dict, work: Workload) -> str | None:
    """Add a dense step through torch.compile; why it does not work here, if it does not."""
    model = work.dense()
    images, labels = work.noise()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, foreach=True)
    forward = torch.compile(model.body)

    def call() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(forward(images), labels).backward()
        optimizer.step()

    try:
        call()
    except Exception as error:  # whatever the compiler lacks: a C++ compiler, headers, support for this Python
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    calls["compiled"] = call
    return None
