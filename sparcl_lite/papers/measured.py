"""What this kit's benchmarks have measured: an experiment of its own, kept in `bench/` like any other."""

from typing import Any

from sparcl_lite.papers.experiments import Experiment, Row
from sparcl_lite.runs.benchmark import Benchmark
from sparcl_lite.runs.store import Store

WIDE = {"network": "resnet18", "image": 32, "batch": 32, "threads": 2}
SMALL = {"network": "small", "width": 16, "image": 28, "batch": 48, "threads": 1, "repeats": 15}
LEVELS = [0.9, 0.95]
TORCHVISION = {
    f"torchvision-{name}": WIDE | {"network": f"torchvision:{name}", "image": image}
    for name, image in (("resnet18", 64), ("vgg11_bn", 32))
}
#: What is measured by name: the benchmark and its settings.
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"step-{level:.0f}": ("step", WIDE | {"width": 64, "sparsity": level / 100}) for level in (75, 90)},
    "step-95": ("step", WIDE | {"width": 64, "sparsity": 0.95, "compiled": True}),
    "step-small-95": ("step", SMALL | {"sparsity": 0.95}),
    **{f"sweep-resnet18-{width}": ("sweep", WIDE | {"width": width, "repeats": 7}) for width in (32, 64)},
    "sweep-resnet18-16": ("sweep", WIDE | {"width": 16, "repeats": 9}),
    "sweep-small-16": ("sweep", SMALL),
    **{f"sweep-{name}": ("sweep", sizes | {"sparsities": LEVELS, "repeats": 7}) for name, sizes in TORCHVISION.items()},
    **{f"memory-{batch}": ("memory", WIDE | {"width": 64, "batch": batch, "sparsity": 0.95}) for batch in (32, 96)},
    **{f"memory-{name}": ("memory", sizes | {"sparsity": 0.95}) for name, sizes in TORCHVISION.items()},
    "rivals": ("rivals", {"threads": 2}),
    "kernels-95": ("kernels", WIDE | {"width": 64, "sparsity": 0.95}),
    "parts-95": ("parts", WIDE | {"width": 64, "sparsity": 0.95}),
    "train-lite": ("train", {"profile": "lite", "sparsities": LEVELS, "threads": 1}),
    "train-paper": (
        "train",
        {"profile": "paper", "sparsities": LEVELS, "threads": 2, "steps": 20, "epochs": 5, "tasks": 1},
    ),
    **{f"frontier-{profile}": ("cost", {"profile": profile}) for profile in ("smoke", "lite", "desk")},
    "lightcl-memory": ("lightcl", {"profile": "paper", "threads": 2}),
}
ROUNDS = 5  # of what whole runs cost: a measurement each, told apart by its seed


def benchmarks() -> Experiment:
    """Every measurement that a notebook or a claim looks at; the sizes are the same at every profile."""
    rows = (
        Row(name, name, {"benchmark": kind, "settings": given}, ROUNDS if kind == "cost" else 1)
        for name, (kind, given) in ROWS.items()
    )
    return Experiment("bench", "", None, tuple(rows), job=Benchmark)


def measurements(store: Store) -> dict[str, dict[str, Any]]:
    """The reports that `store` has, by name."""
    experiment = benchmarks()
    found = {row.id: store.find(experiment.configs(row, 1)[0]) for row in experiment.rows}
    return {name: result.report for name, result in found.items() if result}


def cost_rounds(store: Store, profile: str) -> list[dict[str, Any]]:
    """What every row of the frontier costs at a profile: a report of `bench.cost` for each round that `store` has."""
    return [*benchmarks().narrowed([f"frontier-{profile}"]).stored(seeds=ROUNDS, store=store)["report"]]


def made_by(found: dict[str, Any]) -> frozenset[tuple[str, str]]:
    """(time, commit) of a measurement, as claims carry it of their runs."""
    return frozenset({("", found.get("environment", {}).get("commit") or "unknown")})
