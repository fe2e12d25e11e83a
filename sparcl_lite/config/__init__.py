"""What a run is: validated, frozen configurations and the profiles that fill what the user left open.

A profile (`profiles.toml`) is a set of numbers, never a branch in the code. Where the numbers of a run are used is
not decided here.
"""

from sparcl_lite.config.explain import explain
from sparcl_lite.config.lightcl import LightCL
from sparcl_lite.config.run import (
    FREEZING_METHODS,
    METHODS,
    PACKING_METHODS,
    PROFILES,
    REPLAY_METHODS,
    SCHEMA_VERSION,
    TASK_AWARE_METHODS,
    RunConfig,
)
from sparcl_lite.config.sparse import SPARSE_KINDS, AnySparse, RigL, SparCL, Sparse, StaticMask

__all__ = [
    "FREEZING_METHODS",
    "METHODS",
    "PACKING_METHODS",
    "PROFILES",
    "REPLAY_METHODS",
    "SCHEMA_VERSION",
    "SPARSE_KINDS",
    "TASK_AWARE_METHODS",
    "AnySparse",
    "LightCL",
    "RigL",
    "RunConfig",
    "SparCL",
    "Sparse",
    "StaticMask",
    "explain",
]
