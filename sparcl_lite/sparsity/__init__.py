"""Sparse training strategies: what is trained of weights, data and gradients. None of them knows of replay methods.

A strategy registers itself in its own file; importing this package imports all of them.
"""

from sparcl_lite.registry import STRATEGIES
from sparcl_lite.sparsity.base import MaskedStrategy, Strategy
from sparcl_lite.sparsity.rigl import RigL
from sparcl_lite.sparsity.settings import SparCL
from sparcl_lite.sparsity.sparcl import SparCLStrategy
from sparcl_lite.sparsity.static import StaticMask

__all__ = ["STRATEGIES", "MaskedStrategy", "RigL", "SparCL", "SparCLStrategy", "StaticMask", "Strategy"]
