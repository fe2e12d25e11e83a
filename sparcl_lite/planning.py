"""What a run will cost, without training it: the loop itself, on a network that computes nothing.

The real `Trainer` runs the real method and strategy on images of one pixel and on weights that stand in for those of
the network; passes are counted by what counts them in a run, at the costs of the network that would run. Steps that
cost the same as an earlier one are not executed: what that one cost is counted again.
"""

import hashlib
import math
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from sparcl_lite import masks
from sparcl_lite.config import RunConfig
from sparcl_lite.data.sources import Dataset, Split
from sparcl_lite.data.streams import Batch, Task, TaskStream
from sparcl_lite.kept import kept
from sparcl_lite.measure.flops import Ledger, costs_of
from sparcl_lite.measure.memory import FLOAT_BYTES
from sparcl_lite.methods.base import Method
from sparcl_lite.models import Network, layout_of
from sparcl_lite.registry import DATASETS, METHODS
from sparcl_lite.threads import using_threads
from sparcl_lite.training import Trainer

ENTRIES = 2000  # of a masked weight that stands in for a larger one: densities are multiples of 1/2000


@dataclass(frozen=True)
class Plan:
    """The FLOPs of a run by part, its training steps, and the most samples that a step of its last phase passes."""

    ledger: Ledger
    steps: int
    samples: int


PLAN = TypeAdapter(Plan)


def planned(config: RunConfig) -> Plan:
    """What a run of `config` will cost; kept beside the data sets until the package's code changes.

    Exact where a class has as many images as the data set has on average, and where costs do not depend on what is
    learned: `drop_dead_weights` may end a little lower when run. Of a method or strategy of a user's own it is assumed
    that the steps of an epoch cost the same, but for what `Strategy.kind` tells apart.
    """
    seed = config.seed if config.class_order == "shuffled" else 0  # elsewhere it decides no cost
    return _planned(config.model_copy(update={"seed": seed}).model_dump_json())


def training_memory(config: RunConfig) -> dict[str, int]:
    """Bytes by part: nonzero weights and weight gradients, feature maps of one step, and the buffer.

    Convolution and linear parameters and output maps only, float32, as papers on sparse training count them, in the
    last task; sparse tensors without their index, maps of the current and all replayed samples of a step. Frozen layers
    hold weights only.
    """
    costs, spec, sparse = costs_of(config, config.task_count - 1), DATASETS[config.dataset], config.sparse
    trained = [c for c in costs if c.trains]
    weight_density = sparse.weight_density if sparse else 1.0
    gradient_density = sparse.gradient_density if sparse else 1.0
    entry = math.prod(spec.shape) + 8 + FLOAT_BYTES * config.classes  # uint8 pixels, label, logits
    return {
        "weights": round(FLOAT_BYTES * sum(c.parameters * (weight_density if c.prunable else 1) for c in costs)),
        "gradients": round(FLOAT_BYTES * sum(c.parameters * (gradient_density if c.prunable else 1) for c in trained)),
        "activations": FLOAT_BYTES * planned(config).samples * sum(c.outputs for c in trained),
        "buffer": entry * config.buffer_size * METHODS[config.method].uses_buffer,
    }


@lru_cache(maxsize=256)
def _planned(text: str) -> Plan:
    config = RunConfig.model_validate_json(text)
    if config.registered:
        return _made(config)
    return kept(
        f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json",
        lambda: _made(config),
        lambda plan, file: file.write(PLAN.dump_json(plan)),
        lambda file: PLAN.validate_json(file.read()),
    )


@using_threads(1)  # of tensors this small more threads take several times the processor's time
def _made(config: RunConfig) -> Plan:
    trainer = _DryTrainer(config)
    for number in range(len(trainer.phases)):
        trainer.begin(number)
        for epoch in range(trainer.config.epochs):
            trainer.train_epoch(number, epoch)
        trainer.end(number)
    return Plan(trainer.ledger, int(trainer.totals["steps"]), int(trainer.most))


