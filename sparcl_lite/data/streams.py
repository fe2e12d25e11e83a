"""Streams of tasks: class order, training subset, validation split, batches and batched augmentation.

All images stay in memory as uint8 tensors; there are no worker processes. Where the pixels come from is the business
of `sources`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sparcl_lite.config import RunConfig
from sparcl_lite.data.specs import DatasetSpec
from sparcl_lite.errors import KitError
from sparcl_lite.late import Tensor, torch
from sparcl_lite.registry import METHODS
from sparcl_lite.rng import Generators

if TYPE_CHECKING:
    from sparcl_lite.data.sources import Dataset, Split

VALIDATION_SHARE = 0.2  # of the training data, as in the SparCL paper


@dataclass(frozen=True)
class Task:
    """Classes ``(c,)`` met together and their training samples, as positions in the stream's training split."""

    index: int
    classes: Tensor
    samples: Tensor


@dataclass(frozen=True)
class Batch:
    """One training batch: raw images (uint8), augmented inputs (float32), labels, and the samples' positions.

    `step` counts the batches of an epoch.
    """

    images: Tensor
    inputs: Tensor
    labels: Tensor
    samples: Tensor
    task: Task
    step: int = 0


class Augmentation:
    """Random crop with zero padding, horizontal flip and normalisation, on whole batches.

    Equal in distribution to torchvision's `RandomCrop(size, padding)`, `RandomHorizontalFlip`, `Normalize`, with an
    independent draw per image. Crops are at multiples of `step` pixels.
    """

    def __init__(
        self, spec: DatasetSpec, generator: torch.Generator, device: torch.device | str = "cpu", step: int = 1
    ):
        self.padding, self.flip, self.step = spec.padding, spec.flip, step
        self.generator, self.device = generator, device
        mean = torch.tensor(spec.mean, device=device).view(1, -1, 1, 1)
        std = torch.tensor(spec.std, device=device).view(1, -1, 1, 1)
        self.scale, self.shift = 1 / (255 * std), -mean / std

    def normalise(self, images: Tensor) -> Tensor:
        """float32 inputs ``(N, C, H, W)`` of raw images, without augmentation."""
        return torch.addcmul(self.shift, images.float(), self.scale)

    def __call__(self, images: Tensor) -> Tensor:
        """Augmented and normalised inputs ``(N, C, H, W)`` of raw images."""
        n, channels, height, width = images.shape
        p = self.padding
        padded = torch.nn.functional.pad(images, (p, p, p, p))
        places = torch.randint(2 * p // self.step + 1, (2, n, 1), generator=self.generator)
        top, left = self.step * places.to(self.device)
        rows = top + torch.arange(height, device=self.device)
        columns = left + torch.arange(width, device=self.device)
        if self.flip:
            flipped = torch.rand(n, 1, generator=self.generator).to(self.device) < 0.5
            columns = torch.where(flipped, columns.flip(1), columns)
        wide = width + 2 * p
        places = (rows[:, :, None] * wide + columns[:, None, :]).view(n, 1, height * width)
        flat = padded.view(n, channels, -1)
        cropped = flat.gather(2, places.expand(-1, channels, -1)).view(n, channels, height, width)
        return self.normalise(cropped)


class TaskStream:
    """The tasks of a run, with their training samples and what they are evaluated on.

    Attributes
    ----------
    tasks : the tasks, in order
    train, held_out : the splits trained on and evaluated on (`config.holdout`)
    smallest : samples of the smallest phase of training
    """

    def __init__(self, config: RunConfig, dataset: Dataset, rng: Generators, device: str = "cpu"):
        self.config, self.spec, self.rng, self.device = config, dataset.spec, rng, device
        keep, validation = _choose(config, dataset.train.labels, rng)
        train, test = dataset.train, dataset.test
        self.train = _move(replace(train, images=train.images[keep], labels=train.labels[keep]), device)
        if config.holdout == "validation":
            test = replace(train, images=train.images[validation], labels=train.labels[validation])
        self.held_out = _move(test, device)
        step = 2 if config.clfd and config.clfd.ffe else 1  # so that cropping and the Haar transform commute
        self.augment = Augmentation(self.spec, rng.augmentation, device, step)
        count = len(self.spec.classes)
        order = torch.arange(count)
        if config.class_order == "shuffled":
            order = torch.randperm(count, generator=rng.classes)
        groups = order.split(config.task_classes)
        self.tasks = [self._task(index, classes.sort().values.to(device)) for index, classes in enumerate(groups)]
        phases = [self.joint()] if METHODS[config.method].all_at_once else self.tasks
        self.smallest = min(len(phase.samples) for phase in phases)
        self._check()

    def _check(self) -> None:
        """Raise `KitError` where a task has too few images to train on, or none to be evaluated on."""
        config, smallest = self.config, self.smallest
        if smallest < 2:
            raise KitError(
                f"images_per_class = {config.images_per_class}: a task of {smallest} sample, and batch norm needs 2"
            )
        if not steps_per_epoch(config, smallest):
            raise KitError(
                f"batch_size = {config.batch_size}: a task of {smallest} samples has no complete batch; "
                f"allowed: up to {smallest}, or drop_last = false"
            )
        if not all(len(self._held_out(task)) for task in self.tasks):
            raise KitError(
                f"images_per_class = {config.images_per_class}: holdout = {config.holdout!r} has no image of some task "
                f'to evaluate on; allowed: 3 or more, or holdout = "test"'
            )

    def _task(self, index: int, classes: Tensor) -> Task:
        return Task(index, classes, torch.isin(self.train.labels, classes).nonzero().squeeze(1))

    def _held_out(self, task: Task) -> Tensor:
        return torch.isin(self.held_out.labels, task.classes).nonzero().squeeze(1)

    def joint(self) -> Task:
        """All tasks as one."""
        return self._task(0, torch.cat([task.classes for task in self.tasks]))

    def batch(self, task: Task, samples: Tensor, step: int = 0) -> Batch:
        """The augmented batch of the given samples."""
        images = self.train.images[samples]
        return Batch(images, self.augment(images), self.train.labels[samples], samples, task, step)

    def epoch(self, task: Task, samples: Tensor) -> Iterator[Batch]:
        """All given samples once, in random order, in batches of `batch_sizes`."""
        shuffled = samples[torch.randperm(len(samples), generator=self.rng.order).to(self.device)]
        sizes = batch_sizes(self.config, len(samples))
        return self.batches(task, shuffled[: sum(sizes)], sizes)

    def batches(self, task: Task, samples: Tensor, sizes: int | list[int]) -> Iterator[Batch]:
        """The given samples in their order, in batches of these sizes."""
        for step, chosen in enumerate(samples.split(sizes)):
            yield self.batch(task, chosen, step)

    def evaluation_batches(self, task: Task, size: int = 500) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised inputs and labels of the task's held-out samples."""
        for part in self._held_out(task).split(size):
            yield self.augment.normalise(self.held_out.images[part]), self.held_out.labels[part]


def batch_sizes(config: RunConfig, samples: int) -> list[int]:
    """Sizes of an epoch's batches over so many samples.

    A smaller last batch is kept or dropped (`drop_last`, and always one of a single sample, which batch norm cannot
    take); with `even_batches` all are of one size, up to one sample, near `batch_size`.
    """
    full, remainder = divmod(samples, config.batch_size)
    if config.even_batches and samples > 1:
        count = max(1, round(samples / config.batch_size))
        size, larger = divmod(samples, count)
        return [size + 1] * larger + [size] * (count - larger)
    return [config.batch_size] * full + [remainder] * (remainder > 1 and not config.drop_last)


def steps_per_epoch(config: RunConfig, samples: int) -> int:
    """Training steps that `epoch` takes over so many samples."""
    return len(batch_sizes(config, samples))


def planned_sizes(config: RunConfig, spec: DatasetSpec) -> list[int]:
    """Samples of each phase of training: of each task, or of all tasks together."""
    classes = [config.classes] if METHODS[config.method].all_at_once else config.task_classes
    return [count * samples_per_class(config, spec) for count in classes]


def samples_per_class(config: RunConfig, spec: DatasetSpec) -> int:
    """Training images a class that a run sees (datasets here are class-balanced up to a few images)."""
    size = config.images_per_class or spec.train_images // len(spec.classes)
    return size - round(VALIDATION_SHARE * size) if config.holdout == "validation" else size


def _choose(config: RunConfig, labels: Tensor, rng: Generators) -> tuple[Tensor, Tensor]:
    """Positions trained on and left out for validation: per class, at random, disjoint."""
    keep, validation = [], []
    for label in labels.unique():
        members = (labels == label).nonzero().squeeze(1)
        if config.images_per_class > len(members):
            raise KitError(
                f"images_per_class = {config.images_per_class}: {config.dataset} has {len(members)} training "
                f"images of class {int(label)}"
            )
        members = members[torch.randperm(len(members), generator=rng.subset)]
        members = members[: config.images_per_class or None]
        left_out = round(VALIDATION_SHARE * len(members)) if config.holdout == "validation" else 0
        keep.append(members[left_out:])
        validation.append(members[:left_out])
    return torch.cat(keep).sort().values, torch.cat(validation).sort().values


def _move(split: Split, device: str) -> Split:
    return replace(split, images=split.images.to(device), labels=split.labels.to(device))
