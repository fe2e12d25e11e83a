"""FLOPs of training: in the SparCL paper's convention and honestly, planned from a configuration or counted live.

1 multiply-accumulate (MAC) = 2 FLOPs; convolutions and linear layers only, as in the paper. See docs/metrics.md.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from sparcl_lite.config import RunConfig
from sparcl_lite.data.streams import batch_sizes, planned_sizes, steps_per_epoch
from sparcl_lite.methods.base import Passes
from sparcl_lite.models import Network, adapted, network_of
from sparcl_lite.models.network import WEIGHTED
from sparcl_lite.registry import DATASETS, METHODS, NETWORKS
from sparcl_lite.sparsity import RigL, SparCL, StaticMask
from sparcl_lite.sparsity.rigl import drop_fraction, schedule_at
from sparcl_lite.sparsity.schedule import data_fraction, mask_adjustment, samples_in_epoch

FLOPS_PER_MAC = 2
DGM_FACTOR = 0.90  # the one constant with which the paper's convention gives all 12 published SparCL values
Densities = dict[str, float]


@dataclass(frozen=True)
class LayerCost:
    """One convolution or linear layer: MACs and output values per image, and whether SparCL prunes it.

    `trains`, `needs_input_gradient`: what a training pass computes for it in the backward direction.
    """

    name: str
    macs: int
    outputs: int
    parameters: int
    prunable: bool
    trains: bool = True
    needs_input_gradient: bool = True


def measured_costs(network: nn.Module, channels: int, size: int | tuple[int, int]) -> tuple[LayerCost, ...]:
    """Costs of the layers that a pass of one image runs, in that order; autograd says what backward would compute.

    A layer that runs several times is counted each time. `size` is that of the image, `(rows, columns)` where it is not
    square.
    """
    rows, columns = (size, size) if isinstance(size, int) else size
    image, training, found, seen = torch.zeros(1, channels, rows, columns), network.training, [], set()
    network = adapted(network, image)

    def record(name: str) -> Callable:
        def hook(layer: nn.Module, inputs: tuple, output: Tensor) -> None:
            places = inputs[0] if getattr(layer, "transposed", False) else output
            macs = places.numel() * layer.weight[0].numel()
            count = 0 if name in seen else sum(p.numel() for p in layer.parameters())
            seen.add(name)
            backward = layer.weight.requires_grad, inputs[0].requires_grad
            found.append(LayerCost(name, macs, output.numel(), count, name in network.prunable, *backward))

        return hook

    layers = ((name, layer) for name, layer in network.body.named_modules() if isinstance(layer, WEIGHTED))
    handles = [layer.register_forward_hook(record(f"{name}.weight")) for name, layer in layers]
    try:
        with torch.enable_grad():
            network.eval()(image)
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    return tuple(found)


_COSTS: dict[tuple, tuple[LayerCost, ...]] = {}


def costs_of(config: RunConfig, task: int = 0) -> tuple[LayerCost, ...]:
    """Layer costs of the network that `config` trains on its images, as it trains in this task (counted from 0)."""
    method, spec, make = METHODS[config.method], DATASETS[config.dataset], NETWORKS[config.network]
    shape = make, config.network, config.width, spec.channels, spec.size, config.classes
    made = method.derive.__func__, method.arrange.__func__, method.variant(config, task)
    key = (*shape, *made)  # code as it is: a name may be registered anew
    if key not in _COSTS:
        network = network_of(config, seed=0)
        method.arrange(config, network, task)
        _COSTS[key] = measured_costs(network, spec.channels, spec.size)
    return _COSTS[key]


def macs(costs: tuple[LayerCost, ...], density: Densities | None = None) -> float:
    """MACs of one image's forward pass at the given weight densities (missing: dense)."""
    density = density or {}
    return sum(cost.macs * density.get(cost.name, 1.0) for cost in costs)


def density_factor(costs: tuple[LayerCost, ...], weight_density: float) -> float:
    """D(s): the share of dense MACs left when the prunable layers have `weight_density` and the others are dense."""
    return macs(costs, {c.name: weight_density for c in costs if c.prunable}) / macs(costs)


