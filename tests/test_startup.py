"""Commands that compute nothing answer at once: what takes seconds to import stays out of them."""

import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sparcl_lite.registry import CLUSTERERS, DATASETS, METHODS, NETWORKS, STRATEGIES
from sparcl_lite.runs.store import Store

RESULTS = Path(__file__).parent.parent / "results"
#: Seconds each, of several.
HEAVY = ("torch", "torchvision", "pandas", "matplotlib", "seaborn", "dask", "distributed", "scipy", "sklearn", "numba")
EXPERIMENTS = (
    "sparcl_table1",
    "sparcl_table3",
    "ksparse_tables",
    "lightcl_table1",
    "lightcl_generalizability",
    "bench",
)
AS_COMMAND = f"""
import sys
from sparcl_lite import cli
try:
    cli.main()
finally:
    print(*(name for name in {HEAVY} if name in sys.modules), file=sys.stderr)
"""


def command(*arguments, code=AS_COMMAND, **how):
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, **how)


def imported(*arguments, **how):
    """What a command prints, and the heavy modules that it has imported."""
    done = command(*arguments, **how)
    assert done.returncode == 0, done.stderr
    *_, last = done.stderr.splitlines()
    return done.stdout, last.split()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with a run of every kind and of every method of the committed ones, as lines of evidence."""
    folder = tmp_path_factory.mktemp("store")
    for name in EXPERIMENTS:
        (folder / name).mkdir()
        shutil.copy(RESULTS / name / "runs.jsonl", folder / name)
    return folder


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["bench", "--help"], ["store", "--help"]])
def test_help_imports_nothing_heavy(arguments):
    assert imported(*arguments)[1] == []


def test_names_are_complete_and_import_nothing_heavy():
    out, heavy = imported("names")
    assert heavy == []
    for registry in (DATASETS, NETWORKS, METHODS, STRATEGIES, CLUSTERERS):
        builtin = [name for name in registry if not registry.entry(name).identity]  # not those of other tests
        assert all(f"\n  {name} " in out.replace("\n", " \n") for name in builtin)


def test_listing_a_store_imports_nothing_heavy(store):
    out, heavy = imported("store", "list", "--store", store)
    assert heavy == []
    assert len(out.splitlines()) == sum(len(path.read_text().splitlines()) for path in store.glob("*/runs.jsonl"))


def test_an_empty_store_lists_nothing(tmp_path):
    assert imported("store", "list", "--store", tmp_path / "nowhere") == ("", [])


def stored(store, method):
    """The key of a stored run with this method (or clusterer), and the options that ask for it."""
    kind = "clustering" if method in CLUSTERERS else "training"
    config = next(r.config for r in Store(store).results(kind) if r.config.method == method)
    given = {name: value for name, value in config.model_dump(mode="json").items() if value is not None}
    options = ["--profile", given.pop("profile"), "--method", given.pop("method"), "--dataset", given.pop("dataset")]
    del given["registered"]
    for name, value in given.items():
        options += ["--set", f"{name}={json.dumps(value)}"]
    return config.key, options


@pytest.mark.parametrize("method", ["der++", "er", "icarl", "packnet", "lightcl", "k-sparse", "pca"])
def test_asking_for_a_stored_result_imports_nothing_heavy(store, method):
    key, options = stored(store, method)
    out, heavy = imported("run", *options, "--store", store)
    assert f"kept as {key} in {store}" in out
    assert heavy == []


def test_answers_come_at_once(store):
    """In less than two seconds, where each took more than four; half of that is Python's start on a busy machine."""
    _, options = stored(store, "der++")
    for arguments in (["--help"], ["store", "list", "--store", store / "nowhere"], ["run", *options, "--store", store]):
        taken = []
        for _ in range(3):
            start = time.perf_counter()
            command(*arguments, code="from sparcl_lite import cli; cli.main()")
            taken.append(time.perf_counter() - start)
        assert statistics.median(taken) < 2, arguments


def test_public_names_are_listed_and_there():
    code = f"""
import sys, sparcl_lite
assert not {{*{HEAVY!r}}} & {{*sys.modules}}
assert {{*sparcl_lite.__all__}} <= {{*dir(sparcl_lite)}}
from sparcl_lite import *
from sparcl_lite import RunConfig, register
assert all(getattr(sparcl_lite, name) is not None for name in sparcl_lite.__all__)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
