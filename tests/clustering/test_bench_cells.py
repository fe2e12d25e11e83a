"""The benchmark of many cells: every measurement is a process of its own, and what grows is told by slopes."""

import pytest
from typer.testing import CliRunner

from sparcl_lite.bench import cells as bench
from sparcl_lite.cli import app
from sparcl_lite.errors import KitError
from sparcl_lite.runs.benchmark import in_words


def run_of(cells, genes, seconds, method="k-sparse"):
    return {"method": method, "cells": cells, "genes": genes, "seconds": 2 * seconds, "cpu_seconds": seconds,
            "peak_bytes": 3e9, "accuracy": 0.5}  # fmt: skip


def test_slopes_are_of_what_differs_in_nothing_else():
    runs = [run_of(10, 5, 1), run_of(100, 5, 100), run_of(1000, 5, 10_000), run_of(1000, 50, 100_000)]
    found = bench.slopes(runs)
    assert found["cells"] == pytest.approx(2)  # the run of 50 genes is left out
    assert found["genes"] == pytest.approx(1)
    assert bench.slopes(runs[:1]) == {}


def test_what_is_not_installed_is_told(monkeypatch):
    monkeypatch.setitem(bench.NEEDS, "leiden", ("scanpy_of_nobody",))
    monkeypatch.setattr(bench, "in_a_process", lambda module, given: run_of(given["cells"], given["genes"], 1))
    report = bench.cells(sizes=[(10, 5), (20, 5)], methods=["k-sparse", "leiden"], threads=1)
    assert len(report["runs"]) == 2
    text = in_words("cells", report)
    assert "leiden is left out: scanpy_of_nobody not installed" in text
    assert "k-sparse: 10 x 5 cells in 2.0 s (CPU 1.0 s), 3.00 GB, accuracy 50.0 %" in text
    assert "k-sparse: CPU time grows with the power 0.00 of the cells" in text


@pytest.mark.slow
@pytest.mark.parametrize("dask", [[], ["--dask"]])
def test_cells_are_clustered_in_memory_and_out_of_core(dask):
    done = CliRunner().invoke(
        app, ["bench", "cells", "--size", "400x100", "--method", "k-sparse", "--loops", "2", *dask]
    )
    assert done.exit_code == 0, done.output
    assert "k-sparse: 400 x 100 cells in" in done.output


def test_blocks_out_of_core_hold_the_cells_that_were_drawn(monkeypatch):
    monkeypatch.setattr(bench, "DRAWN", 60)
    monkeypatch.setattr(bench, "BLOCK", 50)
    X, labels = bench._in_blocks(120, 80)
    assert X.shape == (120, 80)
    assert X.chunks[0] == (50, 50, 20)
    assert len(labels) == 120
    first, again = X.blocks[0].compute(), X.blocks[0].compute()
    assert (first != again).nnz == 0  # a block is made anew whenever it is read


def test_sizes_and_methods_that_cannot_be_measured_are_told():
    for given, message in {
        ("--size", "1000"): "size = '1000': allowed: CELLSxGENES",
        ("--method", "louvain"): "method = 'louvain': allowed: k-sparse, minibatch-kmeans, leiden",
        ("--method", "leiden", "--dask"): "method = 'leiden': allowed: k-sparse with --dask",
    }.items():
        error = CliRunner().invoke(app, ["bench", "cells", *given]).exception
        assert isinstance(error, KitError)
        assert str(error).startswith(message)


@pytest.mark.slow
def test_a_method_that_fails_is_told_and_the_others_are_measured():
    report = bench.cells(sizes=[(30, 60)], methods=["k-sparse", "no such method"], threads=1, max_iter=1)
    assert [run["method"] for run in report["runs"]] == ["k-sparse"]
    assert "could not be measured: KeyError: 'no such method'" in report["skipped"]["no such method"]