def paper_flops(config: RunConfig) -> float:
    """Training FLOPs in the paper's convention.

    units x 2 MACs x training images x epochs x D(s) x mean data fraction x 0.90 with DGM. Forward and backward of the
    current batch are 3 units; each replay (or teacher) pass counts one forward pass, in all tasks. Frozen layers have
    no backward pass: in the last task's state, as LightCL's table counts all of them.
    """
    costs, sparse = costs_of(config), config.sparse
    images = sum(planned_sizes(config, DATASETS[config.dataset]))
    unit = FLOPS_PER_MAC * macs(costs) * images * config.epochs
    last = costs_of(config, config.task_count - 1)
    trained = macs(tuple(c for c in last if c.trains)) / macs(last)
    total = METHODS[config.method].paper_units(config, trained) * unit
    if sparse:
        total *= density_factor(costs, sparse.weight_density)
        total *= data_fraction(sparse, config.epochs)
        total *= DGM_FACTOR if isinstance(sparse, SparCL) and sparse.dgm else 1.0
    return total


@dataclass
class Ledger:
    """Honest FLOPs: what was executed, by part, at the densities of the moment.

    A dense engine that multiplies masks onto dense weights does not save these operations; the ledger counts what a
    sparse one has to do. `costs` are those of the task that is trained, with its frozen layers.
    """

    costs: tuple[LayerCost, ...]
    forward: float = 0.0
    input_gradient: float = 0.0
    weight_gradient: float = 0.0
    importance: float = 0.0
    auxiliary: float = 0.0

    @property
    def trained(self) -> tuple[LayerCost, ...]:
        """Layers with a weight gradient."""
        return tuple(c for c in self.costs if c.trains)

    @property
    def differentiated(self) -> tuple[LayerCost, ...]:
        """Layers with an input gradient: none at the stem, nor up to the first trainable layers."""
        return tuple(c for c in self.costs if c.needs_input_gradient)

    def add_training(self, samples: int, weights: Densities, gradients: Densities, skipped: int = 0) -> None:
        """Forward and backward of so many samples; the frozen layers' forward of `skipped` ones was done before."""
        frozen = tuple(c for c in self.costs if not c.trains)
        self.forward += FLOPS_PER_MAC * (samples * macs(self.costs, weights) - skipped * macs(frozen, weights))
        self.input_gradient += FLOPS_PER_MAC * samples * macs(self.differentiated, weights)
        self.weight_gradient += FLOPS_PER_MAC * samples * macs(self.trained, gradients)

    def add_importance(self, samples: int, weights: Densities) -> None:
        """Passes that only measure the gradients of existing prunable weights (for CWI and CGI)."""
        prunable = tuple(c for c in self.costs if c.prunable)
        after_first = self.costs[self.costs.index(prunable[0]) + 1 :]
        parts = (self.costs, after_first, prunable)  # forward, input gradients, weight gradients
        self.importance += FLOPS_PER_MAC * samples * sum(macs(part, weights) for part in parts)

    def add_auxiliary(self, passes: Passes, weights: Densities) -> None:
        """What a method does beside its training steps: teachers, Fisher information, features of exemplars."""
        parts = (self.costs, self.differentiated, self.trained)
        backward = sum(macs(part, weights) for part in parts) if passes.training else 0.0
        forward = macs(self.costs, weights) if passes.forward else 0.0
        self.auxiliary += FLOPS_PER_MAC * (passes.training * backward + passes.forward * forward)

    def by_part(self) -> dict[str, float]:
        """FLOPs by part."""
        names = ("forward", "input_gradient", "weight_gradient", "importance", "auxiliary")
        return {name: getattr(self, name) for name in names}

    @property
    def total(self) -> float:
        """All FLOPs."""
        return sum(self.by_part().values())


class PassCounter:
    """Counts the samples of every pass through the network, and through copies made of it, until someone asks."""

    def __init__(self, network: Network):
        counts = self.counts = Counter()

        def counter(begins: int) -> Callable:  # no methods: copies of the network share these
            def count(module: nn.Module, inputs: tuple) -> None:
                if begins >= 0:
                    counts["training" if torch.is_grad_enabled() else "forward"] += len(inputs[0])
                counts["skipped"] += begins * len(inputs[0])

            return count

        for entry, begins in network.entries.items():
            entry.register_forward_pre_hook(counter(begins))

    def take(self) -> Passes:
        """The passes since the last call: with a graph (training), and without one."""
        taken = Passes(**self.counts)
        self.counts.clear()
        return taken


def planned_ledger(config: RunConfig) -> Ledger:
    """The honest count that a run of `config` ends with, from its schedule alone.

    Exact for balanced classes and the `paper` variant; `drop_dead_weights` may end a little lower when run.
    """
    plan = _Plan(config)
    for task, size in enumerate(planned_sizes(config, DATASETS[config.dataset])):
        plan.run_task(task, size)
    return plan.ledger