class _DryTrainer(Trainer):
    """The loop without arithmetic, evaluation and data."""

    def __init__(self, config: RunConfig):
        super().__init__(config, _pixels(config))
        counters = [vars(self.ledger), self.totals, self.passes.counts, self.sparsity.clock]
        self.stream.again = _Again(counters, self._state, self.sparsity.kind)
        self.most = self.passed = 0  # samples of a step

    def _make_stream(self, dataset: Dataset, device: str) -> TaskStream:
        return _DryStream(self.config, dataset, self.rng, device)

    def _make_network(self, *_: object) -> Network:
        return _StandIn(layout_of(self.config), self.config.classes, ENTRIES if self.config.sparse else 1)

    def _make_engine(self) -> None:
        return None

    def _make_dropout(self) -> None:
        return None

    def _enter(self, number: int) -> None:
        self.ledger.costs, self.most = costs_of(self.config, number), 0
        for cost in self.ledger.costs:
            if cost.name in self.network.prunable:
                self.network.get_parameter(cost.name).requires_grad_(cost.trains)

    def begin(self, number: int) -> None:
        self.stream.again.forget()
        super().begin(number)
        self.stream.again.forget()

    def train_epoch(self, number: int, epoch: int) -> None:
        if type(self.method).begin_epoch is not Method.begin_epoch:  # epochs may differ
            self.stream.again.forget()
        super().train_epoch(number, epoch)

    def end(self, number: int) -> None:
        self.stream.again.forget()
        super().end(number)

    def _state(self) -> Hashable:
        densities = (*self.sparsity.weight_density.values(), *self.sparsity.gradient_density.values())
        return len(self.buffer or ()), densities

    def _edit_gradients(self, step: int) -> None:
        self.passed += self.passes.counts["training"]
        super()._edit_gradients(step)

    def _count_step(self, batch: Batch) -> None:
        super()._count_step(batch)
        self.most, self.passed = max(self.most, self.passed), 0

    def _check_finite(self, phase: Task, epoch: int) -> None:
        """Its numbers mean nothing."""


class _Again:
    """Counts what a batch cost, once more for each that costs the same.

    `counters` are all that counting changes. What batches of one size cost is told apart by `state`, which only a batch
    can change, and by the `kind` of the step.
    """

    def __init__(self, counters: list[dict], state: Callable[[], Hashable], kind: Callable[[int], Hashable]):
        self.counters, self.state, self.kind = counters, state, kind
        self.known: dict[Hashable, list[tuple[dict, str, float]]] = {}

    def forget(self) -> None:
        """What comes next may cost something else."""
        self.known = {}

    def batches(self, sizes: list[int], batch: Callable[[int], Batch]) -> Iterator[Batch]:
        """Those batches of these sizes that cost something new; the others are counted."""
        state = self.state()
        for step, size in enumerate(sizes):
            kind = size, self.kind(step), state
            if kind in self.known:
                for counter, name, change in self.known[kind]:
                    counter[name] += change
                continue
            before = [dict(counter) for counter in self.counters]
            yield batch(step)
            self.known[kind] = [
                (counter, name, value - old.get(name, 0))
                for counter, old in zip(self.counters, before, strict=True)
                for name, value in counter.items()
                if name != "costs" and value != old.get(name, 0)
            ]
            state = self.state()


class _DryStream(TaskStream):
    """Presents the batches that cost something new."""

    again: _Again

    def batches(self, task: Task, samples: Tensor, sizes: int | list[int]) -> Iterator[Batch]:
        if isinstance(sizes, int):
            sizes = [sizes] * (len(samples) // sizes) + [len(samples) % sizes] * (len(samples) % sizes > 0)
        ends = list(accumulate(sizes))
        return self.again.batches(
            sizes, lambda step: self.batch(task, samples[ends[step] - sizes[step] : ends[step]], step)
        )


class _StandIn(Network):
    """The passes of a network and the names of its prunable weights; its logits say nothing and carry gradients."""

    pattern_widths = (1,)

    def __init__(self, network: Network, classes: int, entries: int):
        super().__init__()
        self.trunk_entry, self.patterns_entry = nn.Identity(), nn.Identity()
        weights = masks.prunable_weights(network)
        self.prunable = tuple(weights)
        self.weights = nn.ParameterList(torch.rand(min(w.numel(), entries), 1, 1, 1) for w in weights.values())
        self.linear = nn.Linear(1, classes)

    @property
    def head(self) -> nn.Linear:
        return self.linear

    @property
    def entries(self) -> dict[nn.Module, int]:
        return {self.entry: 0, self.trunk_entry: -1, self.patterns_entry: 1}

    def get_parameter(self, target: str) -> nn.Parameter:
        return self.weights[self.prunable.index(target)]

    def features(self, x: Tensor, chunks: tuple[int, ...] = ()) -> Tensor:
        return self._made(len(self.entry(x)))

    def trunk(self, x: Tensor) -> Tensor:
        return self.trunk_entry(x)

    def patterns(self, maps: Tensor) -> tuple[list[Tensor], Tensor]:
        features = self._made(len(self.patterns_entry(maps)))
        return [features[:, :, None, None]], self.linear(features)

    def _made(self, count: int) -> Tensor:
        moved = sum((weight - weight.detach()).sum() for weight in self.weights)  # 0, with a gradient
        return torch.ones(count, 1) + moved


def _pixels(config: RunConfig) -> Dataset:
    """As many images of each class as the data set has (on average, where it is not at hand), of one pixel each."""
    entry = DATASETS.entry(config.dataset)
    spec = entry.value
    if "dataset" in entry.facts:
        labels = entry.facts["dataset"].train.labels
    else:
        labels = torch.arange(len(spec.classes)).repeat(spec.train_images // len(spec.classes))
    train, test = (
        Split(torch.zeros(len(part), spec.channels, 1, 1, dtype=torch.uint8), part)
        for part in (labels, torch.arange(len(spec.classes)))
    )
    return Dataset(spec, train, test)
