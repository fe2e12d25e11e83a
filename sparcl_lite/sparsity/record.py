"""What a run remembers of its masks and of its data, for the notebooks that look into them."""

from __future__ import annotations

from sparcl_lite.late import Tensor, torch


class MaskRecord:
    """Masks at chosen moments, and how much of each is still there at every other."""

    def __init__(self) -> None:
        self.moments: list[dict[str, Tensor]] = []

    def take(self, masks: dict[str, Tensor]) -> None:
        """Remember the masks as they are now."""
        self.moments.append({name: mask.clone() for name, mask in masks.items()})

    def survival(self) -> dict[str, list[list[float]]]:
        """By layer, the matrix of |M_i and M_j| / |M_i|: the share of the weights kept at moment i that j keeps too."""
        layers = self.moments[0] if self.moments else {}
        return {name: _survival(torch.stack([m[name].flatten() for m in self.moments])) for name in layers}


def _survival(masks: Tensor) -> list[list[float]]:
    kept = masks.float()
    common = kept @ kept.T
    return [[round(value, 4) for value in row] for row in (common / common.diagonal()[:, None]).tolist()]
