"""What every configuration is: frozen, without unknown fields, and with or without the quirks of its authors' code."""

from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator


class Frozen(BaseModel):
    """Base of all configurations; `official` has the defaults of `variant="official"`, where there is one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)
    official: ClassVar[dict[str, Any]] = {}

    @model_validator(mode="before")
    @classmethod
    def _prepare(cls, given: Any) -> Any:
        return cls._filled(plain(given)) if isinstance(given, dict) else given

    @classmethod
    def _filled(cls, given: dict[str, Any]) -> dict[str, Any]:
        """What was given, and what stands in for the fields left open."""
        return cls.official | given if given.get("variant") == "official" else given


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
