"""Says on stderr that kernels are being compiled: the first process on a machine does so, later ones find them kept.

Numba announces every compilation, but not what it takes from its cache; nothing here knows which kernels there are.
"""

import sys
import time

from numba.core.event import Event, Listener, register
from tqdm import tqdm

PACKAGE = __name__.rpartition(".")[0]


class _Progress(Listener):
    """One line at the start, and one as each kernel's turn comes; what a kernel calls is compiled as part of it."""

    def __init__(self) -> None:
        self.count, self.depth, self.begun = 0, 0, 0.0

    def on_start(self, event: Event) -> None:
        function = event.data["dispatcher"].py_func
        self.depth += 1
        if self.depth > 1 or not function.__module__.startswith(PACKAGE):
            return
        if not self.count:
            self.begun = time.perf_counter()
            _say("compiling the sparse engine's kernels for this processor: about 30 seconds, once")
        self.count += 1
        _say(f"compiling kernel {self.count} ({function.__name__}), after {time.perf_counter() - self.begun:.0f} s")

    def on_end(self, event: Event) -> None:
        self.depth -= 1


def _say(line: str) -> None:
    tqdm.write(line, file=sys.stderr)  # which leaves progress bars whole


def report_compilations() -> None:
    """From now on, in this process."""
    register("numba:compile", _Progress())
