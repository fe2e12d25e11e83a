"""Dark experience replay (Buzzega et al., NeurIPS 2020): the buffer also remembers the logits."""

from __future__ import annotations

from pydantic import Field

from sparcl_lite.config import Parameters
from sparcl_lite.data.streams import Batch
from sparcl_lite.late import F, Tensor
from sparcl_lite.losses import cross_entropy
from sparcl_lite.methods.base import Method
from sparcl_lite.registry import METHODS


class DERParameters(Parameters):
    """Weights of the terms of DER's loss."""

    alpha: float = Field(0.3, ge=0, description="weight of the logits' mean squared error")


class DERppParameters(DERParameters):
    """Weights of the terms of DER++'s loss."""

    beta: float = Field(0.5, ge=0, description="weight of the replayed samples' cross-entropy")


@METHODS.register("der", label="DER", colour="#009E73")
class DER(Method):
    """L = CE(f(x), y) + alpha MSE(f(x'), z').

    (x', z') is a draw from the buffer; z are the train-mode logits at insertion, before that step's update.
    """

    Parameters = DERParameters
    forward_units = 4
    uses_buffer = True
    keeps_to_loss = True

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """CE of the current samples, MSE to the remembered logits of the replayed ones."""
        memories = self.replay(batch, draws=1)
        logits, *replayed = self.forward(batch, memories)
        loss = self.current_loss(logits, batch)
        if memories:
            loss = loss + self.config.alpha * F.mse_loss(replayed[0], memories[0].logits)
        return loss, logits


@METHODS.register("der++", label="DER++", colour="#0072B2")
class DERpp(Method):
    """L = CE(f(x), y) + alpha MSE(f(x'), z') + beta CE(f(x''), y'').

    (x', z') and (x'', y'') are two independent draws from the buffer.
    """

    Parameters = DERppParameters
    forward_units = 5
    uses_buffer = True
    keeps_to_loss = True

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """DER's loss plus CE of a second draw."""
        memories = self.replay(batch, draws=2)
        logits, *replayed = self.forward(batch, memories)
        loss = self.current_loss(logits, batch)
        if memories:
            loss = loss + self.config.alpha * F.mse_loss(replayed[0], memories[0].logits)
            loss = loss + self.config.beta * cross_entropy(replayed[1], memories[1].labels)
        return loss, logits
