"""Products with the active weights, and the layers between them, in numba.

Numba's thread pool is started here, once. Starting it sets the number of OpenMP threads, which PyTorch uses too, to all
cores; the number is restored, because the bits of a run depend on it.
"""

import warnings

import numba
import torch

from sparcl_lite.engine.compiling import report_compilations

report_compilations()
_before = torch.get_num_threads()
numba.set_num_threads(numba.get_num_threads())  # starts the pool
torch.set_num_threads(_before)


def _probe():
    pass


def _can_cache() -> bool:
    """Whether numba may keep compiled kernels beside this file, in $NUMBA_CACHE_DIR or in the user's cache."""
    try:
        numba.njit(cache=True)(_probe)
    except RuntimeError:
        warnings.warn(
            "no folder for compiled kernels can be written to (set NUMBA_CACHE_DIR): every process compiles them anew",
            stacklevel=2,
        )
        return False
    return True


#: Of every kernel; those that are called from Python are kept compiled where there is a place for it.
OPTIONS = {"nogil": True, "fastmath": True, "error_model": "numpy"}
CACHED = OPTIONS | {"cache": _can_cache()}
EXACT = CACHED | {"fastmath": False}  # where what is no number must stay so, or nothing but places is computed
