"""The benchmark's parts are those of a step and add up to it."""

import time

import pytest
import torch

from sparcl_lite.bench import Stopwatch, overhead


@pytest.fixture
def _same_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_same_threads")
@pytest.mark.parametrize("sparsity", [None, 0.9])
def test_parts_sum_to_the_step(sparsity):
    untouched = torch.Tensor.backward, torch.autograd.grad, torch.optim.SGD.step
    report = overhead(profile="smoke", sparsity=sparsity, threads=1, steps=3, repeats=1)
    parts = {part: report[part] for part in ("forward", "backward", "update", "overhead")}
    assert set(report) == {*parts, "total", "share"}
    assert all(value > 0 for value in parts.values())
    assert sum(parts.values()) == pytest.approx(report["total"])
    assert report["share"] == pytest.approx(report["overhead"] / report["total"])
    assert (torch.Tensor.backward, torch.autograd.grad, torch.optim.SGD.step) == untouched


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
