"""Dynamic gradient masking (SparCL, section 3.3 and Eq. 3): which of the existing weights are updated."""

from __future__ import annotations

from collections.abc import Callable

from sparcl_lite import masks
from sparcl_lite.late import Tensor
from sparcl_lite.sparsity.importance import Scores
from sparcl_lite.sparsity.settings import SparCL


class DGM:
    """A gradient mask nested in the weight mask, renewed every `gradient_interval` steps of an epoch.

    Its density is 1 - (s + q) = `kept_gradients` (1 - s) of all weights of a layer.
    """

    def __init__(self, sparse: SparCL, weights: dict[str, Tensor]):
        self.sparse, self.weights = sparse, weights
        self.masks: dict[str, Tensor] = {}

    def due(self, step: int) -> bool:
        """Whether this step of the epoch renews the mask (the first always does: TDM may just have changed)."""
        return step % self.sparse.gradient_interval == 0

    def refresh(self, weight_masks: dict[str, Tensor] | None, importance: Callable[[], Scores]) -> None:
        """Keep the gradients of highest importance (CGI) among the existing weights of each layer."""
        for name, scores in importance().items():
            existing = scores.new_ones(scores.shape).bool() if weight_masks is None else weight_masks[name]
            count = masks.count_for(scores, self.sparse.gradient_density)
            mask = masks.keep_top(scores, existing, count)
            self.masks[name] = mask & (scores > 0) if self.sparse.cgi_gradient == "total" else mask

    def densities(self) -> dict[str, float]:
        """Share of all weights whose gradient is kept, by layer."""
        return {name: masks.density(mask) for name, mask in self.masks.items()}
