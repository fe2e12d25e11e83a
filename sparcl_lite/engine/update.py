"""SGD of a network whose sparse engine stores weights and gradients of the active weights only."""

from __future__ import annotations

import torch
from torch import nn

from sparcl_lite.engine.wrapping import engine_of


class SparseSGD(torch.optim.SGD):
    """Plain SGD of all parameters; as `torch.optim.SGD` where there is no sparse engine.

    Within `with SparseSGD(...) as optimizer` the engine stores one number for each active weight of a masked layer, and
    from `zero_grad` to `step` one for its gradient. Meanwhile the dense weight reads as NaN. It is restored at the end,
    also after an error.
    """

    def __init__(self, network: nn.Module, lr: float):
        super().__init__(network.parameters(), lr=lr, foreach=True)
        self.engine = engine_of(network)

    def __enter__(self) -> SparseSGD:
        if self.engine:
            self.engine.holding = True
        return self

    def __exit__(self, *error: object) -> None:
        if self.engine:
            self.engine.holding = self.engine.compact = False
            self.engine.restore()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        super().zero_grad(set_to_none)
        if self.engine:
            self.engine.begin_step()

    def step(self, closure: None = None) -> None:
        """Update every parameter that has a gradient, wherever that is."""
        super().step(closure)
        if self.engine:
            self.engine.end_step(self.param_groups[0]["lr"])
