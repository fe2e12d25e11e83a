"""Continual-learning methods, each reading like its equation. None of them knows of sparse strategies.

A method registers itself in its own file; importing this package imports all of them.
"""

from importlib import import_module
from pkgutil import iter_modules

from sparcl_lite.methods.base import Method
from sparcl_lite.registry import METHODS

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["METHODS", "Method"]
