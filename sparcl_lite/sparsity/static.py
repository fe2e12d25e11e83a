"""Masks that never change: random, the largest initial weights, or the most salient ones (SNIP)."""

from __future__ import annotations

from typing import Literal

from sparcl_lite import masks
from sparcl_lite.config import RunConfig, Sparse
from sparcl_lite.data.streams import Task
from sparcl_lite.late import Tensor, nn, torch
from sparcl_lite.registry import STRATEGIES
from sparcl_lite.rng import Generators
from sparcl_lite.sparsity.base import MaskedStrategy
from sparcl_lite.sparsity.importance import Probe


class StaticMask(Sparse):
    """One mask for the whole run: random, the largest initial weights, or SNIP's saliency |w dL/dw| (Lee et al., 2019).

    SNIP's saliency comes from one batch of the first task. `scope` says where weights compete: within a layer (as
    SparCL's comparison does, *recalled*), or in the whole network (as the SNIP paper does).
    """

    kind: Literal["random", "magnitude", "snip"]
    scope: Literal["layer", "network"] = "layer"


@STRATEGIES.register("random", label="random mask", colour="#999999", config=StaticMask)
@STRATEGIES.register("magnitude", label="magnitude mask", colour="#56B4E9", config=StaticMask)
@STRATEGIES.register("snip", label="SNIP", colour="#CC79A7", config=StaticMask)
class StaticMaskStrategy(MaskedStrategy):
    """A mask made before the first step and kept for all tasks."""

    observes = False
    reads_gradients = False

    @property
    def wanted(self) -> dict[str, Tensor]:
        """Gradients of the active weights only."""
        return {}

    def __init__(self, config: RunConfig, network: nn.Module, rng: Generators, samples: int):
        super().__init__(config, network, rng, samples)
        kind, density = config.sparse.kind, config.sparse.weight_density
        if kind == "random":
            self.set_masks({n: masks.random_mask(w.data, density, rng.mask) for n, w in self.weights.items()})
        elif kind == "magnitude":
            self.set_masks(self._most_important({n: w.data.abs() for n, w in self.weights.items()}))

    def begin_epoch(self, task: Task, epoch: int, probe: Probe) -> Tensor:
        """SNIP: before the first step of the run, keep the weights of highest |w dL/dw| on one batch."""
        if not self.masks:
            gradients = probe.task_gradient(self.weights, task, self.active, batches=1, single_head=False)
            self.set_masks(
                self._most_important({n: w.data.abs() * gradients.get(n, 1.0) for n, w in self.weights.items()})
            )
        return self.active

    def _most_important(self, scores: dict[str, Tensor]) -> dict[str, Tensor]:
        sparse = self.config.sparse
        if sparse.scope == "layer":
            return {n: masks.keep_top(s, torch.ones_like(s).bool(), self._count(s)) for n, s in scores.items()}
        everything = torch.cat([s.flatten() for s in scores.values()])
        chosen = masks.keep_top(everything, torch.ones_like(everything).bool(), self._count(everything))
        parts = chosen.split([s.numel() for s in scores.values()])
        return {n: part.view(s.shape) for (n, s), part in zip(scores.items(), parts, strict=True)}

    def _count(self, scores: Tensor) -> int:
        return masks.count_for(scores, self.config.sparse.weight_density)
