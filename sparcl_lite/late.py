"""What is imported when it is first used, because that takes seconds: PyTorch, and the public names of packages.

Commands that list names or print a stored result need neither. Modules that such commands import take `torch`, `nn`,
`F` and `no_grad` from here, and `Tensor` for annotations; all other modules import PyTorch as usual.
"""

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

__all__ = ["F", "Tensor", "names_of", "nn", "no_grad", "torch"]


class _Late(ModuleType):
    """Stands for the module of its name, which is imported for the first attribute."""

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self.__name__), name)


if not TYPE_CHECKING:
    torch, nn, F = _Late("torch"), _Late("torch.nn"), _Late("torch.nn.functional")
    Tensor = "torch.Tensor"  # with `from __future__ import annotations` nothing evaluates it


def no_grad(function: Callable) -> Callable:
    """As the decorator `torch.no_grad()`."""

    @wraps(function)
    def without_gradients(*args, **kwargs):
        with torch.no_grad():
            return function(*args, **kwargs)

    return without_gradients


def names_of(package: str, homes: dict[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package whose public names are imported from their modules when first used.

    `homes` has the module of each name, relative to the package; a name that is its own module stands for the module.
    """

    def __getattr__(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = import_module(f"{package}.{homes[name]}")
        return home if name == homes[name] else getattr(home, name)

    return __getattr__, lambda: sorted({*vars(import_module(package)), *homes})
