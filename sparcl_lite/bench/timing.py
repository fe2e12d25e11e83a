"""What the benchmarks share: alternating runs, a stopwatch for parts of a call, and fresh processes."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sparcl_lite.errors import KitError


class Rounds(dict):
    """Wall milliseconds of each call in each round; `cpu` has the processor's milliseconds, of all threads.

    On a busy machine wall time is mostly waiting for a turn. The processor's time is not, with one thread: with more,
    threads that wait for each other count as well.
    """

    def __init__(self, names) -> None:
        super().__init__({name: [] for name in names})
        self.cpu: dict[str, list[float]] = {name: [] for name in names}


def alternating(calls: dict[str, Callable[[], None]], repeats: int) -> Rounds:
    """Times of each call in each of `repeats` rounds; every round runs all of them in turn.

    What else the machine does meanwhile hits all of them alike. Each is called twice before, to warm up.
    """
    taken = Rounds(calls)
    for call in [*calls.values()] * 2:
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            start, cpu = time.perf_counter(), time.process_time()
            call()
            taken[name].append(1000 * (time.perf_counter() - start))
            taken.cpu[name].append(1000 * (time.process_time() - cpu))
    return taken


@dataclass
class Stopwatch:
    """Seconds spent inside wrapped calls, by part; calls within a wrapped call count for the outer one only."""

    spent: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("forward", "backward", "update"), 0.0))
    busy: bool = False

    def wrap(self, part: str, call):
        """`call`, timed as `part`."""

        def timed(*args, **kwargs):
            if self.busy:
                return call(*args, **kwargs)
            self.busy, start = True, time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self.spent[part] += time.perf_counter() - start
                self.busy = False

        return timed

    @contextmanager
    def timing(self, part: str, owner: type, name: str) -> Iterator[None]:
        """A context in which calls of the method `name` of `owner` are timed as `part`."""
        method = getattr(owner, name)
        setattr(owner, name, self.wrap(part, method))
        try:
            yield
        finally:
            setattr(owner, name, method)


def median_ratio(slow: list[float], fast: list[float]) -> float:
    """The median over the rounds of slow / fast."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def in_a_process(module: str, settings: dict[str, Any]) -> Any:
    """The JSON value that this module prints when it runs with these settings, in a process of its own.

    Raises `KitError` with the last line of its errors when it fails.
    """
    command = [sys.executable, "-m", module, json.dumps(settings)]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode:
        last = ended.stderr.strip().rpartition("\n")[2] or f"exit code {ended.returncode}"
        raise KitError(f"{settings} could not be measured: {last}")
    return json.loads(ended.stdout)
