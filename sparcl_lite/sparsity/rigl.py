"""RigL (Evci et al., ICML 2020): a mask that moves to where the dense gradient is largest."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Literal

from pydantic import Field

from sparcl_lite import masks
from sparcl_lite.config import RunConfig, Sparse
from sparcl_lite.data.streams import Task, steps_per_epoch
from sparcl_lite.late import Tensor, nn
from sparcl_lite.registry import METHODS, STRATEGIES
from sparcl_lite.rng import Generators
from sparcl_lite.sparsity.base import Densities, MaskedStrategy
from sparcl_lite.sparsity.importance import Probe


class RigL(Sparse):
    """RigL (Evci et al., ICML 2020): drops the smallest weights, grows where the dense gradient is largest.

    A share `drop_fraction` / 2 (1 + cos(pi t / t_end)) of a layer's weights moves every `interval` steps, up to
    `until` of the steps of a task (`schedule="task"`: the cosine restarts with each) or of the run.
    """

    kind: Literal["rigl"] = "rigl"
    drop_fraction: float = Field(0.3, gt=0, le=1)
    interval: int = Field(100, ge=1, description="steps between two updates of the mask")
    until: float = Field(0.75, gt=0, le=1, description="t_end as a share of all steps")
    schedule: Literal["task", "run"] = "task"


@STRATEGIES.register("rigl", label="RigL", colour="#E69F00", config=RigL, schema=3)
class RigLStrategy(MaskedStrategy):
    """Starts from a random mask; an update of the mask takes the place of the step's update of the weights."""

    observes = False
    reads_gradients = False

    def __init__(self, config: RunConfig, network: nn.Module, rng: Generators, samples: int):
        super().__init__(config, network, rng, samples)
        self.set_masks(
            {n: masks.random_mask(w.data, config.sparse.weight_density, rng.mask) for n, w in self.weights.items()}
        )
        self.steps = 0  # of the schedule in all; those done are in the clock

    @property
    def wanted(self) -> dict[str, Tensor] | None:
        """All gradients, where the next step moves the mask."""
        return None if self._fraction() else {}

    def kind(self, step: int) -> Hashable:
        """Whether the mask moves, in each of the updates that a step may have."""
        return bool(self._fraction()), bool(self._fraction(later=1))

    def _fraction(self, later: int = 0) -> float:
        return drop_fraction(self.config.sparse, self.clock["steps"] + later, self.steps)

    def begin_task(self, task: Task) -> None:
        """A new cosine, where each task has its own."""
        super().begin_task(task)
        self.clock["steps"], self.steps = schedule_at(
            self.config, task.index, self.config.epochs * steps_per_epoch(self.config, len(task.samples))
        )

    def edit_gradients(self, step: int, probe: Probe) -> Densities:
        """Mask the gradients; at an update of the mask, use all of them and skip the weights' update."""
        fraction = self._fraction()
        self.clock["steps"] += 1
        if not fraction:
            return super().edit_gradients(step, probe)
        self.set_masks({n: self._moved(n, w, fraction) for n, w in masks.trainable(self.weights).items()})
        for parameter in self.network.parameters():
            parameter.grad = None
        return dict.fromkeys(self.weights, 1.0)

    def _moved(self, name: str, weight: Tensor, fraction: float) -> Tensor:
        mask = self.masks[name]
        count = int(fraction * int(mask.count_nonzero()))
        kept = masks.keep_top(weight.data.abs(), mask, int(mask.count_nonzero()) - count)
        grown = masks.keep_top(weight.grad.abs(), ~kept, count)
        weight.data[grown & ~mask] = 0  # one that was dropped just now keeps its value, as in the official code
        return kept | grown

    def state_dict(self) -> dict:
        """Masks and the place in the schedule."""
        return super().state_dict() | {"schedule": (self.clock["steps"], self.steps)}

    def load_state_dict(self, state: dict) -> None:
        """Take over a state of `state_dict`."""
        super().load_state_dict(state)
        self.clock["steps"], self.steps = state["schedule"]


def schedule_at(config: RunConfig, task: int, steps: int) -> tuple[int, int]:
    """Steps of the schedule done when a task of so many steps begins, and its steps in all (as many for each class)."""
    if config.sparse.schedule == "task" or METHODS[config.method].all_at_once:
        return 0, steps
    per_class = steps / config.task_classes[task]
    return round(per_class * sum(config.task_classes[:task])), round(per_class * config.classes)


def drop_fraction(sparse: RigL, step: int, steps: int) -> float:
    """Share of a layer's weights that this step drops and grows: 0 where the mask stays."""
    end = sparse.until * steps
    if step == 0 or step % sparse.interval or step >= end:
        return 0.0
    return sparse.drop_fraction / 2 * (1 + math.cos(math.pi * step / end))
