"""What a run is: validated, frozen configurations and the profiles that fill what the user left open.

A profile (`profiles.toml`) is a set of numbers, never a branch in the code. A method's own fields are in its file, a
strategy's in its own; where the numbers of a run are used is not decided here.
"""

from sparcl_lite.config.base import AnySparse, Frozen, Parameters, Sparse
from sparcl_lite.config.explain import explain
from sparcl_lite.config.profiles import PROFILES
from sparcl_lite.config.run import RunConfig

__all__ = ["PROFILES", "AnySparse", "Frozen", "Parameters", "RunConfig", "Sparse", "explain"]
