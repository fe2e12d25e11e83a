"""What a training run looks like after every epoch: masks, samples, buffer, accuracy and confusion.

A `Recorder` watches a run and writes beside the store; a `Recording` is read. What a run computes does not depend
on being recorded.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparcl_lite.config import RunConfig
from sparcl_lite.data.formats import FormatError, read_npz
from sparcl_lite.measure.metrics import class_il_correct, task_il_correct
from sparcl_lite.methods.base import Method
from sparcl_lite.paths import replacing
from sparcl_lite.runs.job import Watch
from sparcl_lite.runs.store import Store
from sparcl_lite.training import Trainer

EMPTY = -1  # label of a place in the buffer that holds nothing
BY_TASK = ("masks", "buffer_images")  # of the end of each task, or of the latest epoch


class Recording:
    """Arrays by name, E epochs of a run with T tasks, C classes, N training samples and L prunable layers.

    `task`, `epoch` (E,): counted from 0. `layers`, `sizes` (L,): names, and numbers of weights. `weight_density`,
    `gradient_density` (E, L): shares of 0 to 1. `overlap` (E, L, T): of the weights that were active when a task ended,
    the share that is active; NaN before. `class_il`, `task_il` (E, T): accuracies in percent, NaN where not evaluated.
    `confusion` (E, C, C): evaluated images by true class (rows) and predicted class. `active` (E, N): samples that the
    epoch presented. `misclassified` (E, N): how often so far, where the run counts that, else (E, 0). `buffer_labels`
    (E, B): `EMPTY` where there is none. `buffer_images` (T', B, channels, H, W): after each task, the last as of now.
    """

    def __init__(self, arrays: dict[str, np.ndarray]):
        self.arrays = arrays

    def __getattr__(self, name: str) -> np.ndarray:
        if name.startswith("_") or name not in self.arrays:
            raise AttributeError(name)
        return self.arrays[name]

    def __len__(self) -> int:
        return len(self.task)

    @property
    def active(self) -> np.ndarray:
        """(E, N) booleans."""
        packed = self.arrays["active"]
        return np.unpackbits(packed, axis=1, count=int(self.arrays["samples"])).astype(bool)

    def at(self, task: int, epoch: int) -> int | None:
        """Number of the moment after that epoch, or None where it was not recorded."""
        found = np.flatnonzero((self.task == task) & (self.epoch == epoch))
        return int(found[0]) if len(found) else None

    @classmethod
    def of(cls, store: Store, config: RunConfig) -> Recording | None:
        """The recording of a run in a store or in what it also reads, or None."""
        for root in (*store.also_read, store.root):
            path = recording_path(root, config)
            if path.exists():
                try:
                    return cls(read_npz(path))
                except FormatError as error:
                    warnings.warn(f"{error}; not used", stacklevel=2)
        return None


def recording_path(root: Path, config: RunConfig) -> Path:
    """The file of a run's recording."""
    return root / "recordings" / f"{config.key}.npz"


class Recorder(Watch):
    """Writes the recording of one run after every epoch; one that is resumed goes on with what is written."""

    def __init__(self, store: Store, config: RunConfig):
        self.path, self.known = recording_path(store.root, config), Recording.of(Store(store.root), config)
        self.moments: list[dict[str, np.ndarray]] = []
        self.by_task: dict[str, list[np.ndarray]] = {name: [] for name in BY_TASK}

    def begin(self, trainer: Trainer, steps: int) -> None:
        """Take over what was recorded up to the trainer's position."""
        self.trainer = trainer
        phase, epoch = trainer.position
        if self.known is None or (phase, epoch) == (0, 0):
            return
        known = self.known
        kept = [i for i in range(len(known)) if (known.task[i], known.epoch[i]) < (phase, epoch)]
        per_epoch = [n for n, a in known.arrays.items() if n not in (*BY_TASK, "layers", "sizes", "samples")]
        self.moments = [{name: known.arrays[name][i] for name in per_epoch} for i in kept]
        self.by_task = {name: list(known.arrays[name][: phase + 1]) for name in BY_TASK if name in known.arrays}

    def epoch(self) -> None:
        """Record the trainer as it is."""
        trainer = self.trainer
        phase, done = trainer.position
        masks = _masks(trainer)
        self._of_task("masks", phase, np.packbits(masks))
        moment = {
            "task": np.int16(phase),
            "epoch": np.int16(done - 1),
            "active": np.packbits(_positions(trainer)),
            **self._layers(trainer, masks, phase),
            **_evaluated(trainer, phase),
            **self._buffer(trainer, phase),
        }
        self.moments.append(moment)
        self._write(trainer)

    def _of_task(self, name: str, phase: int, value: np.ndarray) -> None:
        self.by_task[name] = [*self.by_task[name][:phase], value]

    def _layers(self, trainer: Trainer, masks: np.ndarray, phase: int) -> dict[str, Any]:
        weights, strategy = trainer.sparsity.weights, trainer.sparsity
        starts = np.cumsum([0, *(w.numel() for w in weights.values())])[:-1]
        overlap = np.full((len(weights), len(trainer.phases)), np.nan, np.float32)
        for task, packed in enumerate(self.by_task["masks"][:phase]):
            earlier = np.unpackbits(packed, count=len(masks)).astype(bool)
            common, kept = (np.add.reduceat(m.astype(int), starts) for m in (earlier & masks, earlier))
            overlap[:, task] = common / np.maximum(kept, 1)
        densities = {
            name: np.array([getattr(strategy, name).get(layer, 1.0) for layer in weights], np.float32)
            for name in ("weight_density", "gradient_density")
        }
        return densities | {"overlap": overlap}

    def _buffer(self, trainer: Trainer, phase: int) -> dict[str, Any]:
        ddr = getattr(trainer.sparsity, "ddr", None)
        counted = {"misclassified": ddr.misclassified.cpu().numpy().copy() if ddr else np.zeros(0, np.int32)}
        capacity = 0 if trainer.buffer is None else trainer.buffer.capacity
        labels = np.full(capacity, EMPTY, np.int16)
        images = np.zeros((capacity, *trainer.stream.train.images.shape[1:]), np.uint8)
        if capacity and len(trainer.buffer):
            held = trainer.buffer.contents()
            labels[: len(held.labels)], images[: len(held.labels)] = held.labels.cpu(), held.images.cpu()
        self._of_task("buffer_images", phase, images)
        return counted | {"buffer_labels": labels}

    def _write(self, trainer: Trainer) -> None:
        arrays = {name: np.stack([m[name] for m in self.moments]) for name in self.moments[0]}
        arrays |= {name: np.stack(values) for name, values in self.by_task.items()}
        weights = trainer.sparsity.weights
        arrays["layers"] = np.array([name.removesuffix(".weight") for name in weights])
        arrays["sizes"] = np.array([weight.numel() for weight in weights.values()])
        arrays["samples"] = np.array(len(trainer.stream.train.labels))
        with replacing(self.path) as file:
            np.savez_compressed(file, **arrays)


def _masks(trainer: Trainer) -> np.ndarray:
    """All prunable weights in a row: whether each exists."""
    existing = trainer.sparsity.existing
    parts = [
        existing[name].flatten().bool() if name in existing else torch.ones(weight.numel(), dtype=torch.bool)
        for name, weight in trainer.sparsity.weights.items()
    ]
    return torch.cat([part.cpu() for part in parts]).numpy() if parts else np.zeros(0, bool)


def _positions(trainer: Trainer) -> np.ndarray:
    shown = np.zeros(len(trainer.stream.train.labels), bool)
    if trainer.sparsity.active is not None:
        shown[trainer.sparsity.active.cpu().numpy()] = True
    return shown


@torch.no_grad()
def _evaluated(trainer: Trainer, phase: int) -> dict[str, np.ndarray]:
    """Accuracies on the tasks seen, and the confusion matrix.

    Of a method that predicts in a way of its own, which may need the end of a task, they are not known yet.
    """
    tasks, classes = trainer.stream.tasks, trainer.config.classes
    row = np.full((2, len(tasks)), np.nan, np.float32)
    confusion = np.zeros((classes, classes), np.int32)
    if type(trainer.method).predict is Method.predict:
        with _looking(trainer):
            for task in tasks if len(trainer.phases) == 1 else tasks[: phase + 1]:
                _count(trainer, task, row, confusion)
    return {"class_il": row[0], "task_il": row[1], "confusion": confusion}


def _count(trainer: Trainer, task: Any, row: np.ndarray, confusion: np.ndarray) -> None:
    right, count = np.zeros(2), 0
    for inputs, labels in trainer.stream.evaluation_batches(task):
        logits = trainer.method.predict(inputs)
        right += [int(class_il_correct(logits, labels).sum()), int(task_il_correct(logits, labels, task.classes).sum())]
        np.add.at(confusion, (labels.cpu().numpy(), logits.argmax(1).cpu().numpy()), 1)
        count += len(labels)
    row[:, task.index] = 100 * right / count


@contextmanager
def _looking(trainer: Trainer) -> Iterator[None]:
    """Passes inside are those of someone who looks on: not counted, and in evaluation mode."""
    counted, training = dict(trainer.passes.counts), trainer.network.training
    trainer.network.eval()
    try:
        yield
    finally:
        trainer.network.train(training)
        trainer.passes.counts.clear()
        trainer.passes.counts.update(counted)
