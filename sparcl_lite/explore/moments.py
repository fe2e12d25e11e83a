"""What is known of a run at a moment: from its recording, or from its result alone; `inside_figures` draws it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pandas as pd

from sparcl_lite.config import RunConfig
from sparcl_lite.data.sources import load
from sparcl_lite.data.streams import TaskStream
from sparcl_lite.pretraining import split_classes
from sparcl_lite.registry import METHODS
from sparcl_lite.rng import Generators
from sparcl_lite.runs.recording import EMPTY, Recording
from sparcl_lite.runs.result import RunResult

MATRICES = {"class_il": "accuracy_matrix", "task_il": "task_il_matrix"}


def stream_of(config: RunConfig) -> TaskStream:
    """The tasks of a run with their images, as it was trained on them."""
    return _stream_of(config.model_dump_json())


@lru_cache(maxsize=8)
def _stream_of(text: str) -> TaskStream:
    config = RunConfig.model_validate_json(text)
    rng = Generators(config.seed)
    return TaskStream(config, split_classes(config, load(config.dataset), rng)[1], rng)


@dataclass(frozen=True)
class Moment:
    """A run after an epoch of a task, both counted from 0, as far as its recording or its result tell."""

    config: RunConfig
    result: RunResult | None
    recording: Recording | None
    task: int
    epoch: int

    @cached_property
    def number(self) -> int | None:
        """Of the moment in the recording."""
        return None if self.recording is None else self.recording.at(self.task, self.epoch)

    @property
    def words(self) -> str:
        """When it is, for a reader."""
        return f"task {self.task + 1}, epoch {self.epoch + 1}"

    @property
    def _reported(self) -> dict[str, Any]:
        return {} if self.result is None else self.result.sparse

    def layers(self, earlier: int) -> pd.DataFrame:
        """By prunable layer: density of weights and of gradients, and overlap with an earlier mask, all in percent.

        The overlap is the share of the weights active at the end of task `earlier` (-1: before the first) that are
        active now; NaN where that is not recorded, as all those with -1. From the result alone densities are those of
        all layers together, and overlaps those at the end of this task.
        """
        if self.number is not None:
            recording, at = self.recording, self.number
            known = recording.overlap[at, :, earlier] if 0 <= earlier < self.task else np.nan
            return pd.DataFrame(
                {"layer": recording.layers, "density": 100 * recording.weight_density[at],
                 "gradients": 100 * recording.gradient_density[at], "overlap": 100 * known}
            )  # fmt: skip
        line = self.task * self.config.epochs + self.epoch
        lines = [
            {
                "layer": layer.removesuffix(".weight"),
                "density": 100 * self.result.trace["weight_density"][line],
                "gradients": 100 * self.result.trace["gradient_density"][line],
                "overlap": 100 * matrix[earlier + 1][self.task + 1] if earlier < self.task else np.nan,
            }
            for layer, matrix in self._reported.get("weight_survival", {}).items()
        ]
        return pd.DataFrame(lines, columns=["layer", "density", "gradients", "overlap"])

    @property
    def removed(self) -> list[np.ndarray]:
        """Positions of the samples that were removed from this task so far, by stage."""
        if self.number is not None:
            moments = [self.recording.at(self.task, epoch) for epoch in range(self.epoch + 1)]
            active = self.recording.active
            shown = [active[at] for at in moments if at is not None]
            gone = [np.flatnonzero(before & ~after) for before, after in itertools.pairwise(shown)]
            return [stage for stage in gone if len(stage)]
        stages = self._reported.get("removed", [])
        if self.task >= len(stages):
            return []
        first = self.task * self.config.epochs
        shown = self.result.trace["samples"][first : first + self.epoch + 1]
        count = sum(after < before for before, after in itertools.pairwise(shown))
        return [np.array(stage, dtype=int) for stage in stages[self.task][:count]]

    @property
    def misclassified(self) -> np.ndarray | None:
        """How often each training sample was misclassified so far (N,), in the whole run without a recording."""
        if self.number is not None:
            counted = self.recording.misclassified[self.number]
            return counted if len(counted) else None
        found = self._reported.get("misclassified")
        return None if found is None else np.array(found)

    @property
    def samples(self) -> np.ndarray:
        """Positions of this task's training samples."""
        stream = stream_of(self.config)
        task = stream.joint() if METHODS[self.config.method].all_at_once else stream.tasks[self.task]
        return task.samples.numpy()

    @property
    def confusion(self) -> np.ndarray | None:
        """Evaluated images by true class (rows) and predicted class, (C, C); None where nothing was evaluated."""
        if self.number is None or not self.recording.confusion[self.number].any():
            return None
        return self.recording.confusion[self.number]

    @property
    def held(self) -> np.ndarray | None:
        """Labels in the buffer; None where there is none, or it is not recorded."""
        if self.number is None or not self.recording.buffer_labels.shape[1]:
            return None
        labels = self.recording.buffer_labels[self.number]
        return labels[labels != EMPTY]

    def matrix(self, metric: str) -> np.ndarray:
        """Accuracy on task j after task i up to now, (T, T), in percent; NaN where it is not known."""
        count = self.config.task_count
        matrix = np.full((count, count), np.nan)
        if self.result is not None:
            matrix = self.result.matrix(MATRICES[metric])
            ended = self.epoch == self.config.epochs - 1
            matrix[(count if ended and METHODS[self.config.method].all_at_once else self.task + ended) :] = np.nan
        recorded = [] if self.recording is None else range(self.task + 1)
        for task in recorded:
            at = self.recording.at(task, self.epoch if task == self.task else self.config.epochs - 1)
            known = np.nan if at is None else getattr(self.recording, metric)[at]
            matrix[task] = np.where(np.isnan(known), matrix[task], known)
        return matrix
