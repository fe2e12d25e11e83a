"""What every configuration is: frozen, and without unknown fields."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Base of all configurations."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)
