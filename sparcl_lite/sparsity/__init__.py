"""Sparse training strategies: what is trained of weights, data and gradients. None of them knows of replay methods."""

from sparcl_lite.sparsity.base import Strategy
from sparcl_lite.sparsity.rigl import RigLStrategy
from sparcl_lite.sparsity.sparcl import SparCLStrategy
from sparcl_lite.sparsity.static import StaticMaskStrategy

STRATEGIES: dict[str, type[Strategy]] = {
    "dense": Strategy,
    "random": StaticMaskStrategy,
    "magnitude": StaticMaskStrategy,
    "snip": StaticMaskStrategy,
    "rigl": RigLStrategy,
    "sparcl": SparCLStrategy,
}

__all__ = ["STRATEGIES", "Strategy"]
