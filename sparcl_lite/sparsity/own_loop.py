"""Sparse training in a user's own loop: `sparsify` makes a strategy act on any network, whatever trains it."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset, default_collate

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
        dataset = _as_dataset(dataset)
        count, labels = len(dataset), _labels(dataset)
        self.probe = _OwnProbe(
            self.model, self.config, self.rng, dataset, None if buffer is None else _as_dataset(buffer)
        )
        if self.strategy is None:
            self.strategy = STRATEGIES[self.config.sparse.kind](self.config, self.model, self.rng, count)
        self.strategy.resize(count)
        self.task = Task(self.tasks, labels.unique().to(_device(self.model)), torch.arange(count))
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
            self.observe(part, self.model(self.probe.inputs_of(part)[0]))
        self.model.train(training)
        self.observed = False


class _OwnProbe(Probe):
    """Measures gradients on a user's data sets: of the task, and of samples of earlier tasks (None: there are none)."""

    def __init__(self, model: nn.Module, config: RunConfig, rng: Generators, dataset: Dataset, earlier: Dataset | None):
        self.network, self.config, self.generator = model, config, rng.probe
        self.dataset, self.earlier = dataset, earlier
        self.count = lambda samples: None

    def inputs_of(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and labels of the task's samples at these positions."""
        return self.read(self.dataset, samples)

    def buffer_gradient(self, weights: Scores, batches: int) -> Scores | None:
        """As in `Probe`, on the samples of earlier tasks."""
        if self.earlier is None:
            return None
        drawn = self.drawn(torch.arange(len(self.earlier)), batches)
        return self.mean_gradient(weights, [self.read(self.earlier, chosen) for chosen in drawn], None)

    def read(self, dataset: Dataset, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and labels at these positions of a data set."""
        whole = isinstance(dataset, TensorDataset)
        inputs, labels = dataset[samples] if whole else default_collate([dataset[int(one)] for one in samples])
        return inputs.to(_device(self.network)), labels.to(_device(self.network))


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _as_dataset(given: Any) -> Any:
    """One of PyTorch's data sets, also of a pair of inputs and labels."""
    pair = isinstance(given, tuple | list) and len(given) == 2
    return TensorDataset(*map(torch.as_tensor, given)) if pair else given


def _labels(dataset: Any) -> Tensor:
    """Class ids ``(count,)``; of a data set that does not name them every sample is read once."""
    if isinstance(dataset, TensorDataset):
        return dataset.tensors[1].long()
    if (known := getattr(dataset, "targets", None)) is not None:
        return torch.as_tensor(known).long()
    return torch.tensor([int(dataset[index][1]) for index in range(len(dataset))])
