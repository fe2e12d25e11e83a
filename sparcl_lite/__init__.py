"""sparcl_lite: a notebook-first reproducibility kit for sparse continual learning.

>>> from sparcl_lite import RunConfig, SparCL, run
>>> config = RunConfig(profile="smoke", method="der++", sparse=SparCL(sparsity=0.9), buffer_size=200)
>>> result = run(config)  # doctest: +SKIP
>>> round(result.class_il)  # doctest: +SKIP
"""

from typing import TYPE_CHECKING

from sparcl_lite.late import names_of

if TYPE_CHECKING:
    from sparcl_lite import register
    from sparcl_lite.clustering.config import ClusteringConfig
    from sparcl_lite.config import Parameters, RunConfig, Sparse
    from sparcl_lite.engine import accelerate
    from sparcl_lite.methods import Method
    from sparcl_lite.runs.result import RunResult
    from sparcl_lite.runs.run import run
    from sparcl_lite.runs.store import Store
    from sparcl_lite.runs.sweep import sweep
    from sparcl_lite.sparsity import MaskedStrategy, RigL, SparCL, StaticMask, Strategy
    from sparcl_lite.sparsity.own_loop import sparsify

__version__ = "0.1.0"
__all__ = [
    "ClusteringConfig",
    "MaskedStrategy",
    "Method",
    "Parameters",
    "RigL",
    "RunConfig",
    "RunResult",
    "SparCL",
    "Sparse",
    "StaticMask",
    "Store",
    "Strategy",
    "accelerate",
    "register",
    "run",
    "sparsify",
    "sweep",
]
__getattr__, __dir__ = names_of(
    __name__,
    {
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
        "accelerate": "engine",
        "register": "register",
        "run": "runs.run",
        "sparsify": "sparsity.own_loop",
        "sweep": "runs.sweep",
    },
)
