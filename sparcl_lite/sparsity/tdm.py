"""Task-aware dynamic masking (SparCL, section 3.1 and Algorithm 1): which weights exist."""

from __future__ import annotations

from collections.abc import Callable

from sparcl_lite import masks
from sparcl_lite.late import Tensor, no_grad, torch
from sparcl_lite.sparsity.importance import Scores
from sparcl_lite.sparsity.schedule import mask_adjustment
from sparcl_lite.sparsity.settings import SparCL


class TDM:
    """One mask for all tasks, adjusted between tasks (expand, then shrink) and within them (shrink, then grow)."""

    def __init__(self, sparse: SparCL, weights: dict[str, Tensor], generator: torch.Generator):
        self.sparse, self.weights, self.generator = sparse, weights, generator
        if sparse.initial_mask == "magnitude":
            self.masks = {n: masks.magnitude_mask(w.data, 1 - sparse.sparsity) for n, w in weights.items()}
        else:
            self.masks = {n: masks.random_mask(w.data, 1 - sparse.sparsity, generator) for n, w in weights.items()}
        self.apply()

    @no_grad
    def apply(self) -> None:
        """Set every masked weight to zero; a weight that grows later starts from there."""
        for name, weight in self.weights.items():
            weight.mul_(self.masks[name])

    def adjust(self, task: int, epoch: int, epochs: int, gradients: Callable[[], Scores]) -> bool:
        """Prune by lowest CWI and grow, where the schedule says so; returns whether the masks changed.

        `gradients` gives the gradient part of CWI by weight and is called only when needed.
        """
        action = mask_adjustment(self.sparse, task, epoch, epochs)
        if action is None:
            return False
        prune_to, grow_to = (1 - sparsity for sparsity in action)
        scores = gradients()
        for name, weight in masks.trainable(self.weights).items():
            self.masks[name] = self._adjusted(name, weight.data, scores[name], prune_to, grow_to)
        self.apply()
        return True

    def _adjusted(self, name: str, weight: Tensor, gradient: Tensor, prune_to: float, grow_to: float) -> Tensor:
        importance = weight.abs() + gradient
        mask = masks.keep_top(importance, self.masks[name], masks.count_for(weight, prune_to))
        if self.sparse.drop_dead_weights:
            mask &= weight != 0
        weight.mul_(mask)  # also what grows back at once starts from zero
        if grow_to <= prune_to:
            return mask
        missing = masks.count_for(weight, grow_to) - int(mask.count_nonzero())
        if self.sparse.growth == "gradient":
            return masks.grow_by(gradient, mask, missing)
        return masks.grow_random(mask, missing, self.generator)

    def densities(self) -> dict[str, float]:
        """Share of weights kept, by layer."""
        return {name: masks.density(mask) for name, mask in self.masks.items()}
