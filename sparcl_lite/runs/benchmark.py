"""The job that measures this machine: one of the benchmarks of `sparcl_lite.bench`, with settings of its own."""

import hashlib
import json
from importlib import import_module
from types import ModuleType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sparcl_lite.config.base import Frozen
from sparcl_lite.runs.job import Job
from sparcl_lite.runs.result import now
from sparcl_lite.runs.store import Store


class BenchConfig(Frozen):
    """A benchmark and its settings; what is left out keeps the benchmark's default."""

    benchmark: Literal[
        "overhead", "step", "sweep", "train", "memory", "kernels", "parts", "lightcl", "rivals", "cost", "cells"
    ]
    settings: dict[str, Any] = Field({})
    seed: int = Field(0, ge=0, description="tells repetitions apart; nothing random depends on it")

    @property
    def key(self) -> str:
        """Content address: a hash of all fields."""
        text = json.dumps(["bench", self.model_dump(mode="json", exclude_defaults=True)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]


class Measurement(BaseModel):
    """What a benchmark reports of this machine; its `environment` and `settings` are part of the report."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: BenchConfig
    report: dict[str, Any]
    finished: str


class Benchmark(Job):
    """One benchmark, alone on the machine."""

    kind = folder = "bench"
    config_type, result_type = BenchConfig, Measurement
    shares_machine = False
    columns = ("report",)

    @property
    def label(self) -> str:
        """The benchmark and its settings."""
        return ", ".join([f"bench {self.config.benchmark}", *(f"{n} {v}" for n, v in self.config.settings.items())])

    def compute(self, store: Store, progress: bool) -> Measurement:
        """Measure now."""
        report = measure(self.config.benchmark, **self.config.settings)
        return Measurement(config=self.config, report=report, finished=now())

    @staticmethod
    def headline(result: Measurement) -> dict[str, float | None]:
        """The single numbers of the report."""
        return {name: value for name, value in result.report.items() if isinstance(value, int | float)}

    @classmethod
    def line(cls, result: Measurement) -> dict[str, Any]:
        """The report as it is."""
        return {"report": result.report}


def measure(benchmark: str, **settings: Any) -> dict[str, Any]:
    """The report of a benchmark; each has a module of `sparcl_lite.bench`, and there a function of its own name."""
    return getattr(_module(benchmark), benchmark)(**settings)


def in_words(benchmark: str, report: dict[str, Any]) -> str:
    """The main numbers of a report."""
    return _module(benchmark).in_words(report)


def _module(benchmark: str) -> ModuleType:
    return import_module(f"sparcl_lite.bench.{benchmark}")
