"""CLFD's fields (Liu et al., NeurIPS 2024), and what `variant="official"` does differently."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter

from sparcl_lite.config.base import Frozen

#: What `variant="official"` (EMLS-ICTCAS/CLFD) does differently; each field is a switch, see docs/deviations.md.
CLFD_QUIRKS: dict[str, Any] = {"dropout_from": "first_epoch", "shift": 1.0, "first_task": "prefix"}


class CLFD(Frozen):
    """Its frequency-domain feature encoder (`ffe`, `band`) and class-aware feature selection (`cffs` and below)."""

    official = CLFD_QUIRKS
    variant: Literal["paper", "official"] = "paper"
    ffe: bool = Field(True, description="the network sees the Haar transform of an image, at half its size")
    band: Literal["all", "ll", "lh", "hl", "hh"] = Field(
        "all", description="three maps encoded from all bands, or one band as it is"
    )
    cffs: bool = Field(True, description="the head sees the strongest features, chosen by class in training")
    kept: float = Field(0.6, gt=0, le=1, description="share of the features that the head sees")
    mix: float = Field(0.5, ge=0, le=1, description="lambda: weight of the least similar class in frequency dropout")
    strength: float = Field(2.0, gt=0, description="beta_c of semantic dropout")
    warmup: float = Field(0.4, ge=0, le=1, description="E: share of a task's epochs before semantic dropout")
    dropout_from: Literal["begin", "first_epoch"] = Field(
        "begin", description="when a task's frequency dropout begins: at once, or at the end of its first epoch"
    )
    shift: float = Field(0.0, ge=0, description="added to similarities of classes before ratios are taken")
    first_task: Literal["all", "prefix"] = Field(
        "all", description="before semantic dropout the first task keeps all features, or the first kept x 1.1 of them"
    )


def _as_fields(given: Any) -> Any:
    return {True: {}, False: None}[given] if isinstance(given, bool) else given


Switch = Annotated[CLFD | None, BeforeValidator(_as_fields)]
SWITCH = TypeAdapter(Switch)
