"""Memory and FLOPs of training as LightCL's Table 1 counts them, computed from the network.

The paper calls both numbers theoretical and prints no formula. The rules here are the ones that give the printed
numbers back; docs/memory.md says how each was found and what a real training step holds. The measured side is in
`measure.memory` and `bench`. Bytes, float32; 1 MAC = 2 FLOPs.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pandas as pd

from sparcl_lite.config import RunConfig
from sparcl_lite.measure.flops import FLOPS_PER_MAC, measured_costs
from sparcl_lite.measure.memory import FLOAT_BYTES
from sparcl_lite.models import build
from sparcl_lite.papers.reference import reference
from sparcl_lite.registry import DATASETS

MIB = 2**20
BUFFER = 15  # samples, in every row of the table that has a buffer
TRAINED_ON = 0.9  # share of the training images: the official code evaluates on the others
CLASSES = len(DATASETS["cifar10"].classes)  # printed differences between rows are 42.6 MiB on both data sets: one head
PRUNED_SHARE = {"stem": 0.2, "layer1": 0.2, "layer2": 0.2, "layer3": 0.7, "layer4": 0.8}  # official code, `--Sparse`


@dataclass(frozen=True)
class Unit:
    """The stem, a residual block or the head of the network.

    Attributes
    ----------
    parameters : convolutions, batch norm and linear layers
    kept : those of them that LightCL's one-shot pruner leaves
    macs : of one image's forward pass, dense
    output_density : share of the MACs left when only output channels are pruned
    maps : values of each convolution's output for one image, without shortcuts; none in the head
    """

    name: str
    parameters: int
    kept: int
    macs: int
    output_density: float
    maps: tuple[int, ...]


@dataclass(frozen=True)
class Counting:
    """What the table counts for one row.

    Attributes
    ----------
    draws : passes of the buffer's 15 samples in a step, beside the batch
    weights, gradients : share of the parameters whose value and whose gradient is held
    copies : further values held for every parameter
    trains_from : the first unit whose gradients and activations are held; everything before it is frozen
    pruned : by LightCL's pruner, in place of the shares above
    references : whether the activations that the regulariser compares with are held
    reference_size : edge of the images they are counted for; None: the data set's
    transient_maps : feature maps of the frozen part, each as large as its largest, that live at the same time
    """

    draws: int = 0
    weights: float = 1.0
    gradients: float = 1.0
    copies: int = 0
    trains_from: str = "stem"
    pruned: bool = False
    references: bool = False
    reference_size: int | None = None
    transient_maps: int = 0


COUNTINGS = {
    "joint": Counting(),
    "sgd": Counting(),
    "ewc": Counting(copies=1),  # it needs two: the Fisher information and the old weights
    "pnn": Counting(copies=DATASETS["cifar10"].tasks - 1),  # older columns; as many are printed for ten tasks
    "fdr-15": Counting(draws=1),
    "er-15": Counting(draws=1),
    "der++-15": Counting(draws=2),
    "sparcl-er-0.90-15": Counting(draws=1, weights=0.10, gradients=0.05),  # why half as many is not known
    "sparcl-der++-0.90-15": Counting(draws=2, weights=0.10, gradients=0.10),
    "lightcl-15": Counting(draws=1, trains_from="layer4.0", references=True),
    "lightcl-0.90-15": Counting(draws=1, trains_from="layer4.0", references=True, pruned=True),
}

#: Ways to read LightCL's own memory, which no rule gives back for both of its rows: how many maps of the frozen part
#: live at the same time.
READINGS: dict[str, dict[str, Any]] = {
    "frozen part free": {},
    "one frozen map": {"transient_maps": 1},
    "two frozen maps": {"transient_maps": 2},
}
#: What comes closest to the dense row, though its FLOPs train a block less.
DENSE_FIT = {"trains_from": "layer3.1", "reference_size": DATASETS["cifar10"].size}


def readings(row: str) -> dict[str, dict[str, Any]]:
    """What each reading of a row's memory changes in its `Counting`, by name; one without a name where all is clear."""
    counting = _known("row", row, COUNTINGS)
    if not counting.references:
        return {"": {}}
    return READINGS if counting.pruned else READINGS | {"dense fit": DENSE_FIT}


def memory(row: str, dataset: str, reading: str = "") -> dict[str, int]:
    """Bytes that a training step of a row of Table 1 holds, by part.

    `weights`, `gradients` and further `copies`; `activations`: outputs of the 17 convolutions on the main path, for all
    samples of a step; `references` and `transient` of LightCL. Stored images are not counted. `reading` is one of
    `readings(row)`. Raises ValueError on an unknown name.
    """
    counting = replace(_known("row", row, COUNTINGS), **_known("reading", reading, readings(row)))
    config, size = _config(dataset), DATASETS[dataset].size
    frozen, trained = _split(units(size), counting.trains_from)
    _, compared = _split(units(counting.reference_size or size), "layer4.0")
    held, updated = (
        sum(unit.kept if counting.pruned else unit.parameters for unit in group)
        for group in (frozen + trained, trained)
    )
    samples = config.batch_size + BUFFER * counting.draws
    values = {
        "weights": counting.weights * held,
        "gradients": counting.gradients * updated,
        "copies": counting.copies * held,
        "activations": samples * sum(_maps(trained)),
        "references": counting.references * BUFFER * sum(_maps(compared)),
        "transient": counting.transient_maps * samples * max(_maps(frozen), default=0),
    }
    return {part: round(FLOAT_BYTES * value) for part, value in values.items()}


