"""iCaRL (Rebuffi et al., CVPR 2017), after the correction of the DER paper's code; see docs/deviations.md."""

from __future__ import annotations

import copy

from pydantic import Field

from sparcl_lite.config import Parameters, RunConfig
from sparcl_lite.data.streams import Batch, Task, TaskStream
from sparcl_lite.late import F, Tensor, nn, no_grad, torch
from sparcl_lite.methods.base import Method
from sparcl_lite.registry import METHODS
from sparcl_lite.replay import Memory


class ICaRLParameters(Parameters):
    """Weight decay."""

    weight_decay: float = Field(0.0, ge=0, description="weight of |theta|^2 in the loss")


@METHODS.register("icarl", label="iCaRL")
class ICaRL(Method):
    """L = BCE(f(x), t) + weight_decay |theta|^2 over the classes seen so far.

    t is one-hot for the task's classes and sigmoid(f_old(x)) for past ones, f_old the network before the task.
    Exemplars, chosen by herding, join the training set; a sample is classified by the nearest class mean of their
    features. M / (classes seen) exemplars a class.
    """

    forward_units = 4
    uses_buffer = True
    fills_each_step = False
    Parameters = ICaRLParameters

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.exemplars: dict[int, Tensor] = {}  # by class: positions in the training split, in order of herding
        self.seen: Tensor | None = None  # class ids, in order of their tasks
        self.old: nn.Module | None = None
        self.means: Tensor | None = None  # (classes, features)

    @classmethod
    def check(cls, config: RunConfig) -> None:
        """The buffer holds a sample of each class."""
        super().check(config)
        if config.buffer_size < config.classes:
            raise ValueError(
                f"buffer_size = {config.buffer_size}: icarl keeps one sample of each of {config.classes} classes"
            )

    def training_set(self, task: Task) -> Tensor:
        """The task's samples and all exemplars."""
        return torch.cat([task.samples, *self.exemplars.values()])

    def begin_task(self, task: Task, stream: TaskStream) -> None:
        """Keep the network as it is for the targets of past classes."""
        self.old = copy.deepcopy(self.network).eval() if task.index else None
        self.seen = torch.cat([t.classes for t in stream.tasks[: task.index + 1]])

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """BCE to one-hot and remembered targets."""
        (logits,) = self.forward(batch, [])
        targets = F.one_hot(batch.labels, logits.shape[1]).float()
        if self.old is not None:
            past = self.seen[: -len(batch.task.classes)]
            with torch.no_grad():
                targets[:, past] = self.old(batch.inputs).sigmoid()[:, past]
        loss = F.binary_cross_entropy_with_logits(logits[:, self.seen], targets[:, self.seen])
        decay = sum((p**2).sum() for p in self.network.parameters())
        return loss + self.config.weight_decay * decay, logits

    @no_grad
    def end_task(self, task: Task, stream: TaskStream) -> None:
        """Shorten the exemplars of past classes, choose those of the new ones, and take all class means."""
        self.network.eval()
        count = self.config.buffer_size // len(self.seen)
        self.exemplars = {label: positions[:count] for label, positions in self.exemplars.items()}
        for label in task.classes.tolist():
            members = task.samples[stream.train.labels[task.samples] == label]
            self.exemplars[label] = members[herding(self._features(members, stream), count)]
        means = {label: self._features(positions, stream).mean(0) for label, positions in self.exemplars.items()}
        self.means = torch.full_like(self.network.head.weight, torch.inf)
        for label, mean in means.items():
            self.means[label] = mean
        held = torch.cat(list(self.exemplars.values()))
        images, labels = stream.train.images[held], stream.train.labels[held]
        self.buffer.replace([Memory(images, labels, images.new_zeros(len(held), 1))])  # what a sparse strategy looks at

    def _features(self, positions: Tensor, stream: TaskStream) -> Tensor:
        """Features ``(n, d)`` of plain images, in evaluation mode."""
        images = (stream.augment.normalise(stream.train.images[part]) for part in positions.split(500))
        return torch.cat([self.network.features(inputs) for inputs in images])

    def predict(self, inputs: Tensor, task: Task | None = None) -> Tensor:
        """Minus the squared distance to each class mean ``(N, classes)``; -inf for classes not seen yet."""
        return -(torch.cdist(self.network.features(inputs), self.means).nan_to_num(nan=torch.inf) ** 2)

    def state_dict(self) -> dict:
        """Exemplars, class means and the old network."""
        return {
            "exemplars": self.exemplars,
            "seen": self.seen,
            "means": self.means,
            "old": self.old and self.old.state_dict(),
        }

    def load_state_dict(self, state: dict) -> None:
        """Take over a state of `state_dict`."""
        self.exemplars, self.seen, self.means = state["exemplars"], state["seen"], state["means"]
        if state["old"] is not None:
            self.old = copy.deepcopy(self.network).eval()
            self.old.load_state_dict(state["old"])


def herding(features: Tensor, count: int) -> Tensor:
    """Positions of up to `count` rows of `features` ``(n, d)``, chosen so that their running mean stays at the mean.

    Each next row is the one that brings the mean of the chosen ones closest to the mean of all (iCaRL, Algorithm 4).
    """
    mean, total, chosen = features.mean(0), torch.zeros_like(features[0]), []
    free = torch.ones(len(features), dtype=torch.bool, device=features.device)
    for number in range(1, min(count, len(features)) + 1):
        distance = (mean - (features + total) / number).norm(dim=1)
        best = int(torch.where(free, distance, torch.inf).argmin())
        free[best] = False
        total = total + features[best]
        chosen.append(best)
    return torch.tensor(chosen, dtype=torch.long, device=features.device)