class _Plan:
    """The state of `planned_ledger`: density and samples shown as the epochs go by."""

    def __init__(self, config: RunConfig):
        self.config, self.sparse = config, config.sparse
        self.method, self.ledger = METHODS[config.method], Ledger(costs_of(config))
        self.density = self.sparse.weight_density if self.sparse else 1.0
        self.size = self.shown = 0

    def uniform(self, density: float) -> Densities:
        return {c.name: density for c in self.ledger.costs if c.prunable}

    def buffered(self, task: int, shown: np.ndarray) -> np.ndarray:
        """Entries in the buffer after so many samples of the run were shown."""
        if not self.method.uses_buffer:
            return np.zeros_like(shown)
        return self.method.planned_buffer(self.config, task, self.size, shown)

    def run_task(self, task: int, size: int) -> None:
        """All epochs of a task of so many samples, and what the method does around them."""
        config, self.size = self.config, size
        self.ledger.costs = costs_of(config, task)
        presented = self.method.planned_samples(config, task, size)
        steps = sum(
            steps_per_epoch(config, samples_in_epoch(self.sparse, presented, e, config.epochs))
            for e in range(config.epochs)
        )
        done, before = 0, self.shown
        for epoch in range(config.epochs):
            samples = samples_in_epoch(self.sparse, presented, epoch, config.epochs)
            self.adjust_mask(task, epoch, samples)
            done += self.run_epoch(task, samples, done, steps)
        passes = self.method.planned_auxiliary(config, task, size, self.shown - before)
        self.ledger.add_auxiliary(passes, self.uniform(self.density))

    def adjust_mask(self, task: int, epoch: int, samples: int) -> None:
        """TDM's probes and the new density, where the schedule has an adjustment; SNIP's one probe."""
        if isinstance(self.sparse, StaticMask) and self.sparse.kind == "snip" and task == epoch == 0:
            self.ledger.add_importance(min(self.config.batch_size, samples), {})
        if not isinstance(self.sparse, SparCL) or not self.sparse.tdm:
            return
        action = mask_adjustment(self.sparse, task, epoch, self.config.epochs)
        if action:
            filled = self.buffered(task, np.array([self.shown]))
            self.probe(self.sparse.cwi_gradient, self.sparse.cwi_batches, samples, filled)
            self.density = 1 - action[1]

    def run_epoch(self, task: int, samples: int, done: int, planned: int) -> int:
        """Training steps of one epoch, with DGM's refreshes and RigL's updates; returns their number."""
        config, current = self.config, np.array(batch_sizes(self.config, samples), dtype=int)
        steps, before = len(current), current.cumsum() - current  # samples shown in this epoch before each step
        filled = self.buffered(task, self.shown + before)
        passed = current + self.method.planned_replay(config, task, filled)
        skipped = int(self.method.planned_skips(config, task, filled).sum())
        dense_gradient = np.zeros(steps, dtype=bool)
        weights = self.uniform(self.density)
        gradients = full = weights
        if isinstance(self.sparse, SparCL) and self.sparse.dgm:
            refresh = np.arange(steps) % self.sparse.gradient_interval == 0
            self.probe(self.sparse.cgi_gradient, 1, samples, filled[refresh])
            dense_gradient = refresh & (self.sparse.cgi_gradient == "total")
            gradients = self.uniform(self.sparse.gradient_density)
        if isinstance(self.sparse, RigL):
            start, total = schedule_at(config, task, planned)
            moves = [drop_fraction(self.sparse, start + done + step, total) > 0 for step in range(steps)]
            dense_gradient, full = np.array(moves, dtype=bool), self.uniform(1.0)
        self.ledger.add_training(int(passed[dense_gradient].sum()), weights, full)
        self.ledger.add_training(int(passed[~dense_gradient].sum()), weights, gradients, skipped)
        self.shown += int(current.sum())
        return steps

    def probe(self, source: str, batches: int, samples: int, filled: np.ndarray) -> None:
        """Passes that measure importance: one entry of `filled` (buffer content) per measurement."""
        if source == "separate":
            config, weights = self.config, self.uniform(self.density)
            on_task = len(filled) * min(config.batch_size, samples)
            on_buffer = np.minimum(config.replay_batch_size, filled).sum()
            self.ledger.add_importance(batches * int(on_task + on_buffer), weights)
