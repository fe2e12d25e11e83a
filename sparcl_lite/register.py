"""What a user registers: data sets, networks, methods, strategies, clusterers and rules of claims.

A registered name works wherever a built-in one does. See docs/extending.md.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sparcl_lite.errors import KitError
from sparcl_lite.registry import CLUSTERERS, METHODS, NETWORKS, RULES, STRATEGIES

__all__ = ["clusterer", "dataset", "folder", "method", "network", "rule", "strategy"]


def dataset(name: str, **given: Any) -> None:
    """Register images and labels: see `data.own.register_arrays`, which has the parameters."""
    from sparcl_lite.data.own import register_arrays

    register_arrays(name, **given)


def folder(name: str, place: Path | str, **options: Any) -> None:
    """Register a folder of images: see `data.own.register_folder`, which has the parameters."""
    from sparcl_lite.data.own import register_folder

    register_folder(name, place, **options)


def network(name: str, *, label: str = "", version: str = "", replace: bool = False) -> Callable:
    """Register a function `(channels, classes, size, width) -> nn.Module` whose `forward(x)` gives logits."""
    return _checked(NETWORKS.register(name, label=label, version=version, replace=replace), name)


def method(name: str, *, label: str = "", colour: str = "", version: str = "", replace: bool = False) -> Callable:
    """Register a subclass of `Method`; its fields are those of its `Parameters`."""
    from sparcl_lite.methods.base import Method

    return _checked(METHODS.register(name, label=label, version=version, replace=replace, colour=colour), name, Method)


def strategy(
    name: str, *, config: type, label: str = "", colour: str = "", version: str = "", replace: bool = False
) -> Callable:
    """Register a subclass of `Strategy` for sparse training; `config`, a subclass of `Sparse`, has its fields."""
    from sparcl_lite.config.base import Sparse
    from sparcl_lite.sparsity.base import Strategy

    _check(name, config, Sparse)
    facts = {"config": config, "colour": colour}
    return _checked(STRATEGIES.register(name, label=label, version=version, replace=replace, **facts), name, Strategy)


def clusterer(name: str, *, label: str = "", version: str = "", replace: bool = False) -> Callable:
    """Register a scikit-learn estimator with `fit_predict` that takes the number of clusters as `n_clusters`."""
    return _checked(CLUSTERERS.register(name, label=label, version=version, replace=replace), name)


def rule(name: str, *, version: str = "", replace: bool = False) -> Callable:
    """Register a rule that decides claims: a function `(claim, experiment, frame, a, b) -> Evidence`."""
    return _checked(RULES.register(name, version=version, replace=replace), name)


def _checked(register: Callable, name: str, base: type | None = None) -> Callable:
    """As `register`, of what can be called, or of the subclasses of a class."""

    def registered(value: Any) -> Any:
        _check(name, value, base)
        return register(value)

    return registered


def _check(name: str, value: Any, base: type | None) -> None:
    if base is None and not callable(value):
        raise KitError(f"{name!r}: {value!r} cannot be registered; allowed: a class or a function")
    if base is not None and not (isinstance(value, type) and issubclass(value, base)):
        raise KitError(f"{name!r}: {value!r} cannot be registered; allowed: a subclass of {base.__name__}")
