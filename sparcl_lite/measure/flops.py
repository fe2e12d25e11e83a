"""FLOPs of training: in the SparCL paper's convention from a configuration, and honestly as passes are counted.

1 multiply-accumulate (MAC) = 2 FLOPs; convolutions and linear layers only, as in the paper. See docs/metrics.md.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparcl_lite.config import RunConfig
from sparcl_lite.data.streams import planned_sizes
from sparcl_lite.methods.base import Passes
from sparcl_lite.models import Network, adapted, network_of
from sparcl_lite.models.network import WEIGHTED
from sparcl_lite.registry import DATASETS, METHODS, NETWORKS

FLOPS_PER_MAC = 2
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
    shape = make, config.network, config.width, spec.channels, spec.size, config.classes, config.clfd, task == 0
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

    units x 2 MACs x training images x epochs x D(s) x the strategy's `paper_share`. Forward and backward of the
    current batch are 3 units; each replay (or teacher) pass counts one forward pass, in all tasks. Frozen layers have
    no backward pass: in the last task's state, as LightCL's table counts all of them.
    """
    costs, sparse = costs_of(config), config.sparse
    images = sum(planned_sizes(config, DATASETS[config.dataset]))
    unit = FLOPS_PER_MAC * macs(costs) * images * config.epochs
    last = costs_of(config, config.task_count - 1)
    trained = macs(tuple(c for c in last if c.trains)) / macs(last)
    total = METHODS[config.method].paper_units(config, trained) * unit
    return total * density_factor(costs, sparse.weight_density) * sparse.paper_share(config.epochs) if sparse else total


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
