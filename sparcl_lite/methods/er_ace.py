"""Experience replay with an asymmetric cross-entropy (Caccia et al., ICLR 2022)."""

from __future__ import annotations

from sparcl_lite.data.streams import Batch, Task, TaskStream
from sparcl_lite.late import Tensor, torch
from sparcl_lite.losses import cross_entropy
from sparcl_lite.methods.base import Method
from sparcl_lite.registry import METHODS


@METHODS.register("er-ace", label="ER-ACE", colour="#CC79A7")
class ERACE(Method):
    """L = CE(f(x), y), over the classes of this and later tasks, + CE(f(x'), y') over all; (x', y') is a draw."""

    forward_units = 4
    uses_buffer = True
    keeps_to_loss = True
    competing: Tensor | None = None  # all classes

    def begin_task(self, task: Task, stream: TaskStream) -> None:
        """The current samples do not compete with classes of earlier tasks."""
        self.competing = torch.cat([other.classes for other in stream.tasks[task.index :]])

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """CE of the current samples and of the replayed ones."""
        memories = self.replay(batch, draws=1)
        logits, *replayed = self.forward(batch, memories)
        loss = cross_entropy(logits, batch.labels, batch.task.classes if self.config.masked_ce else self.competing)
        for memory, output in zip(memories, replayed, strict=True):
            loss = loss + cross_entropy(output, memory.labels)
        return loss, logits

    def state_dict(self) -> dict:
        """The classes that compete."""
        return {"competing": self.competing}

    def load_state_dict(self, state: dict) -> None:
        """Take over a state of `state_dict`."""
        self.competing = state["competing"]
