"""The same configuration gives the same bits: with one worker, two or none, in a kernel and on the command line.

That a resumed run does is in `test_runs`; of which arithmetic the golden values are, in `golden/smoke.json`.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from test_runs import numbers, tiny

from sparcl_lite.runs.run import run
from sparcl_lite.runs.store import Store
from sparcl_lite.runs.sweep import sweep
from sparcl_lite.sparsity import SparCL

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parent / "golden" / "smoke.json"
SPARSE = {"kind": "sparcl", "sparsity": 0.5, "interval": 0.2, "gradient_interval": 3}


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.long), 2])
def test_one_worker_two_or_none_give_the_same_bits(tmp_path, workers):
    configs = [tiny(), tiny(method="der++", sparse=SparCL(**SPARSE))]
    alone = [numbers(run(config, store=tmp_path / "alone")) for config in configs]
    found = sweep(configs, store=tmp_path / "workers", workers=workers, progress=False)
    assert [numbers(result) for result in found] == alone


def test_a_kernel_and_the_command_line_give_the_same_bits(tmp_path):
    config = tiny(method="der++", sparse=SparCL(**SPARSE))
    here = numbers(run(config, store=tmp_path / "here"))
    fields = ["tasks=2", "images_per_class=10", "width=8", "epochs=3", "buffer_size=20"]
    fields += [f"sparse.{name}={json.dumps(value)}" for name, value in SPARSE.items() if name != "kind"]
    command = [sys.executable, "-m", "sparcl_lite", "run", "--profile", "smoke", "--method", "der++"]
    command += ["--sparse", "sparcl", *(part for field in fields for part in ("--set", field))]
    done = subprocess.run([*command, "--store", str(tmp_path / "cli")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    source = (
        "from sparcl_lite import RunConfig, run",
        f"config = RunConfig.model_validate_json({config.model_dump_json()!r})",
        f"run(config, store={str(tmp_path / 'kernel')!r}).class_il",
    )
    cell = nbformat.v4.new_code_cell("\n".join(source))
    NotebookClient(nbformat.v4.new_notebook(cells=[cell]), kernel_name="python3").execute(env=dict(os.environ))
    for name in ("cli", "kernel"):
        assert numbers(Store(tmp_path / name).get(config)) == here, name


def test_golden_values_say_of_which_arithmetic_they_are():
    """How a processor and a release of PyTorch round decides; the processor's name is added when they are renewed."""
    made_by = json.loads(GOLDEN.read_text(encoding="utf-8"))["made_by"]
    assert {"torch", "arithmetic"} <= set(made_by) <= {"torch", "arithmetic", "processor"}
    assert re.fullmatch(r"[0-9a-f]{64}", made_by["arithmetic"])
