"""SGD of a network whose sparse engine holds gradients only where weights exist."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from sparcl_lite.models import ResNet


class SparseSGD(torch.optim.SGD):
    """Plain SGD of all parameters; as `torch.optim.SGD` where there is no sparse engine.

    From `zero_grad` to `step` the engine keeps what backward finds as one number for each weight that exists
    (`SparseEngine.compact`), instead of as `grad` of the dense weight.
    """

    def __init__(self, network: ResNet, lr: float):
        super().__init__(network.parameters(), lr=lr, foreach=True)
        self.engine = getattr(network, "engine", None)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients; those of the next backward passes are compact."""
        super().zero_grad(set_to_none)
        if self.engine:
            self.engine.begin_step()

    def step(self, closure: None = None) -> None:
        """Update every parameter that has a gradient, compact or not."""
        super().step(closure)
        if self.engine:
            self.engine.end_step(self.param_groups[0]["lr"])
