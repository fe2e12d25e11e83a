"""sparcl_lite: a notebook-first reproducibility kit for sparse continual learning.

>>> from sparcl_lite import RunConfig, SparCL, run
>>> config = RunConfig(profile="smoke", method="der++", sparse=SparCL(sparsity=0.9), buffer_size=200)
>>> result = run(config)  # doctest: +SKIP
>>> round(result.class_il)  # doctest: +SKIP
"""

from importlib import import_module

__version__ = "0.1.0"
_HOME = {
    "ClusteringConfig": "clustering.config",
    "MaskedStrategy": "sparsity",
    "Method": "methods",
    "Parameters": "config",
    "RigL": "sparsity",
    "RunConfig": "config",
    "RunResult": "runs.result",
    "SparCL": "sparsity",
    "Sparse": "config",
    "StaticMask": "sparsity",
    "Store": "runs.store",
    "Strategy": "sparsity",
    "run": "runs.run",
    "accelerate": "engine",
    "sparsify": "sparsity.own_loop",
    "sweep": "runs.sweep",
}
__all__ = [*_HOME, "register"]


def __getattr__(name: str):
    """Import public names when first used, so that a look at the version does not load torch."""
    if name == "register":
        return import_module("sparcl_lite.register")
    if name in _HOME:
        return getattr(import_module(f"sparcl_lite.{_HOME[name]}"), name)
    raise AttributeError(f"module 'sparcl_lite' has no attribute {name!r}")
