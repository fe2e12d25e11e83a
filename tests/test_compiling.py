"""Compiling the engine's kernels is announced, in the process that compiles them and in no other."""

import os
import re
import subprocess
import sys

import pytest

pytest.importorskip("numba")

KERNELS = """
from numba import njit
from sparcl_lite.engine import kernels

@njit
def inner(x):
    return x + 1

@njit(cache=True)
def first(x):
    return inner(x) * 2

@njit(cache=True)
def second(x):
    return inner(x)
"""
FIRST = "compiling the sparse engine's kernels for this processor: about 30 seconds, once"


@pytest.fixture
def process(tmp_path):
    """Calls two kernels in a process of its own, as part of the given package: what it prints on stderr."""

    def call(package):
        (tmp_path / "kernels.py").write_text(KERNELS)
        code = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location({package!r} + ".kernels_of_a_test", "kernels.py")
module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(module.first(1), module.second(1), module.first(2))
"""
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == ["4", "2", "6"]
        return done.stderr.splitlines()

    return call


def test_the_first_process_says_that_it_compiles_and_counts_the_kernels(process):
    begun, *kernels = process("sparcl_lite.engine")
    assert begun == FIRST
    assert [re.sub(r"\d+ s$", "... s", line) for line in kernels] == [
        "compiling kernel 1 (first), after ... s",
        "compiling kernel 2 (second), after ... s",
    ]
    assert process("sparcl_lite.engine") == []


def test_what_else_numba_compiles_is_not_announced(process):
    assert process("somebody.elses") == []
