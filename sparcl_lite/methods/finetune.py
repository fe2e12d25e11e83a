"""The two ends of the scale: SGD forgets freely, JOINT sees everything at once."""

from __future__ import annotations

from sparcl_lite.data.streams import Batch, Task, TaskStream
from sparcl_lite.late import Tensor
from sparcl_lite.methods.base import Method
from sparcl_lite.registry import METHODS


@METHODS.register("sgd", label="SGD", colour="#999999")
class SGD(Method):
    """Fine-tuning: L = CE(f(x), y). The lower bound."""

    keeps_to_loss = True

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """CE of the current batch."""
        (logits,) = self.forward(batch, [])
        return self.current_loss(logits, batch), logits


@METHODS.register("joint", label="JOINT", colour="#000000")
class Joint(SGD):
    """Training on all tasks together, for as many epochs as a task has. The upper bound."""

    all_at_once = True

    def phases(self, stream: TaskStream) -> list[Task]:
        """One phase with every class."""
        return [stream.joint()]
