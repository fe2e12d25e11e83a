"""What the sparse engine gains, as tables: of the measurements that are kept in `results/bench`."""

from typing import Any

import pandas as pd

from sparcl_lite.papers.measured import measurements
from sparcl_lite.report.tables import Table
from sparcl_lite.runs.store import Store

NO_RUNS = "Not measured yet."
LEVELS = (0.75, 0.9, 0.95, 0.99)
STEPS = {
    "sweep-resnet18-64": "ResNet-18, 64 channels, 32x32, batch 32",
    "sweep-resnet18-32": "the same with 32 channels",
    "sweep-resnet18-16": "the same with 16 channels",
    "sweep-small-16": "the `lite` network, 28x28, batch 48",
    "sweep-torchvision-resnet18": "torchvision's resnet18, 64x64, batch 32",
    "sweep-torchvision-vgg11_bn": "torchvision's vgg11_bn, 32x32, batch 32",
}
PEAKS = {
    "memory-32": "ResNet-18, 64 channels, 32x32, batch 32",
    "memory-96": "the same, batch 96",
    "memory-torchvision-resnet18": "torchvision's resnet18, 64x64, batch 32",
    "memory-torchvision-vgg11_bn": "torchvision's vgg11_bn, 32x32, batch 32",
}


def blocks(store: Store) -> dict[str, str]:
    """Markdown of each table of docs/performance.md by its name."""
    found = measurements(store)
    return {
        "steps": _table(_steps(found), found, STEPS),
        "peaks": _table(_peaks(found), found, PEAKS),
        "rivals": _table(_rivals(found["rivals"]) if "rivals" in found else [], found, ["rivals"]),
    }


def _table(lines: list[dict[str, str]], found: dict[str, Any], names: Any) -> str:
    if not lines:
        return NO_RUNS
    where = dict.fromkeys(found[name]["environment"]["processor"] for name in names if name in found)
    table = Table(pd.DataFrame(lines).fillna(""))
    return f"{table.to_markdown()}\n\nOn {'; '.join(where)}."


def _steps(found: dict[str, Any]) -> list[dict[str, str]]:
    lines = []
    for name, label in STEPS.items():
        if name in found:
            report, threads = found[name], found[name]["settings"]["threads"]
            line = {"a training step of": label, "threads": str(threads), "dense": f"{report['dense_ms']:.3g} ms"}
            faster = {level: report["speedup"].get(str(level)) for level in LEVELS}
            lines.append(line | {_percent(level): f"{x:.2f}x" if x else "" for level, x in faster.items()})
    return lines


def _peaks(found: dict[str, Any]) -> list[dict[str, str]]:
    return [
        {
            "peak of training steps at 95 %": label,
            "dense": _megabytes(found[name]["dense_bytes"]),
            "sparse": _megabytes(found[name]["sparse_bytes"]),
            "ratio": f"{found[name]['ratio']:.2f}",
        }
        for name, label in PEAKS.items()
        if name in found
    ]


def _rivals(report: dict[str, Any]) -> list[dict[str, str]]:
    """A line for each task and rival; one that gains nothing from zeros has the same cell at every level."""
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for row in report["rows"]:
        line = lines.setdefault((row["task"], row["rival"]), {"task": row["task"], "rival": row["rival"]})
        peak = "" if row["peak_bytes"] is None else f", {_megabytes(row['peak_bytes'])}"
        levels = report["settings"]["levels"] if row["sparsity"] is None else [row["sparsity"]]
        line |= {_percent(level): f"{row['speedup']:.2f}x{peak}" for level in levels}
    return list(lines.values())


def _percent(level: float) -> str:
    return f"{level:.0%}".replace("%", " %")


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.0f} MB"
