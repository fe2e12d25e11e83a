"""How much weights and gradients matter: the gradients behind CWI (SparCL, Eq. 1) and CGI (Eq. 3).

CWI(w) = |w| + alpha |dL~(D_t)/dw| + beta |dL(M)/dw|,  CGI(w) = alpha |dL~(D_t)/dw| + beta |dL(M)/dw|

where L~ is the single-head cross-entropy on the current task's data D_t (other classes masked out) and L the
cross-entropy on the buffer M.
"""

from __future__ import annotations

from collections.abc import Callable

from sparcl_lite import models
from sparcl_lite.data.streams import Augmentation, Task, TaskStream
from sparcl_lite.late import Tensor, nn, torch
from sparcl_lite.losses import cross_entropy
from sparcl_lite.masks import trainable
from sparcl_lite.replay import ReservoirBuffer

Scores = dict[str, Tensor]


class Probe:
    """Measures gradients of the current network without touching it: no update, no batch-norm drift.

    `count` is told the number of samples of each pass. Batches come from a generator of its own, so a run that probes
    sees the same training batches as one that does not.
    """

    def __init__(
        self,
        network: nn.Module,
        stream: TaskStream,
        buffer: ReservoirBuffer | None,
        count: Callable[[int], None],
    ):
        self.network, self.stream, self.buffer, self.count = network, stream, buffer, count
        self.config, self.generator = stream.config, stream.rng.probe
        self.augment = Augmentation(stream.spec, self.generator, stream.device, stream.augment.step)

    def task_gradient(
        self, weights: Scores, task: Task, samples: Tensor, batches: int, *, single_head: bool = True
    ) -> Scores:
        """|dL~(D_t)/dw|, the mean over so many batches of the given samples; L instead of L~ without `single_head`."""
        drawn = [self.inputs_of(chosen) for chosen in self.drawn(samples, batches)]
        return self.mean_gradient(weights, drawn, task.classes if single_head else None)

    def drawn(self, samples: Tensor, batches: int) -> list[Tensor]:
        """So many batches of distinct ones of the given samples."""
        orders = [torch.randperm(len(samples), generator=self.generator) for _ in range(batches)]
        return [samples[order[: self.config.batch_size].to(samples.device)] for order in orders]

    def inputs_of(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Augmented inputs and labels of the samples at these positions."""
        return self.augment(self.stream.train.images[samples]), self.stream.train.labels[samples]

    def buffer_gradient(self, weights: Scores, batches: int) -> Scores | None:
        """|dL(M)/dw|, the mean over so many draws; None while there is no buffer or nothing in it."""
        if not self.buffer:
            return None
        size = self.config.replay_batch_size
        memories = [self.buffer.sample(size, self.generator) for _ in range(batches)]
        return self.mean_gradient(weights, [(self.augment(m.images), m.labels) for m in memories], None)

    def mean_gradient(self, weights: Scores, batches: list[tuple[Tensor, Tensor]], classes: Tensor | None) -> Scores:
        """Mean over batches of inputs and labels of |gradient|, of weights that are not frozen.

        Logits outside `classes` are masked.
        """
        weights = trainable(weights)
        sums = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        with models.frozen_statistics(self.network):
            for inputs, labels in batches:
                loss = cross_entropy(self.network(inputs), labels, classes)
                gradients = torch.autograd.grad(loss, list(weights.values()))
                for total, gradient in zip(sums.values(), gradients, strict=True):
                    total.add_(gradient.abs(), alpha=1 / len(batches))
                self.count(len(inputs))
        return sums


def combined(alpha: float, on_task: Scores, beta: float, on_buffer: Scores | None) -> Scores:
    """CGI: alpha |dL~(D_t)/dw| + beta |dL(M)/dw|, without the second term while there is no buffer."""
    if on_buffer is None:
        return {name: alpha * score for name, score in on_task.items()}
    return {name: alpha * score + beta * on_buffer[name] for name, score in on_task.items()}
