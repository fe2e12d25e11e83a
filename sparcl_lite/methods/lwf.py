"""Learning without forgetting (Li and Hoiem, 2017), as in the DER paper's code."""

from __future__ import annotations

from pydantic import Field

from sparcl_lite.config import Parameters
from sparcl_lite.data.streams import Batch, Task, TaskStream
from sparcl_lite.late import F, Tensor, torch
from sparcl_lite.losses import cross_entropy
from sparcl_lite.methods.base import Method
from sparcl_lite.registry import METHODS


class LwFParameters(Parameters):
    """Distillation and weight decay."""

    alpha: float = Field(1.0, ge=0, description="weight of the distillation")
    temperature: float = Field(2.0, gt=0, description="of the distilled probabilities")
    weight_decay: float = Field(0.0, ge=0, description="weight of |theta|^2 in the loss")


@METHODS.register("lwf", label="LwF")
class LwF(Method):
    """L = CE over the classes seen so far + alpha KD over the past ones + weight_decay |theta|^2.

    KD = - mean_x sum_k q*_k(x) log q_k(x) with q = softmax(z / T), renormalised softmax^(1/T) over past classes. The
    targets q* are the logits of the network as the task begins, for plain images in [0, 1] (the DER paper's code does
    not normalise them), after the new columns of the head were trained alone for as many epochs as the task has.
    """

    Parameters = LwFParameters
    past: Tensor | None = None  # class ids
    samples: Tensor | None = None
    targets: Tensor | None = None  # logits (len(samples), classes)

    def begin_task(self, task: Task, stream: TaskStream) -> None:
        """Warm the head up for the new classes, then record what the network says of the new data."""
        earlier = [t.classes for t in stream.tasks[: task.index]]
        self.past = torch.cat(earlier) if earlier else None
        if self.past is None:
            return
        self.network.eval()
        self._warm_up(task, stream)
        self.samples = task.samples
        with torch.no_grad():
            parts = [self.network(stream.train.images[part].float() / 255) for part in task.samples.split(500)]
        self.targets = torch.cat(parts)

    def _warm_up(self, task: Task, stream: TaskStream) -> None:
        optimizer = torch.optim.SGD(self.network.head.parameters(), lr=self.config.lr)
        for _ in range(self.config.epochs):
            for batch in stream.epoch(task, task.samples):
                with torch.no_grad():
                    features = self.network.features(batch.inputs)
                optimizer.zero_grad()
                cross_entropy(self.network.head(features), batch.labels, task.classes).backward()
                optimizer.step()

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """CE of the current batch, distillation and weight decay."""
        (logits,) = self.forward(batch, [])
        seen = batch.task.classes if self.past is None else torch.cat([self.past, batch.task.classes])
        loss = cross_entropy(logits, batch.labels, batch.task.classes if self.config.masked_ce else seen)
        if self.past is not None:
            rows = torch.searchsorted(self.samples, batch.samples)
            loss = loss + self.config.alpha * self._distillation(logits, self.targets[rows])
        decay = sum((p**2).sum() for p in self.network.parameters())
        return loss + self.config.weight_decay * decay, logits

    def _distillation(self, logits: Tensor, targets: Tensor) -> Tensor:
        now, then = (z[:, self.past] / self.config.temperature for z in (logits, targets))
        return -(then.softmax(1) * F.log_softmax(now, 1)).sum(1).mean()

    def state_dict(self) -> dict:
        """Past classes and the recorded logits."""
        return {"past": self.past, "samples": self.samples, "targets": self.targets}

    def load_state_dict(self, state: dict) -> None:
        """Take over a state of `state_dict`."""
        self.past, self.samples, self.targets = state["past"], state["samples"], state["targets"]
