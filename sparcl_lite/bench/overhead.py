"""Where a training step's time goes on this machine: forward and backward, or everything around them."""

import statistics
import time
from typing import Any

import torch

from sparcl_lite.bench.timing import Stopwatch
from sparcl_lite.config import RunConfig
from sparcl_lite.data.sources import Dataset, Split
from sparcl_lite.data.streams import steps_per_epoch
from sparcl_lite.engine.update import SparseSGD
from sparcl_lite.registry import DATASETS
from sparcl_lite.sparsity import SparCL
from sparcl_lite.sparsity.schedule import stage_epochs
from sparcl_lite.threads import using_threads
from sparcl_lite.training import Trainer


def overhead(*, profile: str, sparsity: float | None, threads: int, steps: int, repeats: int) -> dict[str, Any]:
    """Median milliseconds of one DER++ step by part, on made-up images of the profile's own shape.

    `overhead` is all that is neither forward, backward nor the optimiser's update: batching, augmentation, buffer,
    DDR statistics, masks. One repeat is an epoch of `steps` steps with a filled buffer; TDM's adjustment of the mask,
    once a stage, is timed apart and spread over the steps of a stage. `share` is overhead / total.
    """
    with using_threads(threads):
        return _parts(profile, None if sparsity is None else SparCL(sparsity=sparsity), steps, repeats)


def in_words(report: dict[str, Any]) -> str:
    """The main numbers of a report."""
    parts = ", ".join(f"{part} {report[part]:.1f}" for part in ("forward", "backward", "update", "overhead"))
    return f"{report['total']:.1f} ms a step ({parts}): {100 * report['share']:.1f} % overhead"


def _parts(profile: str, sparse: SparCL | None, steps: int, repeats: int) -> dict[str, float]:
    config = RunConfig(profile=profile, sparse=sparse, buffer_size=200, images_per_class=0)
    trainer = Trainer(config, random_images(config, steps), device="cpu")
    trainer.begin(0)
    images, labels = trainer.stream.train.images[:200], trainer.stream.train.labels[:200]
    trainer.buffer.add(images, labels, torch.zeros(len(images), len(DATASETS[config.dataset].classes)))
    trainer.train_epoch(0, 0)  # warm up
    samples = [_timed_epoch(trainer, steps) for _ in range(repeats)]
    parts = {part: statistics.median(s[part] for s in samples) for part in samples[0]}
    if sparse:
        adjustment = statistics.median(_timed_adjustment(trainer) for _ in range(repeats))
        per_step = adjustment / (stage_epochs(sparse, config.epochs) * _real_steps(config))
        parts["overhead"] += per_step
        parts["total"] += per_step
    return parts | {"share": parts["overhead"] / parts["total"]}


def _timed_epoch(trainer: Trainer, steps: int) -> dict[str, float]:
    watch = Stopwatch()
    network, backward = trainer.network, torch.Tensor.backward
    gradient, update = torch.autograd.grad, SparseSGD.step
    network.forward = watch.wrap("forward", network.forward)
    torch.Tensor.backward = watch.wrap("backward", backward)
    torch.autograd.grad = watch.wrap("backward", gradient)
    SparseSGD.step = watch.wrap("update", update)
    start = time.perf_counter()
    try:
        trainer.train_epoch(0, 0)
    finally:
        del network.forward
        torch.Tensor.backward, torch.autograd.grad, SparseSGD.step = backward, gradient, update
    total = time.perf_counter() - start
    milliseconds = {part: 1000 * seconds / steps for part, seconds in watch.spent.items()}
    rest = 1000 * total / steps - sum(milliseconds.values())
    return milliseconds | {"overhead": rest, "total": 1000 * total / steps}


def _timed_adjustment(trainer: Trainer) -> float:
    """Milliseconds that TDM takes to rank, prune and grow once the gradients are known."""
    tdm, config = trainer.sparsity.tdm, trainer.config
    gradients = {name: weight.detach().abs() for name, weight in tdm.weights.items()}
    start = time.perf_counter()
    tdm.adjust(1, stage_epochs(config.sparse, config.epochs), config.epochs, lambda: gradients)
    return 1000 * (time.perf_counter() - start)


def _real_steps(config: RunConfig) -> int:
    """Steps of an epoch on all of a task's data."""
    spec = DATASETS[config.dataset]
    profile_size = RunConfig(profile=config.profile).images_per_class or spec.train_images // len(spec.classes)
    return steps_per_epoch(config, profile_size * len(spec.classes) // config.task_count)


def random_images(config: RunConfig, steps: int) -> Dataset:
    """Images that make the first task last `steps` steps."""
    spec, generator = DATASETS[config.dataset], torch.Generator().manual_seed(0)
    count = steps * config.batch_size * config.task_count
    images = torch.randint(256, (count, spec.channels, spec.size, spec.size), generator=generator, dtype=torch.uint8)
    split = Split(images, torch.arange(count) % len(spec.classes))
    return Dataset(spec, split, split)
