"""The benchmark's parts are those of a step and add up to it."""

import statistics
import time
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from sparcl_lite.bench.kernels import PRODUCTS, kernels
from sparcl_lite.bench.lightcl import ON_SPARSE_ENGINE, ROWS, lightcl
from sparcl_lite.bench.memory import memory
from sparcl_lite.bench.overhead import overhead
from sparcl_lite.bench.parts import PARTS, parts
from sparcl_lite.bench.step import step
from sparcl_lite.bench.timing import Stopwatch
from sparcl_lite.bench.train import train
from sparcl_lite.bench.workload import Workload
from sparcl_lite.engine.update import SparseSGD
from sparcl_lite.papers.lightcl.tables import table1
from sparcl_lite.runs.benchmark import BenchConfig, in_words
from sparcl_lite.runs.run import run
from sparcl_lite.runs.store import Store

pytestmark = pytest.mark.slow

TINY = Workload(network="small", width=8, image=8, batch=16, sparsity=0.9, threads=1)


def test_threads_are_afterwards_as_many_as_before():
    before = torch.get_num_threads()
    overhead(profile="smoke", sparsity=None, threads=before + 1, steps=1, repeats=1)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("sparsity", [None, 0.9])
def test_parts_sum_to_the_step(sparsity):
    SparseSGD(torch.nn.Linear(1, 1), 1)  # the first one of a process wraps its own step
    untouched = torch.Tensor.backward, torch.autograd.grad, SparseSGD.step
    report = overhead(profile="smoke", sparsity=sparsity, threads=1, steps=3, repeats=1)
    parts = {part: report[part] for part in ("forward", "backward", "update", "overhead")}
    assert set(report) == {*parts, "total", "share"}
    assert all(value > 0 for value in parts.values())
    assert sum(parts.values()) == pytest.approx(report["total"])
    assert report["share"] == pytest.approx(report["overhead"] / report["total"])
    assert (torch.Tensor.backward, torch.autograd.grad, SparseSGD.step) == untouched


def test_a_call_within_a_timed_call_counts_once():
    watch = Stopwatch()
    inner = watch.wrap("backward", lambda: time.sleep(0.05))
    outer = watch.wrap("forward", lambda: (time.sleep(0.05), inner()))
    outer()
    assert watch.spent["backward"] == 0
    assert watch.spent["forward"] >= 0.1
    inner()
    assert watch.spent["backward"] >= 0.05


def test_a_call_that_fails_is_counted_and_leaves_the_watch_ready():
    watch = Stopwatch()
    with pytest.raises(ZeroDivisionError):
        watch.wrap("forward", lambda: 1 / 0)()
    assert not watch.busy
    assert watch.spent["forward"] > 0


def test_a_step_is_timed_in_every_way_and_compared_round_by_round():
    report = step(**TINY.settings(repeats=3))
    rounds = report["rounds_ms"]
    assert set(rounds) == {"channels_last", "contiguous", "masked", "sparse", "auto"}
    assert report["dense_ms"] == min(statistics.median(rounds[n]) for n in ("channels_last", "contiguous"))
    layout = report["dense_layout"]
    assert report["speedup"] == statistics.median(a / b for a, b in zip(rounds[layout], rounds["sparse"], strict=True))
    assert report["auto"]["chosen"] in ("dense", "sparse")


def test_whole_runs_alternate():
    report = train(profile="smoke", sparsities=(0.8, 0.9), threads=1, repeats=2, steps=4, epochs=5, tasks=2)
    rounds = report["rounds_seconds"]
    assert {name: len(times) for name, times in rounds.items()} == {"dense": 2, "0.8": 2, "0.9": 2}
    for level in ("0.8", "0.9"):
        ratios = [a / b for a, b in zip(rounds["dense"], rounds[level], strict=True)]
        assert report["speedup"][level] == statistics.median(ratios)
    assert report["step_ms"]["dense"] == pytest.approx(1000 * report["dense_seconds"] / (4 * 5 * 2))
    assert report["step_ms"]["0.9"] > 1000 * report["sparse_seconds"]["0.9"] / (4 * 5 * 2)  # DDR leaves fewer


def test_kernels_are_held_against_limits():
    report = kernels(**replace(TINY, network="resnet18").settings())
    assert len(report["layers"]) == 7
    assert {size for taken in report["block_ms"].values() for size in taken} == {"16", "32", "64"}
    for layer in report["layers"]:
        for product in PRODUCTS:
            share = layer[product]["gflops"] / report["limits"]["attainable_gflops"]
            assert layer[product]["share_of_limit"] == pytest.approx(share)


def test_memory_is_measured_in_processes_of_their_own():
    report = memory(**replace(TINY, width=32, image=32, batch=64).settings(repeats=1))
    assert report["sparse_bytes"] > 0.5 * report["analytic"]["sparse"]
    assert report["dense_bytes"] > 0.5 * report["analytic"]["dense"]


def test_memory_is_the_median_of_rounds(monkeypatch):
    peaks = iter([50, 10, 70, 30, 60, 20])
    monkeypatch.setattr("sparcl_lite.bench.memory.in_a_process", lambda module, settings: next(peaks))
    report = memory(**TINY.settings(repeats=3))
    assert report["rounds_bytes"] == {"dense": [50, 70, 60], "sparse": [10, 30, 20]}
    assert (report["dense_bytes"], report["sparse_bytes"], report["ratio"]) == (60, 20, 20 / 60)


def test_parts_of_dense_and_sparse_steps_are_all_measured():
    untouched = SparseSGD.step
    report = parts(**TINY.settings(repeats=1))
    for engine in ("dense", "sparse"):
        assert set(report[engine]) == set(PARTS)
        assert all(ms > 0 for ms in report[engine].values())
    assert SparseSGD.step is untouched


def test_rows_of_lightcls_table_are_measured_in_the_second_task():
    rows = ("der++-15", "lightcl-0.90-15", ON_SPARSE_ENGINE)
    report = lightcl(profile="smoke", rows=rows, threads=1, repeats=1)
    for kind in ("peak_bytes", "step_ms", "speedup"):
        assert set(report[kind]) == set(rows)
        assert all(value > 0 for value in report[kind].values())
    assert report["speedup"]["der++-15"] == 1
    assert set(ROWS) <= {row.id for row in table1(profile="paper").rows}


def test_a_benchmark_is_a_job_whose_report_is_kept(tmp_path):
    sizes = TINY.settings()
    del sizes["sparsity"]
    config = BenchConfig(benchmark="sweep", settings=sizes | {"sparsities": [0.5, 0.9], "repeats": 2})
    result = run(config, store=tmp_path)
    assert set(result.report["speedup"]) == {"0.5", "0.9"}
    assert Store(tmp_path).get(config).report == result.report
    assert run(config, store=tmp_path).finished == result.finished
    assert in_words("sweep", result.report).startswith("dense ")
    assert BenchConfig(benchmark="sweep", settings=sizes).key != config.key
    with pytest.raises(ValidationError, match="benchmark"):
        BenchConfig(benchmark="flight")


def test_a_step_of_torchvisions_networks():
    report = step(network="torchvision:resnet18", image=32, batch=4, sparsity=0.95, threads=1, repeats=1)
    assert report["speedup"] > 0
    assert report["settings"]["network"] == "torchvision:resnet18"
