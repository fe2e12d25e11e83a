"""A job: a computation that a configuration decides, and whose result is kept.

Training runs, clusterings, recoveries of cell types, analyses of blocks and benchmarks are kinds of jobs, each in a
module of its own (`HOMES`).
The type of a configuration says which kind it belongs to.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

from pydantic import BaseModel

from sparcl_lite.errors import KitError

#: The module that defines each kind; it is imported when the kind is first asked for.
HOMES = {
    "training": "sparcl_lite.runs.training",
    "clustering": "sparcl_lite.runs.clustering",
    "recovery": "sparcl_lite.runs.recovery",
    "generalizability": "sparcl_lite.runs.blocks",
    "bench": "sparcl_lite.runs.benchmark",
}


class OutOfTime(KitError):
    """A job's time is up: it was not begun, or it has stopped at a checkpoint, from which it goes on."""


class Watch:
    """Sees a training run while it goes on, and changes nothing of it; what it raises ends the run."""

    def begin(self, trainer: Any, steps: int) -> None:
        """Before the first step of this process, `trainer` at its start or at a checkpoint, of `steps` steps in all."""

    def step(self) -> None:
        """After a step."""

    def epoch(self) -> None:
        """After an epoch, before its checkpoint is written."""

    def saved(self) -> None:
        """After a checkpoint was written: a run that ends here goes on from it."""


KINDS: dict[type[BaseModel], type[Job]] = {}


@dataclass(frozen=True)
class Job(ABC):
    """One computation; `threads` and `device` say what it runs on, `until` how long, `watch` who looks on.

    None of these is a part of its key.

    Attributes
    ----------
    kind : name of its kind
    folder : of this kind's results within a store; empty for the store's own folder
    config_type : of its configuration, which has a `key` and a `seed`
    result_type : of its result, which has the `config`
    shares_machine : whether other jobs may run at the same time; False where time is measured
    columns : what `line` gives of a result
    bits : fields of a result that are equal wherever the same numbers were computed; empty: none is
    """

    kind: ClassVar[str]
    folder: ClassVar[str]
    config_type: ClassVar[type[BaseModel]]
    result_type: ClassVar[type[BaseModel]]
    shares_machine: ClassVar[bool] = True
    columns: ClassVar[tuple[str, ...]] = ()
    bits: ClassVar[frozenset[str]] = frozenset()

    config: Any
    threads: int = 1
    device: str = "auto"
    until: float = math.inf  # seconds since 1970
    watch: Watch | None = None

    def __init_subclass__(cls) -> None:
        KINDS[cls.config_type] = cls

    @property
    def id(self) -> tuple[str, str]:
        """Kind and key: what no other job has."""
        return self.kind, self.config.key

    @property
    @abstractmethod
    def label(self) -> str:
        """A short name of what is computed, without the seed."""

    @property
    def name(self) -> str:
        """Its label and seed."""
        return f"{self.label}, seed {self.config.seed}"

    @property
    def cost(self) -> float:
        """How long it takes, against others of its kind."""
        return 1.0

    @property
    def disk_bytes(self) -> int:
        """Space that it needs in the store."""
        return 2**20

    @property
    def dataset(self) -> str:
        """The data set that has to be on the machine; empty: none."""
        return ""

    @property
    def out_of_time(self) -> bool:
        """Whether `until` has passed."""
        return time.time() >= self.until

    def check_time(self) -> None:
        """Raise `OutOfTime` where it is."""
        if self.out_of_time:
            raise OutOfTime(f"{self.name}: no time left; the same call goes on from there")

    @abstractmethod
    def compute(self, store: Any, progress: bool) -> Any:
        """The result; what is half done may be kept in the store's checkpoints."""

    @staticmethod
    @abstractmethod
    def headline(result: Any) -> dict[str, float | None]:
        """The numbers that a reader looks at first, by name; None where the result has no such number."""

    @classmethod
    def line(cls, result: Any) -> dict[str, Any]:
        """A result as one line of a table, with `columns`."""
        return cls.headline(result)


def job_of(what: Any, **how: Any) -> Job:
    """The job of a configuration, with the given threads and device; a job is taken as it is."""
    return what if isinstance(what, Job) else kind_of(what)(what, **how)


def kind_of(config: BaseModel) -> type[Job]:
    """The kind of job that a configuration belongs to. Raises `KitError` where there is none."""
    for name in HOMES:
        if type(config) in KINDS:
            break
        kind_named(name)
    if type(config) not in KINDS:
        raise KitError(f"config = {config!r}: no configuration; allowed: {', '.join(t.__name__ for t in KINDS)}")
    return KINDS[type(config)]


def kind_named(name: str) -> type[Job]:
    """The kind of that name."""
    import_module(HOMES[name])
    return next(kind for kind in KINDS.values() if kind.kind == name)


def kinds() -> list[type[Job]]:
    """Every kind."""
    return [kind_named(name) for name in HOMES]


def shown(value: float | None) -> str:
    """A number of a result as text; `-` where the method has none."""
    if value is None:
        return "-"
    return f"{value:.2f}" if abs(value) < 1e5 else f"{value:.4g}"


def headline(job: Job, result: Any) -> str:
    """What was computed, and the numbers that a reader looks at first."""
    numbers = ", ".join(f"{name} {shown(value)}" for name, value in job.headline(result).items())
    return f"{job.name}: {numbers}"
