"""Elastic weight consolidation (Kirkpatrick et al., 2017), in its online form (Schwarz et al., 2018)."""

from __future__ import annotations

import math

from pydantic import Field

from sparcl_lite.config import Parameters
from sparcl_lite.data.streams import Batch, Task, TaskStream
from sparcl_lite.late import F, Tensor, torch
from sparcl_lite.methods.base import Method
from sparcl_lite.registry import METHODS


class EWCParameters(Parameters):
    """Weight and decay of the Fisher information."""

    penalty: float = Field(0.0, ge=0, description="weight of the quadratic penalty")
    gamma: float = Field(1.0, ge=0, description="decay of the Fisher information from task to task")


@METHODS.register("ewc", label="EWC (online)")
class OnlineEWC(Method):
    """L = CE(f(x), y) + penalty sum_i min(F_i, 1 / (2 lr penalty)) (theta_i - theta*_i)^2.

    The bound is not in the papers: without it a weight of large Fisher information oscillates about theta* ever more,
    and training diverges; with it, a step of SGD takes such a weight to theta* and not beyond.
    After each task F <- gamma F + mean_x p(y|x) g(x)^2 with g(x) = d log p(y|x) / d theta, one augmented sample at a
    time, and theta* <- theta. Batch norm is in evaluation mode for it: the DER paper's code leaves it in train mode,
    where it sees a single image.
    """

    Parameters = EWCParameters
    fisher: list[Tensor] | None = None
    anchor: list[Tensor] | None = None

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """CE of the current batch and the quadratic penalty."""
        (logits,) = self.forward(batch, [])
        loss = self.current_loss(logits, batch)
        if self.fisher is not None:
            most = 0.5 / (self.config.lr * self.config.penalty) if self.config.penalty else math.inf
            terms = zip(self.fisher, self.network.parameters(), self.anchor, strict=True)
            loss = loss + self.config.penalty * sum((f.clamp(max=most) * (p - a) ** 2).sum() for f, p, a in terms)
        return loss, logits

    def end_task(self, task: Task, stream: TaskStream) -> None:
        """Add the task's Fisher information and anchor the weights where they are."""
        fresh = self._fisher(task, stream)
        if self.fisher is not None:
            fresh = [self.config.gamma * old + new for old, new in zip(self.fisher, fresh, strict=True)]
        self.fisher = fresh
        self.anchor = [p.detach().clone() for p in self.network.parameters()]

    def _fisher(self, task: Task, stream: TaskStream) -> list[Tensor]:
        total = [torch.zeros_like(p) for p in self.network.parameters()]
        trained = [(sum_, p) for sum_, p in zip(total, self.network.parameters(), strict=True) if p.requires_grad]
        self.network.eval()
        for batch in stream.batches(task, task.samples, 1):
            log_likelihood = -F.cross_entropy(self.network(batch.inputs), batch.labels)
            weight = log_likelihood.detach().exp() / len(task.samples)
            gradients = torch.autograd.grad(log_likelihood, [p for _, p in trained])
            for (sum_, _), gradient in zip(trained, gradients, strict=True):
                sum_ += weight * gradient**2
        return total

    def state_dict(self) -> dict:
        """Fisher information and anchor."""
        return {"fisher": self.fisher, "anchor": self.anchor}

    def load_state_dict(self, state: dict) -> None:
        """Take over a state of `state_dict`."""
        self.fisher, self.anchor = state["fisher"], state["anchor"]
