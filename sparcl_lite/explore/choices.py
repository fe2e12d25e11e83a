"""What the widgets of `Train` say, as a configuration, as lines of Python and as a command of the shell."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

import sparcl_lite as sl
from sparcl_lite.cli.options import fields_from
from sparcl_lite.config import PROFILES, RunConfig, explain
from sparcl_lite.errors import KitError
from sparcl_lite.registry import DATASETS, METHODS, STRATEGIES
from sparcl_lite.runs.job import job_of
from sparcl_lite.runs.store import Store

DENSE = "dense"
OWN = "the profile's own"


@dataclass(frozen=True)
class Choice:
    """Values of the widgets; `further` are other fields, as `lr=0.05, sparse.p_intra=0.005`."""

    profile: str = "lite"
    dataset: str = OWN
    method: str = "der++"
    strategy: str = "sparcl"
    sparsity: float = 0.9
    buffer_size: int = 200
    seed: int = 0
    further: str = ""

    @staticmethod
    def allowed() -> dict[str, list[str]]:
        """What can be chosen by name, built-in and registered."""
        strategies = [DENSE, *STRATEGIES]
        return {
            "profile": list(PROFILES),
            "dataset": [OWN, *DATASETS],
            "method": list(METHODS),
            "strategy": strategies,
        }

    @property
    def uses_buffer(self) -> bool:
        """Whether the method replays; else the buffer's size is 0."""
        return METHODS[self.method].uses_buffer

    @property
    def settings(self) -> list[str]:
        """The further fields, one assignment each; a comma separates them where a name follows."""
        parts: list[str] = []
        for part in filter(None, (text.strip() for text in self.further.split(","))):
            if "=" in part or not parts:
                parts.append(part)
            else:
                parts[-1] += f",{part}"  # tasks=4,3,3
        return parts

    @property
    def given(self) -> dict[str, Any]:
        """The fields that are not left to the profile. Raises `KitError` where the further ones cannot be read."""
        sparse = None if self.strategy == DENSE else self.strategy
        return fields_from(
            self.profile, None if self.dataset == OWN else self.dataset, self.method, sparse,
            self.sparsity if sparse else None, self.buffer_size if self.uses_buffer else 0, "paper", self.settings,
            seed=self.seed,
        )  # fmt: skip

    @property
    def config(self) -> RunConfig:
        """The run. Raises `KitError`, in one line, where it is none."""
        try:
            return RunConfig(**self.given)
        except ValidationError as error:
            raise KitError(explain(error)) from None

    def python(self, store: Store) -> str:
        """Three lines that make the same run."""
        fields = [f"{name}={_code(value)}" for name, value in self.given.items()]
        call = f"result = sl.run(config, store={str(store.root)!r})"
        return "\n".join(["import sparcl_lite as sl", f"config = sl.RunConfig({', '.join(fields)})", call])

    def shell(self, store: Store) -> str:
        """The command that makes the same run."""
        given = self.given
        sparse = [] if self.strategy == DENSE else ["--sparse", self.strategy, "--sparsity", f"{self.sparsity:g}"]
        dataset = [] if self.dataset == OWN else ["--dataset", self.dataset]
        settings = [word for setting in self.settings for word in ("--set", setting)]
        words = ["--profile", self.profile, *dataset, "--method", self.method, *sparse]
        words += ["--buffer-size", str(given["buffer_size"]), "--seed", str(self.seed), *settings]
        return shlex.join(["sparcl-lite", "run", *words, "--store", str(store.root)])


def _code(value: Any) -> str:
    """A field's value as Python; of a strategy whose configuration is a public name, a call of that."""
    if not isinstance(value, dict) or "kind" not in value:
        return repr(value)
    kind = STRATEGIES.entry(value["kind"]).facts["config"]
    if kind.__name__ not in sl.__all__:
        return repr(value)
    if kind.model_fields["kind"].default == value["kind"]:
        value = {name: field for name, field in value.items() if name != "kind"}
    return f"sl.{kind.__name__}({', '.join(f'{name}={field!r}' for name, field in value.items())})"


def known_of(store: Store, config: RunConfig) -> str:
    """What pressing Train will do, in a sentence."""
    if store.get(config):
        return "stored: Train shows it at once"
    if store.checkpoint_path(config).exists():
        return "stopped before: Train goes on from its checkpoint"
    return "new: Train starts it"


def name_of(config: RunConfig) -> str:
    """A run's short name: what is trained, and the seed."""
    return f"{job_of(config).label}, seed {config.seed}"
