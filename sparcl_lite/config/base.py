"""What every configuration is: frozen, without unknown fields, and with or without the quirks of its authors' code."""

from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, ValidationInfo, model_validator

from sparcl_lite.registry import STRATEGIES

# In the context of a validation:
STORED = "stored"  # what is read was valid when it was written
LOOKED_UP = "looked_up"  # only the key is needed, to find a result: a method's own check may build its network


class Frozen(BaseModel):
    """Base of all configurations; `official` has the defaults of `variant="official"`, where there is one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)
    official: ClassVar[dict[str, Any]] = {}

    @model_validator(mode="before")
    @classmethod
    def _prepare(cls, given: Any, info: ValidationInfo) -> Any:
        if not isinstance(given, dict):
            return given
        return cls._filled(given, stored=True) if is_stored(info) else cls._filled(plain(given), stored=False)

    @classmethod
    def _filled(cls, given: dict[str, Any], stored: bool) -> dict[str, Any]:
        """What was given, and what stands in for the fields left open."""
        return cls.official | given if given.get("variant") == "official" else given


def is_stored(info: ValidationInfo) -> bool:
    """Whether what is validated comes from a store, where names may stand that are not registered now."""
    return bool(info.context and info.context.get(STORED))


def is_looked_up(info: ValidationInfo) -> bool:
    """Whether what is validated only asks for a finished run."""
    return bool(info.context and info.context.get(LOOKED_UP))


def plain(value: Any) -> Any:
    """Numpy's numbers and arrays as those of Python, also inside containers: they mean the same, and have one key.

    >>> plain({"buffer_size": np.int64(200), "tasks": np.array([4, 3, 3])})
    {'buffer_size': 200, 'tasks': [4, 3, 3]}
    """
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return type(value)(map(plain, value)) if type(value) in (list, tuple) else value


class Parameters(Frozen):
    """Base of a method's own fields, which stand beside those of every run: `RunConfig(method="er", beta=0.5)`."""


class Sparse(Frozen):
    """Base of a strategy's fields: which kind it is, and the share of zeros among the prunable weights.

    What a run will cost depends on its densities and on the share of the data that it presents: a subclass has its
    own.
    """

    kind: str
    sparsity: float = Field(0.75, ge=0, lt=1)

    @property
    def weight_density(self) -> float:
        """Nominal density of the prunable layers."""
        return 1 - self.sparsity

    @property
    def gradient_density(self) -> float:
        """Nominal density of the prunable layers' weight gradients."""
        return self.weight_density

    def samples_left(self, samples: int, epochs: int) -> int:
        """Of a task's samples, those that its last epoch presents."""
        return samples

    def paper_share(self, epochs: int) -> float:
        """What the strategy leaves of a task's FLOPs in SparCL's convention, beside what the zeros save."""
        return 1.0


class UnknownSparse(Sparse):
    """Fields of a strategy that is not registered in this process, as a stored result has them."""

    model_config = ConfigDict(extra="allow")


def sparse_of(given: dict[str, Any], context: Any = None) -> Sparse:
    """The fields of the strategy that `kind` names, SparCL's without one. Raises ValueError where one is wrong."""
    given = {"kind": "sparcl"} | given
    return STRATEGIES.entry(given["kind"]).facts["config"].model_validate(given, context=context)


def _of_its_kind(given: Any, info: ValidationInfo) -> Any:
    if not isinstance(given, dict):
        return given
    if is_stored(info) and given.get("kind", "sparcl") not in STRATEGIES:
        return UnknownSparse.model_validate(given)
    return sparse_of(given, info.context)


AnySparse = Annotated[SerializeAsAny[Sparse], BeforeValidator(_of_its_kind)]
