"""Function distance regularisation (Benjamin et al., ICLR 2019), as in the DER paper's code."""

from __future__ import annotations

import math
from collections.abc import Callable

from sparcl_lite import models
from sparcl_lite.data.streams import Batch, Task, TaskStream
from sparcl_lite.late import Tensor, torch
from sparcl_lite.methods.base import SharedBuffer
from sparcl_lite.registry import METHODS
from sparcl_lite.replay import Memory


@METHODS.register("fdr", label="FDR")
class FDR(SharedBuffer):
    """Two updates a step: one on CE(f(x), y), one on mean_x' |softmax(f(x')) - softmax(z')|_2.

    (x', z') is a draw from the buffer, which holds equally many samples of every task that has ended, with the
    train-mode logits z of that moment. The second update has no weight: the code behind the published row reads
    `alpha` and does not use it.
    """

    forward_units = 5
    uses_buffer = True
    fills_each_step = False
    keeps_to_loss = True

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """CE of the current batch."""
        (logits,) = self.forward(batch, [])
        return self.current_loss(logits, batch), logits

    def step(self, batch: Batch, optimizer: torch.optim.Optimizer, edit_gradients: Callable[[], None]) -> Tensor:
        """One update on the task, one on the buffer."""
        logits = super().step(batch, optimizer, edit_gradients)
        for memory in self.replay(batch, draws=1):
            optimizer.zero_grad(set_to_none=True)
            outputs = self.network(self.augment(memory.images))
            (outputs.softmax(1) - memory.logits.softmax(1)).norm(dim=1).mean().backward()
            edit_gradients()
            optimizer.step()
        return logits

    def end_task(self, task: Task, stream: TaskStream) -> None:
        """Give every task so far the same share of the buffer: the earlier ones keep the first of theirs."""
        share = self.config.buffer_size // (task.index + 1)
        kept = [self._kept(earlier, share) for earlier in stream.tasks[: task.index]]
        chosen = task.samples[torch.randperm(len(task.samples), generator=self.buffer.generator)[:share]]
        images, labels = stream.train.images[chosen], stream.train.labels[chosen]
        self.network.train()
        with torch.no_grad(), models.frozen_statistics(self.network):
            count = min(math.ceil(len(images) / self.config.batch_size), len(images) // 2)  # none of a single image
            parts = images.tensor_split(count)
            logits = torch.cat([self.network(self.augment(part)) for part in parts])
        self.buffer.replace([*kept, Memory(images, labels, logits)])

    def _kept(self, task: Task, share: int) -> Memory:
        held = self.buffer.contents()
        mine = torch.isin(held.labels, task.classes).nonzero().squeeze(1)[:share]
        return Memory(held.images[mine], held.labels[mine], held.logits[mine])
