"""One training step of the same layers and the same network, on this package's engine and on every rival.

What a rival makes of a model is in `rival_models`; here is what all of them do, and how it is measured.
"""

import json
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from sparcl_lite import masks
from sparcl_lite.bench.rival_models import DENSE, LR, RIVALS, Unavailable, in_layout
from sparcl_lite.bench.timing import alternating, in_a_process, median_ratio
from sparcl_lite.bench.workload import Workload
from sparcl_lite.engine.update import SparseSGD
from sparcl_lite.errors import KitError
from sparcl_lite.measure.memory import PeakMemory
from sparcl_lite.runs.result import environment
from sparcl_lite.threads import using_threads

LEVELS = (0.75, 0.9, 0.95, 0.99)  # shares of zero weights
TASKS = ("convolution", "linear", "network")
STEPS = 3  # of which the peak memory is taken
MODULE = "sparcl_lite.bench.rivals"  # this one, whose `measure` a fresh process calls


@dataclass(frozen=True)
class Task:
    """What is trained: `convolution` (3x3, `width` channels in and out), `linear`, or `network`.

    The linear layer has `features` inputs and outputs; its batch has four times as many rows.
    """

    kind: str
    sparsity: float
    network: str = "resnet18"
    width: int = 64
    image: int = 32
    batch: int = 32
    features: int = 1024
    threads: int = 2

    def work(self) -> Workload:
        """The network and its batch."""
        return Workload(self.network, self.width, self.image, self.batch, self.sparsity, self.threads)

    def model(self) -> tuple[nn.Module, dict[str, Tensor]]:
        """The model with zeros among its weights, and the masks that say which ones are meant."""
        if self.kind == "network":
            network, strategy = self.work().masked()
            return in_layout(network, torch.contiguous_format), strategy.existing
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if self.kind == "linear":
                layer = nn.Linear(self.features, self.features)
            else:
                layer = nn.Conv2d(self.width, self.width, 3, padding=1, bias=False)
        mask = masks.random_mask(layer.weight.detach(), 1 - self.sparsity, torch.Generator().manual_seed(0))
        layer.weight.data.mul_(mask)
        return layer, {"weight": mask}

    def batch_of(self, model: nn.Module) -> tuple[Tensor, Tensor]:
        """Inputs, and labels or the gradient of a layer's outputs. A layer also finds the gradient of its inputs."""
        if self.kind == "network":
            return self.work().noise()
        generator = torch.Generator().manual_seed(0)
        shape = (self.batch, self.width, self.image, self.image)
        inputs = torch.randn((4 * self.batch, self.features) if self.kind == "linear" else shape, generator=generator)
        return inputs.requires_grad_(), torch.randn(inputs.shape, generator=generator)


def rivals(
    *,
    names: Sequence[str] = tuple(RIVALS),
    tasks: Sequence[str] = TASKS,
    levels: Sequence[float] = LEVELS,
    repeats: int = 5,
    memory: bool = True,
    **sizes: Any,
) -> dict[str, Any]:
    """Median milliseconds of a step (forward, backward, SGD), its speed against dense, and peak bytes, by rival.

    All rivals and shares of zeros of a task alternate in one process. `speedup` is the median over the rounds of the
    faster dense layout / rival; a rival that gains nothing from zeros is measured once. Peak memory is that of a fresh
    process. `sizes` are those of a `Task`.

    Rivals bring thread pools of their own. With OMP_WAIT_POLICY=PASSIVE, set before PyTorch is imported, the idle ones
    leave the processor to the others. Raises `KitError` on an unknown name.
    """
    for name in names:
        if name not in RIVALS:
            raise KitError(f"rival = {name!r}: unknown; allowed: {', '.join(RIVALS)}")
    rows, skipped, faster = [], [], {}
    for kind in tasks:
        chosen = [Task(kind, level, **sizes) for level in levels]
        calls, reasons = _calls(chosen, (*DENSE, *(name for name in names if name not in DENSE)))
        skipped += [{"task": kind, "rival": name, "reason": reason} for name, reason in reasons.items()]
        with _threads(chosen[0].threads):
            taken = alternating(calls, repeats)
        dense = min((key for key in calls if key[0] in DENSE), key=lambda key: statistics.median(taken[key]))
        faster[kind] = dense[0]
        for (name, task), milliseconds in taken.items():
            rows.append(
                {
                    "task": kind,
                    "rival": name,
                    "sparsity": task.sparsity if RIVALS[name].uses_zeros else None,
                    "ms": statistics.median(milliseconds),
                    "speedup": median_ratio(taken[dense], milliseconds),
                    "peak_bytes": in_a_process(MODULE, {"rival": name} | asdict(task)) if memory else None,
                    "rounds_ms": milliseconds,
                }
            )
        calls.clear()
    return {
        "rows": rows,
        "skipped": skipped,
        "faster_dense": faster,
        "load": os.getloadavg()[0],
        "settings": asdict(Task("", 0, **sizes))
        | {"levels": list(levels), "repeats": repeats}
        | {"wait_policy": os.environ.get("OMP_WAIT_POLICY", "")},
        "environment": environment(sizes.get("threads", Task.threads), "cpu"),
    }


