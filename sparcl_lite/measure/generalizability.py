"""Generalisability of a network's blocks: learning plasticity and memory stability, block by block.

LightCL (arXiv 2407.10545) names both metrics; its formulas could not be had, so the definitions here are this
project's own:

- learning plasticity of block l on task t: accuracy on t when everything up to l stays as task t - 1 left it, over the
  accuracy when nothing does. 1: the old features serve the new task as they are.
- memory stability of block l on task t: 1 - mean of |f'(x) - f(x)|^2 / |f(x)|^2 over images x of earlier tasks, with f
  and f' the block's output after its last ReLU, before and after all layers were trained on t. 1: the features of old
  images did not move.

A block generalises when both are high. Training is the caller's business.
"""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from sparcl_lite.models import Network

__all__ = [
    "block_maps",
    "general_blocks",
    "learning_plasticity",
    "memory_stability",
    "stability_by_block",
]


def learning_plasticity(frozen: ArrayLike, free: ArrayLike) -> np.ndarray:
    """Accuracy with frozen blocks over accuracy without, elementwise; the shapes broadcast.

    `frozen` and `free` are accuracies in the same unit. Raises ValueError unless `frozen` is 0 or more, `free` above 0.

    >>> learning_plasticity([[90.0, 72.0, 45.0]], [[90.0]])
    array([[1. , 0.8, 0.5]])
    """
    frozen, free = np.asarray(frozen, dtype=float), np.asarray(free, dtype=float)
    if not (frozen >= 0).all():
        raise ValueError(f"frozen: got {frozen.min()}, allowed are accuracies of 0 or more")
    if not (free > 0).all():
        raise ValueError(f"free: got {free.min()}, allowed are accuracies above 0")
    return frozen / free


def memory_stability(before: Tensor, after: Tensor) -> float:
    """1 - mean relative squared change of the maps `(N, ...)` of the same images before and after training.

    At most 1, and negative where features moved by more than their own length. An image whose map was all zero has no
    relative change and is left out; NaN when none is left. Raises ValueError when the shapes differ.

    >>> memory_stability(torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    0.5
    """
    return 1 - float(_relative_change(before, after).mean())


def _relative_change(before: Tensor, after: Tensor) -> Tensor:
    """`|after - before|^2 / |before|^2` of each image whose map is not all zero before."""
    if before.shape != after.shape:
        raise ValueError(f"after: got shape {tuple(after.shape)}, allowed is that of before, {tuple(before.shape)}")
    before, after = before.flatten(1).double(), after.flatten(1).double()
    length = before.square().sum(1)
    return ((after - before).square().sum(1) / length)[length > 0]


def block_maps(network: Network, images: Tensor) -> dict[str, Tensor]:
    """Maps `(N, C, H, W)` that leave each block (after its last ReLU in a residual network), in order of execution.

    `images` `(N, C, H, W)` are normalised. The network is evaluated as it is tested, with its running statistics, and
    left as it was.
    """
    training = network.training
    try:
        with torch.no_grad():
            return network.eval().block_maps(images)
    finally:
        network.train(training)


def stability_by_block(before: Network, after: Network, images: Tensor, *, batch_size: int = 100) -> dict[str, float]:
    """Memory stability of each block, on images `(N, C, H, W)` of earlier tasks.

    `before` and `after` are the network when the task began and ended. `batch_size` bounds the maps held at a time.
    """
    changes: dict[str, list[Tensor]] = {name: [] for name in before.blocks}
    for part in images.split(batch_size):
        old, new = block_maps(before, part), block_maps(after, part)
        for name, found in changes.items():
            found.append(_relative_change(old[name], new[name]))
    return {name: 1 - float(torch.cat(found).mean()) for name, found in changes.items()}


def general_blocks(plasticity: dict[str, float], stability: dict[str, float], *, least: float) -> list[str]:
    """The blocks, from the first on, of which both metrics are at least `least`: what could be frozen.

    Blocks are given in order of execution. Raises ValueError when the two are not about the same blocks.

    >>> general_blocks({"stem": 1.0, "layer1.0": 0.9}, {"stem": 0.95, "layer1.0": 0.4}, least=0.8)
    ['stem']
    """
    if list(plasticity) != list(stability):
        raise ValueError(f"stability: got blocks {list(stability)}, allowed are {list(plasticity)}")
    general = []
    for name in plasticity:
        if not (plasticity[name] >= least and stability[name] >= least):  # nor is a dead block, whose stability is NaN
            break
        general.append(name)
    return general
