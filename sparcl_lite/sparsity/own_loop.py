"""Sparse training in a user's own loop: `sparsify` makes a strategy act on any network, whatever trains it."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from sparcl_lite.config import RunConfig, Sparse
from sparcl_lite.data.streams import Batch, Task
from sparcl_lite.errors import KitError
from sparcl_lite.registry import STRATEGIES
from sparcl_lite.rng import Generators
from sparcl_lite.sparsity.importance import Probe, Scores

EVALUATED = 256  # samples at once


def sparsify(model: nn.Module, sparse: Sparse, *, epochs: int, batch_size: int = 32, seed: int = 0) -> "Sparsifier":
    """Make `model` sparse, and keep it so while a loop of the user's own trains it.

    Parameters
    ----------
    model : gives logits ``(n, classes)`` for a batch of inputs
    sparse : the strategy's fields, e.g. `SparCL(sparsity=0.9)`
    epochs : of each task; schedules are in fractions of them
    batch_size : of the batches in which importance is measured

    >>> trainer = sparsify(model, SparCL(sparsity=0.9), epochs=10)  # doctest: +SKIP
    >>> trainer.begin_task(dataset)  # doctest: +SKIP
    >>> for epoch in range(10):  # doctest: +SKIP
    ...     for samples in trainer.begin_epoch().split(32):  # positions in the data set that are still trained on
    ...         optimizer.zero_grad()
    ...         loss(samples).backward()
    ...         trainer.after_backward()
    ...         optimizer.step()
    >>> trainer.end_task()  # doctest: +SKIP

    An optimiser with momentum or weight decay moves weights without a gradient too: masked ones are set back to zero
    before the next step and when the task ends. Raises ValueError, in one line, for fields that do not go together.
    """
    return Sparsifier(model, sparse, epochs, batch_size, seed)


class Sparsifier:
    """A strategy beside a training loop; see `sparsify`.

    Attributes
    ----------
    strategy : the strategy, with its masks
    """

    def __init__(self, model: nn.Module, sparse: Sparse, epochs: int, batch_size: int, seed: int):
        self.config = RunConfig(
            profile="paper", method="sgd", sparse=sparse, epochs=epochs, batch_size=batch_size, buffer_size=0, seed=seed
        )
        if getattr(sparse, "schedule", "task") != "task":
            raise KitError(f"schedule = {sparse.schedule!r}: how many tasks will come is not known; allowed: task")
        self.model, self.rng = model, Generators(seed)
        self.strategy: Any = None
        self.epoch = self.step = self.tasks = 0
        self.observed = False  # whether the loop tells which samples were right

    @property
    def masks(self) -> dict[str, Tensor]:
        """The mask of every prunable weight, by name; empty where nothing is masked."""
        return self.strategy.existing if self.strategy else {}

    def begin_task(self, dataset: Any, *, buffer: Any = None) -> None:
        """Start a task on a data set: one of PyTorch's with (input, label) pairs, or a pair of tensors.

        `buffer`, of the same form, holds samples of earlier tasks: their gradient then counts towards importance.
        """
        count = len(dataset[1]) if _is_pair(dataset) else len(dataset)
        labels = _labels(dataset, count)
        self.probe = _OwnProbe(self.model, self.config, self.rng, dataset, buffer)
        if self.strategy is None:
            self.strategy = STRATEGIES[self.config.sparse.kind](self.config, self.model, self.rng, count)
        self.strategy.resize(count)
        self.task = Task(self.tasks, labels.unique(), torch.arange(count))
        self.strategy.begin_task(self.task)
        self.epoch, self.observed, self.labels = 0, False, labels

    def begin_epoch(self) -> Tensor:
        """Adjust masks and data; positions of the samples to train on in this epoch, in order."""
        if self.epoch and not self.observed and self.strategy.observes:
            self._evaluate()
        samples = self.strategy.begin_epoch(self.task, self.epoch, self.probe)
        self.epoch, self.step = self.epoch + 1, 0
        return samples

    def after_backward(self) -> None:
        """Between `backward` and the optimiser's step: mask weights and gradients."""
        self._mask_weights()
        self.strategy.edit_gradients(self.step, self.probe)
        self.step += 1

    def observe(self, samples: Tensor, logits: Tensor) -> None:
        """Tell what the network said of samples ``(n,)`` in training; otherwise each epoch ends with a pass to see."""
        self.observed = True
        batch = Batch(logits, logits, self.labels[samples].to(logits.device), samples, self.task)
        self.strategy.observe(batch, logits.detach())

    def end_task(self) -> None:
        """After the last epoch of a task."""
        self._mask_weights()
        self.strategy.end_task(self.task)
        self.tasks += 1

    @torch.no_grad()
    def _mask_weights(self) -> None:
        for name, mask in self.masks.items():
            self.strategy.weights[name].mul_(mask)

    @torch.no_grad()
    def _evaluate(self) -> None:
        training = self.model.training
        self.model.eval()
        for part in self.strategy.active.split(EVALUATED):
            self.observe(part, self.model(self.probe.read(self.probe.dataset, part)[0]))
        self.model.train(training)
        self.observed = False


class _OwnProbe(Probe):
    """Measures gradients on a user's data set."""

    def __init__(self, model: nn.Module, config: RunConfig, rng: Generators, dataset: Any, buffer: Any):
        self.network, self.config, self.generator = model, config, rng.probe
        self.dataset, self.samples_of_buffer = dataset, buffer
        self.device = next(model.parameters()).device
        self.count = lambda samples: None

    def read(self, dataset: Any, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and labels of these positions."""
        if _is_pair(dataset):
            inputs, labels = (torch.as_tensor(part)[samples] for part in dataset)
        else:
            inputs, labels = default_collate([dataset[int(sample)] for sample in samples])
        return inputs.to(self.device), labels.to(self.device)

    def task_gradient(
        self, weights: Scores, task: Task, samples: Tensor, batches: int, *, single_head: bool = True
    ) -> Scores:
        """As in `Probe`, on the user's data set."""
        return self._mean(weights, self.dataset, samples, batches, task.classes if single_head else None)

    def buffer_gradient(self, weights: Scores, batches: int) -> Scores | None:
        """As in `Probe`, on the samples of earlier tasks."""
        if self.samples_of_buffer is None:
            return None
        given = self.samples_of_buffer
        count = len(given[1]) if _is_pair(given) else len(given)
        return self._mean(weights, given, torch.arange(count), batches, None)

    def _mean(self, weights: Scores, dataset: Any, samples: Tensor, batches: int, classes: Tensor | None) -> Scores:
        size, drawn = self.config.batch_size, []
        for _ in range(batches):
            chosen = samples[torch.randperm(len(samples), generator=self.generator)[:size]]
            drawn.append(self.read(dataset, chosen))
        classes = None if classes is None else classes.to(self.device)
        return self.mean_gradient(weights, drawn, classes)


def _is_pair(dataset: Any) -> bool:
    return isinstance(dataset, tuple | list) and len(dataset) == 2


def _labels(dataset: Any, count: int) -> Tensor:
    """Class ids ``(count,)``; of a data set without `targets` every sample is read once."""
    if _is_pair(dataset):
        return torch.as_tensor(dataset[1]).long()
    if (known := getattr(dataset, "targets", None)) is not None:
        return torch.as_tensor(known).long()
    return torch.tensor([int(dataset[index][1]) for index in range(count)])
