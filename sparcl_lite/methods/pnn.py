"""Progressive neural networks (Rusu et al., 2016): a new column per task. Needs the task at test time."""

from __future__ import annotations

from collections.abc import Hashable

from sparcl_lite import models
from sparcl_lite.config import RunConfig
from sparcl_lite.config.run import UNFROZEN
from sparcl_lite.data.streams import Batch, Task
from sparcl_lite.late import Tensor
from sparcl_lite.losses import cross_entropy
from sparcl_lite.methods.base import Method
from sparcl_lite.registry import METHODS


@METHODS.register("pnn", label="PNN")
class PNN(Method):
    """L = CE(f_t(x), y) over the task's own classes, f_t the task's column with its lateral connections.

    Earlier columns never change, so nothing is forgotten; memory grows with every task.
    """

    task_aware = True
    no_sparsity = "has a network for every task"

    @classmethod
    def check(cls, config: RunConfig) -> None:
        """A column is a residual network, and trains from its first layer."""
        if not isinstance(models.layout_of(config), models.ResNet):
            raise ValueError(f"network = {config.network!r}: 'pnn' links the stages of ResNets")
        super().check(config)
        if config.freeze != UNFROZEN:
            raise ValueError(f"freeze = {config.freeze!r}: 'pnn' trains a new network for every task; allowed: none")

    @classmethod
    def derive(cls, config: RunConfig, whole: models.Network, seed: int) -> models.Network:
        """A column for each task, with first weights of its own, or all pre-trained ones."""
        columns = [models.whole_network(config, seed + k) for k in range(config.task_count)]
        network = models.Progressive(columns, seed=seed)
        if config.pretraining != "none":
            network.start_from(whole)
        return network

    @classmethod
    def arrange(cls, config: RunConfig, network: models.Network, task: int) -> None:
        """Train the task's own column."""
        network.use(task)

    @classmethod
    def variant(cls, config: RunConfig, task: int) -> Hashable:
        """Number of columns, and the one that trains."""
        return config.task_count, task

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """CE over the task's own classes."""
        (logits,) = self.forward(batch, [])
        return cross_entropy(logits, batch.labels, batch.task.classes), logits

    def predict(self, inputs: Tensor, task: Task | None = None) -> Tensor:
        """Logits ``(N, classes)`` of the task's own column."""
        return self.network(inputs, column=task.index)

    @classmethod
    def paper_units(cls, config: RunConfig, trained: float) -> float:
        """Forward and backward of one column, forward of the earlier ones ((T - 1) / 2 on average); no laterals."""
        return cls.forward_units + sum(t * classes for t, classes in enumerate(config.task_classes)) / config.classes
