"""Averaged gradient episodic memory (Chaudhry et al., ICLR 2019)."""

from __future__ import annotations

from sparcl_lite.data.streams import Batch, Task, TaskStream
from sparcl_lite.late import Tensor, torch
from sparcl_lite.losses import cross_entropy
from sparcl_lite.methods.base import SharedBuffer
from sparcl_lite.registry import METHODS


@METHODS.register("agem", label="A-GEM")
class AGEM(SharedBuffer):
    """g <- g - (g.g_ref / |g_ref|^2) g_ref whenever g.g_ref < 0.

    g is the gradient of CE on the current batch, g_ref that of CE on a draw from the buffer. The buffer gets M / T
    random samples when a task ends, as in the DER paper's code.
    """

    forward_units = 4
    uses_buffer = True
    fills_each_step = False

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """CE of the current batch."""
        (logits,) = self.forward(batch, [])
        return self.current_loss(logits, batch), logits

    def correct_gradients(self, batch: Batch) -> None:
        """Project the gradients where they would raise the loss on the buffer."""
        for memory in self.replay(batch, draws=1):
            parameters = self.trainable
            loss = cross_entropy(self.network(self.augment(memory.images)), memory.labels)
            reference = torch.autograd.grad(loss, parameters)
            dot = sum((p.grad * r).sum() for p, r in zip(parameters, reference, strict=True))
            if dot < 0:
                share = dot / sum((r * r).sum() for r in reference)
                for p, r in zip(parameters, reference, strict=True):
                    p.grad -= share * r

    def end_task(self, task: Task, stream: TaskStream) -> None:
        """Keep the task's share of the buffer."""
        share = self.config.buffer_size // self.config.task_count
        chosen = task.samples[torch.randperm(len(task.samples), generator=self.buffer.generator)[:share]]
        images, labels = stream.train.images[chosen], stream.train.labels[chosen]
        self.buffer.add(images, labels, self.network.head.weight.new_zeros(len(labels), self.config.classes))
