"""Masks as boolean tensors of a weight's shape, and the rules that make and change them: pure functions.

Densities are per layer: every prunable layer gets the same one ("uniform"), as in SparCL.
"""

from __future__ import annotations

from sparcl_lite import models
from sparcl_lite.late import Tensor, nn, torch


def prunable_weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that a mask may be put on, by name: see `models.network.adapted`."""
    network = models.adapted(network)
    return {name: network.body.get_parameter(name) for name in network.prunable}


def trainable(weights: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Those that are not frozen: masks of frozen weights stay as they are."""
    return {name: weight for name, weight in weights.items() if weight.requires_grad}


def count_for(weight: Tensor, density: float) -> int:
    """Entries of `weight` that make up `density`."""
    return round(density * weight.numel())


def density(mask: Tensor) -> float:
    """Share of entries that are kept."""
    return mask.count_nonzero().item() / mask.numel()


def random_mask(weight: Tensor, density: float, generator: torch.Generator) -> Tensor:
    """A uniformly random mask of exactly the given density."""
    return grow_random(torch.zeros_like(weight, dtype=torch.bool), count_for(weight, density), generator)


def magnitude_mask(weight: Tensor, density: float) -> Tensor:
    """The largest weights by magnitude."""
    everything = torch.ones_like(weight, dtype=torch.bool)
    return keep_top(weight.abs(), everything, count_for(weight, density))


def keep_top(scores: Tensor, mask: Tensor, count: int) -> Tensor:
    """The `count` entries of `mask` with the highest scores (all of them when there are fewer)."""
    count = min(count, int(mask.count_nonzero()))
    return _select(torch.where(mask, scores, -torch.inf), count)


def grow_random(mask: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`mask` grown by `count` random entries that it lacks."""
    scores = torch.rand(mask.shape, generator=generator).to(mask.device)
    return grow_by(scores, mask, count)


def grow_by(scores: Tensor, mask: Tensor, count: int) -> Tensor:
    """`mask` grown by the `count` entries with the highest scores that it lacks (all of them when there are fewer)."""
    return mask | keep_top(scores, ~mask, count)


def _select(scores: Tensor, count: int) -> Tensor:
    chosen = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    if count > 0:
        chosen[scores.reshape(-1).topk(count, sorted=False).indices] = True
    return torch.empty_like(scores, dtype=torch.bool).copy_(chosen.view(scores.shape))  # the weight's layout