def flops(row: str, dataset: str) -> float:
    """Training FLOPs of a row of Table 1.

    2 FLOPs x (MACs of the forward pass + twice those of the trained units) x samples that all steps see. Every task
    counts the buffer's samples, the first one too. Sparse rows count the share of weights that is left, of LightCL's
    pruned channels only those of the outputs. Raises ValueError on an unknown name.
    """
    counting, config = _known("row", row, COUNTINGS), _config(dataset)
    parts = units(DATASETS[dataset].size)
    _, trained = _split(parts, counting.trains_from)
    forward, of_trained = (
        sum(unit.macs * (unit.output_density if counting.pruned else counting.weights) for unit in group)
        for group in (parts, trained)
    )
    images = TRAINED_ON * DATASETS[dataset].train_images * config.epochs
    seen = images * (config.batch_size + BUFFER * counting.draws) / config.batch_size
    further = _frozen_columns(config.task_count) * forward if row == "pnn" else 0.0
    repeats = config.task_count if row == "joint" else 1  # on all images for as many epochs as all tasks together
    return FLOPS_PER_MAC * (forward + 2 * of_trained + further) * seen * repeats


def comparison() -> pd.DataFrame:
    """Table 1's memory (MiB) and FLOPs beside what is counted here: row, dataset, quantity, reading, printed, counted.

    A line for each reading where there are several; `reading` is empty otherwise.
    """
    lines = []
    for cell in reference("lightcl", "table1").itertuples():
        dataset, quantity = cell.column.split("/")
        if quantity == "flops":
            counted = {"": flops(cell.row, dataset)}
        elif quantity == "memory":
            counted = {name: sum(memory(cell.row, dataset, name).values()) / MIB for name in readings(cell.row)}
        else:
            continue
        lines += [(cell.row, dataset, quantity, name, cell.value, value) for name, value in counted.items()]
    return pd.DataFrame(lines, columns=["row", "dataset", "quantity", "reading", "printed", "counted"])


@cache
def units(size: int) -> tuple[Unit, ...]:
    """The units of ResNet-18 (64 channels) for one `size` x `size` image, in order of execution."""
    config, channels = _config("cifar10"), DATASETS["cifar10"].channels
    shape = {"width": config.width, "channels": channels, "classes": CLASSES}
    network = build(config.network, **shape, seed=0)
    costs = measured_costs(network, channels, size)
    left = {config.width * 2**i: PRUNED_SHARE[stage] for i, stage in enumerate(network.stages)}
    left = {count: _kept_channels(count, share) for count, share in left.items()}
    parameters = [(_unit_of(name), name, p) for name, p in network.named_parameters()]
    return tuple(
        Unit(
            unit,
            parameters=sum(p.numel() for owner, _, p in parameters if owner == unit),
            kept=sum(_kept(name, p.shape, left) for owner, name, p in parameters if owner == unit),
            macs=sum(cost.macs for cost in costs if _unit_of(cost.name) == unit),
            output_density=1 - PRUNED_SHARE.get(unit.split(".")[0], 0.0),
            maps=tuple(
                cost.outputs
                for cost in costs
                if _unit_of(cost.name) == unit != "linear" and "shortcut" not in cost.name
            ),
        )
        for unit in dict.fromkeys(owner for owner, _, _ in parameters)
    )


def _unit_of(name: str) -> str:
    """The unit that a parameter belongs to: `layer4.0.conv1.weight` to `layer4.0`, `bn1.bias` to the stem."""
    first, second, *_ = name.split(".")
    if first == "linear":
        return first
    return f"{first}.{second}" if first.startswith("layer") else "stem"


def _kept_channels(count: int, share: float) -> int:
    """Channels that the official pruner leaves: the rounded share and, from comparing with >=, one more."""
    return int(count * (1 - share) + 0.5) + 1


def _kept(name: str, shape: tuple[int, ...], left: dict[int, int]) -> int:
    """Parameters left of one tensor: of kept outputs and, except in a shortcut, of kept inputs."""
    outputs, *rest = shape
    if "shortcut" in name:
        return left[outputs] * math.prod(rest)
    return left.get(outputs, outputs) * math.prod(left.get(size, size) for size in rest)


def _frozen_columns(tasks: int) -> float:
    """PNN: forward passes through older columns, on average over the tasks.

    Task t (from 1) has t - 1 of them; the printed FLOPs are met to three digits on both data sets by t - 2.
    """
    return sum(max(0, task - 2) for task in range(1, tasks + 1)) / tasks


def _split(parts: tuple[Unit, ...], first: str) -> tuple[tuple[Unit, ...], tuple[Unit, ...]]:
    """The units before `first`, and the others."""
    at = [unit.name for unit in parts].index(first)
    return parts[:at], parts[at:]


def _maps(parts: Iterable[Unit]) -> list[int]:
    return [values for unit in parts for values in unit.maps]


def _config(dataset: str) -> RunConfig:
    if dataset not in ("cifar10", "tiny-imagenet"):
        raise ValueError(f"dataset: got {dataset!r}, allowed: 'cifar10', 'tiny-imagenet', those of the table")
    return RunConfig(profile="paper", dataset=dataset)


def _known(field: str, name: str, allowed: dict[str, Any]) -> Any:
    if name not in allowed:
        raise ValueError(f"{field}: got {name!r}, allowed: {list(allowed)}")
    return allowed[name]
