"""Clustering of many sparse cells: time, memory and agreement with the truth of K-sparse and of what people use.

Each measurement is a process of its own. Seconds are those of the fit alone; the peak is all that the process holds
during it: Python with its libraries, the data, and what the fit adds. The cells are simulated;
logarithms of their normalised counts are taken before.
"""

import gc
import json
import re
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from sparcl_lite.bench.timing import in_a_process
from sparcl_lite.errors import KitError
from sparcl_lite.runs.result import environment

MODULE = "sparcl_lite.bench.cells"  # this one, whose `measure` a fresh process calls
CLUSTERS = 4  # of the simulator
CAPTURED = 0.03  # share of the molecules that are counted: 8 % of the counts are not 0
COMPONENTS, BATCH = 50, 10_000  # of PCA, scanpy's default; cells of a batch
DRAWN = 50_000  # cells that are simulated; larger data are thinned copies of them
BLOCK = 25_000  # cells of a dask block
NEEDS = {"leiden": ("scanpy", "igraph")}


def cells(
    *, sizes: list[tuple[int, int]], methods: list[str], threads: int = 2, max_iter: int = 10, dask: bool = False
) -> dict[str, Any]:
    """Seconds, CPU seconds, peak bytes and accuracy of each method at each size (cells, genes), and slopes.

    A slope is the power of cells, or of genes, that the seconds grow with, over the sizes that differ in nothing else.
    With `dask` the data is never held as a whole, and only K-sparse is measured. A method that fails is skipped, with
    its error.
    """
    shared = {"threads": threads, "max_iter": max_iter, "dask": dask}
    runs, skipped = [], {}
    for method in methods:
        if missing := [name for name in NEEDS.get(method, ()) if find_spec(name) is None]:
            skipped[method] = f"{', '.join(missing)} not installed"
            continue
        try:
            for m, d in sizes:
                runs.append(in_a_process(MODULE, {"method": method, "cells": m, "genes": d} | shared))
        except KitError as error:
            skipped[method] = str(error)
    report = {"runs": runs, "slopes": {name: slopes([r for r in runs if r["method"] == name]) for name in methods}}
    return report | {"skipped": skipped, "settings": shared, "environment": environment(threads, "cpu")}


def slopes(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Slopes of log CPU seconds over log cells, at the most usual number of genes, and over log genes likewise."""
    found = {}
    for along, fixed in (("cells", "genes"), ("genes", "cells")):
        values = [run[fixed] for run in runs]
        same = [run for run in runs if run[fixed] == max(values, key=values.count)]
        sizes = [run[along] for run in same]
        if len(set(sizes)) > 1:
            found[along] = float(np.polyfit(np.log(sizes), np.log([run["cpu_seconds"] for run in same]), 1)[0])
    return found


def in_words(report: dict[str, Any]) -> str:
    """One line a run, then the slopes."""
    lines = [
        f"{run['method']}: {run['cells']:,} x {run['genes']:,} cells in {run['seconds']:.1f} s (CPU "
        f"{run['cpu_seconds']:.1f} s), {run['peak_bytes'] / 1e9:.2f} GB, accuracy {100 * run['accuracy']:.1f} %"
        for run in report["runs"]
    ]
    lines += [
        f"{method}: CPU time grows with the power {value:.2f} of the {along}"
        for method, found in report["slopes"].items()
        for along, value in found.items()
    ]
    return "\n".join(lines + [f"{method} is left out: {why}" for method, why in report["skipped"].items()])


def measure(*, method: str, cells: int, genes: int, threads: int, max_iter: int, dask: bool) -> dict[str, Any]:
    """One fit in this process."""
    from threadpoolctl import threadpool_limits

    from sparcl_lite.clustering.scores import accuracy

    X, truth = _in_blocks(cells, genes) if dask else _held(cells, genes)
    with threadpool_limits(1 if method == "k-sparse" else threads):  # K-sparse has threads of its own
        _forget_peak()
        begun, cpu = time.perf_counter(), time.process_time()
        labels = METHODS[method](X, threads, max_iter)
        seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu
    return {
        "method": method,
        "cells": cells,
        "genes": genes,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_bytes": _peak_bytes(),
        "accuracy": accuracy(truth, labels),
    }


def _forget_peak() -> None:
    """Have the kernel begin its record of this process's memory anew: making the data takes more than holding it."""
    gc.collect()
    with suppress(OSError):  # not Linux, or not permitted: the peak includes the making
        Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    with suppress(OSError):
        status = Path("/proc/self/status").read_text()
        return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _k_sparse(X, threads: int, max_iter: int) -> np.ndarray:
    """All defaults."""
    from sparcl_lite.clustering import KSparse

    return KSparse(CLUSTERS, n_jobs=threads, max_iter=max_iter, random_state=0, verbose=True).fit(X).labels_


def _mini_batches(X, threads: int, max_iter: int) -> np.ndarray:
    """scikit-learn's MiniBatchKMeans on 50 principal components."""
    from sklearn.cluster import MiniBatchKMeans

    return MiniBatchKMeans(CLUSTERS, batch_size=BATCH, n_init=3, random_state=0).fit(_pca(X)).labels_


def _leiden(X, threads: int, max_iter: int) -> np.ndarray:
    """scanpy: 15 neighbours in 50 principal components, igraph's Leiden at resolution 1, whatever the number found."""
    import scanpy as sc

    data = sc.AnnData(obsm={"X_pca": _pca(X)})
    sc.pp.neighbors(data, use_rep="X_pca", random_state=0)
    sc.tl.leiden(data, flavor="igraph", n_iterations=2, directed=False, random_state=0)
    return data.obs["leiden"].cat.codes.to_numpy()


METHODS: dict[str, Callable] = {"k-sparse": _k_sparse, "minibatch-kmeans": _mini_batches, "leiden": _leiden}


def _pca(X) -> np.ndarray:
    from sklearn.decomposition import PCA

    return PCA(min(COMPONENTS, min(X.shape) - 1), svd_solver="arpack", random_state=0).fit_transform(X)


def _held(cells: int, genes: int) -> tuple[Any, np.ndarray]:
    """CSR in memory, and the true clusters."""
    from sparcl_lite.clustering.preprocess import log_normalised

    drawn = _counts(cells, genes)
    return log_normalised(drawn.X), drawn.labels


def _counts(cells: int, genes: int):
    from sparcl_lite.clustering.data.simulator import simulate

    return simulate(cells, genes, dropout=0, captured=CAPTURED, as_sparse=True)


def _in_blocks(cells: int, genes: int) -> tuple[Any, np.ndarray]:
    """A dask array of CSR blocks, each made when it is read: cells of a small data set with their counts thinned."""
    import dask.array as da
    from dask import delayed
    from scipy import sparse

    from sparcl_lite.clustering.preprocess import log_normalised

    drawn = _counts(min(cells, DRAWN), genes)
    base, labels = drawn.X, drawn.labels
    starts = range(0, cells, BLOCK)
    chosen = [np.random.default_rng(at).permutation(len(labels))[: min(BLOCK, cells - at)] for at in starts]

    def block(at: int, rows: np.ndarray):
        X = base[rows]
        X.data = np.random.default_rng(at).binomial(X.data.astype(np.int32), 0.8).astype(np.float32)
        return log_normalised(X)

    empty = sparse.csr_array((0, genes), dtype=np.float32)
    blocks = [
        da.from_delayed(delayed(block)(at, rows), (len(rows), genes), np.float32, meta=empty)
        for at, rows in zip(starts, chosen, strict=True)
    ]
    return da.concatenate(blocks), labels[np.concatenate(chosen)]


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
