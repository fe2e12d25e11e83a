"""Training memory: what a run must hold (analytic, by part) and what its process was seen to hold (peak)."""

import ctypes
import gc
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import torch

from sparcl_lite.config import RunConfig
from sparcl_lite.measure.flops import costs_of
from sparcl_lite.models import build
from sparcl_lite.registry import DATASETS, METHODS

FLOAT_BYTES = 4


def training_memory(config: RunConfig) -> dict[str, int]:
    """Bytes by part: nonzero weights and weight gradients, feature maps of one step, and the buffer.

    Convolution and linear parameters and output maps only, float32, as papers on sparse training count them, in the
    last task; sparse tensors without their index, maps of the current and all replayed samples of a step. Frozen layers
    hold weights only.
    """
    costs, spec, sparse = costs_of(config, config.task_count - 1), DATASETS[config.dataset], config.sparse
    trained = [c for c in costs if c.trains]
    method = METHODS[config.method]
    weight_density = sparse.weight_density if sparse else 1.0
    gradient_density = sparse.gradient_density if sparse else 1.0
    full = np.array([config.buffer_size])
    samples = config.batch_size + int(method.planned_replay(config, config.task_count - 1, full)[0])
    entry = spec.channels * spec.size**2 + 8 + FLOAT_BYTES * config.classes  # uint8 pixels, label, logits
    return {
        "weights": round(FLOAT_BYTES * sum(c.parameters * (weight_density if c.prunable else 1) for c in costs)),
        "gradients": round(FLOAT_BYTES * sum(c.parameters * (gradient_density if c.prunable else 1) for c in trained)),
        "activations": FLOAT_BYTES * samples * sum(c.outputs for c in trained),
        "buffer": entry * config.buffer_size * method.uses_buffer,
    }


class PeakMemory:
    """Peak memory of this process above where it stood at the start, in bytes.

    Resident memory on a CPU (Linux resets the kernel's high-water mark; elsewhere the value is sampled whenever
    `read` is called), allocated memory on a GPU.
    """

    def __init__(self, device: str):
        self.device, self.highest = device, 0
        _load_kernels(device)
        gc.collect()
        _release_free_memory()
        if device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats()
        else:
            self._reset_high_water_mark()
        self.start = psutil.Process().memory_info().rss

    def read(self) -> int:
        """The peak so far."""
        if self.device.startswith("cuda"):
            return torch.cuda.max_memory_allocated()
        self.highest = max(self.highest, _high_water_mark() - self.start)
        return self.highest

    @staticmethod
    def _reset_high_water_mark() -> None:
        with suppress(OSError):  # not Linux, or not permitted: `read` samples
            Path(f"/proc/{os.getpid()}/clear_refs").write_text("5")


def _load_kernels(device: str) -> None:
    """Have torch load the code of a training step, some 300 MB that belong to no run."""
    network = build("small", width=8, channels=1, classes=2, seed=0).to(device)
    network(torch.zeros(8, 1, 8, 8, device=device), chunks=(4, 4)).sum().backward()
    torch.optim.SGD(network.parameters(), lr=0.0, foreach=True).step()


def _release_free_memory() -> None:
    """Hand memory that the C library keeps for reuse back to the system, so that a run does not start on it."""
    with suppress(OSError, AttributeError, TypeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)


def _high_water_mark() -> int:
    try:
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return psutil.Process().memory_info().rss
