"""What every continual-learning method is: the hooks that the training loop calls, with their usual behaviour."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import ClassVar, NamedTuple

from sparcl_lite import models
from sparcl_lite.config import Parameters, RunConfig
from sparcl_lite.config.run import UNFROZEN
from sparcl_lite.data.streams import Batch, Task, TaskStream
from sparcl_lite.late import Tensor, nn, torch
from sparcl_lite.losses import cross_entropy
from sparcl_lite.replay import Memory, ReservoirBuffer


class Passes(NamedTuple):
    """Samples that went through the network: forward and backward (`training`), or `forward` only.

    So many of them (`skipped`) began above the frozen blocks, whose maps were kept from before.
    """

    training: int = 0
    forward: int = 0
    skipped: int = 0


class Method:
    """Base of all methods: fine-tuning without any memory.

    A subclass writes `loss`, and its own fields as `Parameters`; those that need more override a hook.

    Attributes
    ----------
    Parameters : the fields of the method's own; the run's configuration has them beside its other fields
    forward_units : cost in the SparCL paper's convention, in forward passes over the task's data
    uses_buffer, fills_each_step : whether there is a buffer, and whether every step offers its batch to it
    all_at_once : whether one phase of training has the samples of all tasks
    task_aware : whether `predict` needs the task, so that there is no Class-IL accuracy
    keeps_to_loss : whether nothing but the forward pass of `loss` reads weights, and nothing but backward and the
        update reads gradients, so that a sparse engine may hold both for the active weights only; False is always right
    no_sparsity : the reason why no sparse strategy goes with the method; empty where one does
    """

    Parameters: ClassVar[type[Parameters]] = Parameters
    forward_units = 3
    uses_buffer = False
    fills_each_step = True
    task_aware = False
    all_at_once = False
    keeps_to_loss = False
    no_sparsity = ""

    def __init__(
        self,
        config: RunConfig,
        network: models.Network,
        buffer: ReservoirBuffer | None,
        augment: Callable[[Tensor], Tensor],
    ):
        self.config, self.network, self.buffer, self.augment = config, network, buffer, augment

    @classmethod
    def check(cls, config: RunConfig) -> None:
        """Raise ValueError, in one line, where the run's fields do not go with the method."""
        if config.sparse and cls.no_sparsity:
            raise ValueError(f"sparse = {config.sparse.kind!r}: {config.method!r} {cls.no_sparsity}; switch sparse off")
        if cls.uses_buffer and config.buffer_size < 2:
            raise ValueError(
                f"buffer_size = {config.buffer_size}, but {config.method!r} replays batches; allowed: 2 or more"
            )
        if config.freeze != UNFROZEN:
            allowed = models.layout_of(config).boundaries
            if config.freeze not in allowed:
                raise ValueError(
                    f"freeze = {config.freeze!r}: unknown in {config.network}; allowed: {', '.join(allowed)}"
                )

    @classmethod
    def derive(cls, config: RunConfig, whole: models.Network, seed: int) -> models.Network:
        """The network that the method trains, made of the registered one with its first weights."""
        return whole

    @classmethod
    def boundary(cls, config: RunConfig, task: int) -> str:
        """The last block that does not train in this task (counted from 0)."""
        return config.freeze if task > 0 or config.freeze_first_task else UNFROZEN

    @classmethod
    def arrange(cls, config: RunConfig, network: models.Network, task: int) -> None:
        """Before a task: let train what trains in it."""
        network.freeze(network.up_to(cls.boundary(config, task)), config.frozen_norm)
        network.entry.requires_grad_(task == 0)

    @classmethod
    def variant(cls, config: RunConfig, task: int) -> Hashable:
        """What decides, beside the network's own shape, which layers run and train in this task."""
        return cls.boundary(config, task)

    @property
    def trainable(self) -> list[nn.Parameter]:
        """Parameters that are not frozen."""
        return [p for p in self.network.parameters() if p.requires_grad]

    def phases(self, stream: TaskStream) -> list[Task]:
        """What is trained on, in order: one phase per task."""
        return stream.tasks

    def begin_task(self, task: Task, stream: TaskStream) -> None:
        """Before the first epoch of a phase."""

    def training_set(self, task: Task) -> Tensor:
        """Positions of the samples that a phase presents."""
        return task.samples

    def begin_epoch(self, task: Task, epoch: int) -> None:
        """Before each epoch, the network in train mode."""

    def end_task(self, task: Task, stream: TaskStream) -> None:
        """After the last epoch of a phase."""

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Training loss (scalar) and the logits of the current batch ``(n, classes)``."""
        raise NotImplementedError

    def step(self, batch: Batch, optimizer: torch.optim.Optimizer, edit_gradients: Callable[[], None]) -> Tensor:
        """One training step; `edit_gradients` runs between backward and update. Returns the current logits."""
        optimizer.zero_grad(set_to_none=True)
        loss, logits = self.loss(batch)
        loss.backward()
        self.correct_gradients(batch)
        edit_gradients()
        optimizer.step()
        if self.uses_buffer and self.fills_each_step:
            self.buffer.add(batch.images, batch.labels, logits.detach())
        return logits.detach()

    def correct_gradients(self, batch: Batch) -> None:
        """Change the gradients that backward has left, before a sparse strategy does."""

    def predict(self, inputs: Tensor, task: Task | None = None) -> Tensor:
        """Logits ``(N, classes)`` at test time; `task` is given only to methods that are `task_aware`."""
        return self.network(inputs)

    def replay(self, batch: Batch, draws: int) -> list[Memory]:
        """That many independent draws from the buffer, or none while it is empty or replay has not begun."""
        if not len(self.buffer) or batch.task.index < self.config.replay_from_task:
            return []
        return [self.buffer.sample(self.config.replay_batch_size) for _ in range(draws)]

    def forward(self, batch: Batch, memories: list[Memory]) -> tuple[Tensor, ...]:
        """Logits of the current batch and of each draw: one joint pass that keeps separate batch statistics."""
        inputs = [batch.inputs, *(self.augment(memory.images) for memory in memories)]
        sizes = tuple(map(len, inputs))
        return self.network(torch.cat(inputs), chunks=sizes).split(sizes)

    def current_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of the current batch, masked to the current task where the run asks for it."""
        return cross_entropy(logits, batch.labels, batch.task.classes if self.config.masked_ce else None)

    @classmethod
    def paper_units(cls, config: RunConfig, trained: float) -> float:
        """Forward passes over the task's data in the SparCL paper's convention; `trained`: share that is not frozen."""
        return cls.forward_units - 2 * (1 - trained)

    def report(self) -> dict:
        """What a finished run should remember of the method, as JSON values."""
        return {}

    def state_dict(self) -> dict:
        """What the method must remember beyond network and buffer."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Take over a state of `state_dict`."""


class SharedBuffer(Method):
    """Base of methods that replay an equal share of the buffer for each task."""

    @classmethod
    def check(cls, config: RunConfig) -> None:
        """Batch norm needs two samples of each task."""
        super().check(config)
        share, needed = config.buffer_size // config.task_count, 2 * config.task_count
        if config.buffer_size < needed:
            raise ValueError(
                f"buffer_size = {config.buffer_size}: {config.method} keeps {share} samples of each of "
                f"{config.task_count} tasks, and batch norm needs 2; allowed: {needed} or more"
            )
