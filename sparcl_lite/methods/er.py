"""Experience replay."""

from __future__ import annotations

from pydantic import Field

from sparcl_lite.config import Parameters
from sparcl_lite.data.streams import Batch
from sparcl_lite.late import Tensor, torch
from sparcl_lite.losses import cross_entropy
from sparcl_lite.methods.base import Method
from sparcl_lite.registry import METHODS
from sparcl_lite.replay import Memory


class ERParameters(Parameters):
    """How ER passes its two batches."""

    merge_batches: bool = Field(True, description="one batch (and one batch norm) of current and replayed samples")
    beta: float = Field(1.0, ge=0, description="weight of the replayed samples' cross-entropy, where not merged")


@METHODS.register("er", label="ER", colour="#E69F00")
class ER(Method):
    """L = CE over the union of the current batch and one draw from the buffer.

    As in the DER paper's code the two are one batch: one mean, one set of batch-norm statistics. With
    `merge_batches=False` (SparCL's code) L = CE(current) + beta CE(replayed), in separate passes.
    """

    Parameters = ERParameters
    forward_units = 4
    uses_buffer = True
    keeps_to_loss = True

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """CE of the current and the replayed samples."""
        memories = self.replay(batch, draws=1)
        if memories and self.config.merge_batches:
            return self._merged(batch, memories[0])
        logits, *replayed = self.forward(batch, memories)
        loss = self.current_loss(logits, batch)
        for memory, output in zip(memories, replayed, strict=True):
            loss = loss + self.config.beta * cross_entropy(output, memory.labels)
        return loss, logits

    def _merged(self, batch: Batch, memory: Memory) -> tuple[Tensor, Tensor]:
        outputs = self.network(torch.cat([batch.inputs, self.augment(memory.images)]))
        logits, replayed = outputs.split([len(batch.labels), len(memory.labels)])
        total = self.current_loss(logits, batch) * len(logits)
        total = total + cross_entropy(replayed, memory.labels) * len(replayed)
        return total / len(outputs), logits
