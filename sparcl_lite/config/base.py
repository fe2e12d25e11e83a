"""What every configuration is: frozen, without unknown fields, and with or without the quirks of its authors' code."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator


class Frozen(BaseModel):
    """Base of all configurations; `official` has the defaults of `variant="official"`, where there is one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)
    official: ClassVar[dict[str, Any]] = {}

    @model_validator(mode="before")
    @classmethod
    def _apply_variant(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("variant") == "official":
            return cls.official | given
        return given
