"""`RunResult`: what a finished run says of itself, as validated JSON."""

import math
import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from sparcl_lite.config import RunConfig
from sparcl_lite.late import torch

Matrix = list[list[float | None]]


class Flops(BaseModel):
    """Training FLOPs: the paper's convention, the honest total, and the honest count by part."""

    paper: float
    honest: float
    by_part: dict[str, float]


class Seconds(BaseModel):
    """Seconds of training and of evaluation: wall-clock, and the processor's, which older results lack."""

    train: float
    eval: float
    train_processor: float | None = None
    eval_processor: float | None = None


class RunResult(BaseModel):
    """Everything a run reports; docs/metrics.md defines each field. Unseen matrix entries are null."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: RunConfig
    class_il: float | None
    task_il: float
    accuracy_matrix: Matrix
    task_il_matrix: Matrix
    forgetting: float | None
    backward_transfer: float | None
    flops: Flops
    data_fraction: float
    weight_density: float
    gradient_density: float
    seconds: Seconds
    peak_memory_bytes: int
    training_memory_bytes: dict[str, int]
    trace: dict[str, Any]
    sparse: dict[str, Any] = {}
    method: dict[str, Any] = {}
    pretraining: dict[str, Any] = {}
    environment: dict[str, Any]
    started: str
    finished: str

    def matrix(self, which: str = "accuracy_matrix") -> np.ndarray:
        """The Class-IL (or Task-IL) accuracy matrix ``(T, T)`` with NaN for unseen tasks."""
        return np.array(getattr(self, which), dtype=float)


def nullable(matrix: np.ndarray) -> Matrix:
    """A matrix as JSON lists, NaN as null, rounded to the accuracy a percentage can have."""
    return [[None if math.isnan(v) else round(float(v), 4) for v in row] for row in matrix]


def now() -> str:
    """The time, as results have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def environment(threads: int, device: str) -> dict[str, Any]:
    """Versions, processor, threads and source commit of this process."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
        "threads": threads,
        "commit": _commit(),
    }


def _processor() -> str:
    """Name, family and model: a virtual machine may show one name for processors that round differently."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor() or "unknown"
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    known = [f"{name} {facts[name]}" for name in ("cpu family", "model", "stepping") if name in facts]
    return ", ".join([facts.get("model name", "unknown"), *known])


def _commit() -> str | None:
    root = Path(__file__).parent.parent
    command = [
        "git",
        "-C",
        str(root),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
        "--exclude=*",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
