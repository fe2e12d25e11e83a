"""All rivals of the engine train the same model on the same zeros, and one that cannot run is a line of the table."""

import json
import sys
import warnings

import pytest
import torch

from sparcl_lite import cli
from sparcl_lite.bench import rivals as bench
from sparcl_lite.bench.rival_models import DENSE, OURS, RIVALS, Unavailable

pytest.importorskip("numba")

SIZES = {"network": "small", "width": 8, "image": 8, "batch": 16, "features": 32, "threads": 1}
QUICK = [name for name in RIVALS if name != "torch.compile"]  # which takes minutes


@pytest.mark.parametrize("kind", bench.TASKS)
@pytest.mark.parametrize("name", [name for name in QUICK if name not in DENSE])
def test_every_rival_trains_the_same_model(name, kind):
    task = bench.Task(kind, 0.9, **SIZES)
    try:
        step = bench.step_of(name, task)
    except Unavailable as reason:
        pytest.skip(str(reason))
    expected = bench.step_of("masked, contiguous", task)
    for _ in range(3):
        torch.testing.assert_close(step(), expected(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", bench.TASKS)
def test_the_compiled_model_is_the_one_that_trains(kind, monkeypatch):
    """With PyTorch's backend that compiles nothing: its own takes minutes."""
    compiled = []

    def compile_(call):
        compiled.append(call)
        return torch._dynamo.optimize("eager")(call)

    monkeypatch.setattr(torch, "compile", compile_)
    task = bench.Task(kind, 0.9, **SIZES)
    step, expected = bench.step_of("torch.compile", task), bench.step_of(DENSE[0], task)
    assert len(compiled) == 1
    torch._dynamo.utils.counters.clear()
    for _ in range(3):
        torch.testing.assert_close(step(), expected(), rtol=1e-4, atol=1e-4)
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0


def test_the_dense_steps_differ_from_the_masked_one():
    task = bench.Task("linear", 0.9, **SIZES)
    dense, masked = bench.step_of(DENSE[0], task), bench.step_of("masked, contiguous", task)
    torch.testing.assert_close(dense(), masked())
    assert not torch.allclose(dense(), masked())


def test_missing_rivals_are_told_in_a_line(monkeypatch):
    for module in ("sparseprop.modules", "sparselab"):
        monkeypatch.setitem(sys.modules, module, None)
    report = bench.rivals(names=QUICK, levels=[0.9], repeats=1, memory=False, **SIZES)
    told = {(entry["task"], entry["rival"]): entry["reason"] for entry in report["skipped"]}
    assert "pip install" in told["network", "SparseProp"]
    assert "pip install" in told["linear", "SparseLab"]
    lines = bench.in_words(report).splitlines()
    assert sum("skipped: " in line for line in lines) == len(told)
    assert [line.split(",")[0] for line in lines if not line.startswith(" ")] == list(bench.TASKS)


def test_a_rival_that_fails_is_told_in_a_line(monkeypatch):
    def fail(*_):
        raise RuntimeError("no compiler\nand more")

    monkeypatch.setitem(RIVALS, "torch.compile", RIVALS["torch.compile"].__class__(fail, uses_zeros=False))
    report = bench.rivals(names=["torch.compile"], tasks=["linear"], repeats=1, memory=False, **SIZES)
    assert {"task": "linear", "rival": "torch.compile", "reason": "RuntimeError: no compiler"} in report["skipped"]


def test_ratios_are_those_to_the_faster_dense_layout():
    report = bench.rivals(
        names=[OURS, "masked, contiguous"], tasks=["network"], levels=[0.5, 0.9], repeats=3, memory=False, **SIZES
    )
    rows = {(row["rival"], row["sparsity"]): row for row in report["rows"]}
    assert {*rows} == {(DENSE[0], None), (DENSE[1], None), ("masked, contiguous", None), (OURS, 0.5), (OURS, 0.9)}
    faster = report["faster_dense"]["network"]
    assert rows[faster, None]["ms"] == min(rows[name, None]["ms"] for name in DENSE)
    assert rows[faster, None]["speedup"] == 1
    assert all(len(row["rounds_ms"]) == 3 for row in rows.values())


@pytest.mark.parametrize("name", [DENSE[0], OURS])
def test_peak_memory_is_that_of_a_fresh_process(name):
    task = bench.Task("network", 0.95, **SIZES | {"batch": 64, "image": 16})
    peak = bench.in_a_process(bench.MODULE, {"rival": name} | bench.asdict(task))
    assert 64 * 3 * 16 * 16 * 4 < peak < 2**28


def test_the_command_prints_json_or_a_table(monkeypatch, capsys):
    sizes = ["--width", "8", "--image", "8", "--batch", "8", "--features", "32", "--network", "small", "--repeats", "1"]
    chosen = ["--rival", "masked, contiguous", "--sparsity", "0.9", "--no-memory"]
    outputs = []
    for more in (["--json"], []):
        monkeypatch.setattr(sys, "argv", ["sparcl-lite", "bench", "rivals", *sizes, *chosen, *more])
        with warnings.catch_warnings(), pytest.raises(SystemExit) as stop:
            cli.main()
        assert not stop.value.code
        outputs.append(capsys.readouterr().out)
    report = json.loads(outputs[0])
    assert {row["rival"] for row in report["rows"]} == {*DENSE, "masked, contiguous"}
    assert "masked, contiguous" in outputs[1]
    monkeypatch.setattr(sys, "argv", ["sparcl-lite", "bench", "rivals", "--rival", "nobody"])
    with warnings.catch_warnings(), pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "rival = 'nobody'" in capsys.readouterr().err
