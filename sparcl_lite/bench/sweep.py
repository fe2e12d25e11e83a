"""A training step at several sparsities against the dense one: the points of a figure."""

import os
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sparcl_lite.bench.step import LAYOUTS, dense_steps, sparse_step
from sparcl_lite.bench.timing import alternating, median_ratio
from sparcl_lite.bench.workload import Workload
from sparcl_lite.runs.result import environment
from sparcl_lite.threads import using_threads

SPARSITIES = (0.5, 0.75, 0.9, 0.95, 0.99)


def sweep(*, sparsities: Sequence[float] = SPARSITIES, repeats: int = 5, **sizes: Any) -> dict[str, Any]:
    """Speed-ups by sparsity over the faster dense layout, medians of alternating rounds that hold all of them.

    `sparsities` replace the workload's own.
    `load` is the machine's load average at the end: well above the number of threads, read `cpu_speedup` (one thread).
    `sizes` are those of a `Workload`.
    """
    work = Workload(**sizes)
    with using_threads(work.threads):
        calls = dense_steps(work)
        for level in sparsities:
            calls[str(level)], _ = sparse_step(replace(work, sparsity=level))
        taken = alternating(calls, repeats)
    middle = {name: statistics.median(times) for name, times in taken.items()}
    layout = min(LAYOUTS, key=middle.get)
    return {
        "dense_ms": middle[layout],
        "dense_layout": layout,
        "sparse_ms": {str(s): middle[str(s)] for s in sparsities},
        "speedup": {str(s): median_ratio(taken[layout], taken[str(s)]) for s in sparsities},
        "cpu_speedup": {str(s): median_ratio(taken.cpu[layout], taken.cpu[str(s)]) for s in sparsities},
        "rounds_ms": taken,
        "rounds_cpu_ms": taken.cpu,
        "load": os.getloadavg()[0],
        "settings": work.settings(sparsity=list(sparsities), repeats=repeats),
        "environment": environment(work.threads, "cpu"),
    }


def in_words(report: dict[str, Any]) -> str:
    """The main numbers of a report."""
    found = ", ".join(f"{level}: {ratio:.2f}x" for level, ratio in report["speedup"].items())
    return f"dense {report['dense_ms']:.1f} ms ({report['dense_layout']}); {found}"
