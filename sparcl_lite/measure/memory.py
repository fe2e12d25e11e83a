"""Training memory: what a process was seen to hold (peak). What a run must hold is planned: see `planning`."""

import ctypes
import gc
import os
from contextlib import suppress
from pathlib import Path

import psutil
import torch

from sparcl_lite.models import build

FLOAT_BYTES = 4


class PeakMemory:
    """Peak memory of this process above where it stood at the start, in bytes.

    Resident memory on a CPU (Linux resets the kernel's high-water mark; elsewhere the value is sampled whenever
    `read` is called), allocated memory on a GPU.
    """

    def __init__(self, device: str):
        self.device = device
        _load_kernels(device)
        self.begin()
        self.start = psutil.Process().memory_info().rss

    def begin(self) -> None:
        """Forget the peak so far: what was made until now counts with what it holds, not with what making it took."""
        self.highest = 0
        gc.collect()
        _release_free_memory()
        if self.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats()
        else:
            self._reset_high_water_mark()

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