def in_words(report: dict[str, Any]) -> str:
    """The table, and a line for each rival that is not in it."""
    levels = report["settings"]["levels"]
    lines = []
    for kind in dict.fromkeys(row["task"] for row in report["rows"]):
        lines.append(f"{kind}, against {report['faster_dense'][kind]}".ljust(42) + _cells(f"{x:.0%}" for x in levels))
        rows = [row for row in report["rows"] if row["task"] == kind]
        for name in dict.fromkeys(row["rival"] for row in rows):
            of_level = {row["sparsity"]: _in_short(row) for row in rows if row["rival"] == name}
            cells = [of_level[None]] if None in of_level else [of_level[level] for level in levels]
            lines.append(f"  {name:40}" + _cells(cells))
        missing = [entry for entry in report["skipped"] if entry["task"] == kind]
        lines += [f"  {entry['rival']:40}skipped: {entry['reason']}" for entry in missing]
    return "\n".join(lines)


def _cells(texts) -> str:
    return "".join(f"{text:28}" for text in texts).rstrip()


def _in_short(row: dict[str, Any]) -> str:
    peak = "" if row["peak_bytes"] is None else f", {row['peak_bytes'] / 1e6:.0f} MB"
    return f"{row['ms']:.1f} ms, {row['speedup']:.2f}x{peak}"


def _calls(tasks: Sequence[Task], names: Sequence[str]) -> tuple[dict[tuple[str, Task], Callable], dict[str, str]]:
    """A step by rival and task, tried once; and why there is none of the others."""
    calls, reasons = {}, {}
    for name in names:
        for task in tasks if RIVALS[name].uses_zeros else tasks[:1]:
            try:
                with _threads(task.threads):
                    call = step_of(name, task)
                    call()
            except Unavailable as reason:
                reasons[name] = str(reason)
                break
            except Exception as error:  # whatever a rival, or the compiler that it needs, fails with
                reasons[name] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
                break
            calls[name, task] = call
    return calls, reasons


def step_of(name: str, task: Task) -> Callable[[], Tensor]:
    """A training step of the task as a rival does it, which returns the outputs. Raises `Unavailable`."""
    model, masks_ = task.model()
    inputs, target = task.batch_of(model)
    model = RIVALS[name].make(model, masks_, inputs).train()
    dense = {layer: weight for layer, weight in model.named_parameters() if layer in masks_}
    if name.endswith("channels_last"):
        inputs = inputs.detach().contiguous(memory_format=torch.channels_last).requires_grad_(inputs.requires_grad)
    optimizer = _optimizer(model)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        inputs.grad = None
        outputs = model(inputs)
        if task.kind == "network":
            F.cross_entropy(outputs, target).backward()
        else:
            outputs.backward(target)
        if RIVALS[name].masks_gradients:
            for layer, weight in dense.items():
                weight.grad.mul_(masks_[layer])
        optimizer.step()
        return outputs.detach()

    return step


def _optimizer(model: nn.Module) -> torch.optim.Optimizer:
    if getattr(model, "engine", None):  # whose weights are not those of the model
        return SparseSGD(model, LR).__enter__()
    return torch.optim.SGD(model.parameters(), lr=LR, foreach=True)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads of PyTorch, and of every other pool that a rival brings."""
    with using_threads(count), threadpool_limits(count):
        yield


def measure(rival: str, **task: Any) -> int:
    """Peak bytes of this process above its start, over a few steps.

    Steps of a tiny task before have the code loaded, which belongs to no model. A compiler's memory counts.
    """
    task = Task(**task)
    tiny = Task(task.kind, task.sparsity, "small", width=8, image=8, batch=8, features=16, threads=task.threads)
    with _threads(task.threads):
        step_of(rival, tiny)()
        peak = PeakMemory("cpu")
        step = step_of(rival, task)
        for _ in range(STEPS):
            step()
        return peak.read()


if __name__ == "__main__":
    print(measure(**json.loads(sys.argv[1])))
