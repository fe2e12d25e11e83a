"""LightCL's own fields, and what `variant="official"` does differently."""

from typing import Annotated, Any, Literal

from pydantic import Field

from sparcl_lite.config import Frozen, Parameters

#: What `variant="official"` (INV-WZQ/LightCL) does differently; each field is a switch, see docs/deviations.md.
LIGHTCL_QUIRKS: dict[str, Any] = {
    "extra_channel": True,
    "keep_trunk": False,
    "ranking": "signed_mean",
    "groups": "layer",
    "recover": True,
}


class LightCL(Frozen):
    """Feature patterns (`ratio` to `keep_trunk`) and the pruning of channels (`prune` to `recover`).

    The weight of what is held is the run's `beta`, at any width that of the authors' 512 channels; the number of
    reference samples is its `buffer_size`.
    """

    official = LIGHTCL_QUIRKS
    variant: Literal["paper", "official"] = "paper"
    ratio: float = Field(0.15, ge=0, le=1, description="share of a map's channels that a task adds to the pattern")
    channels: Literal["activation", "random"] = Field("activation", description="how these channels are chosen")
    logits: bool = Field(True, description="whether the logits of the reference samples are held, too")
    reference: Literal["new", "old"] = Field("new", description="whose samples: the new task's, or earlier ones'")
    extra_channel: bool = Field(False, description="keep one channel more than asked for, in patterns and pruning")
    keep_trunk: bool = Field(True, description="compute the frozen blocks' maps of the reference once a task")
    prune: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = Field(
        (), description="share of channels removed before the first task, by stage (the stem belongs to the first)"
    )
    ranking: Literal["magnitude", "signed_mean"] = Field(
        "magnitude", description="of filters: the mean of |w|, or of w"
    )
    groups: Literal["stage", "layer"] = Field(
        "stage", description="the layers that a stage adds up keep the same channels, or each its own"
    )
    recover: bool = Field(False, description="pruned: the first task also trains the last frozen block")


class LightCLParameters(Parameters):
    """What stands beside the fields of every run."""

    beta: float = Field(2e-4, ge=0, description="weight of what is held, at any width that of 512 channels")
    lightcl: LightCL = LightCL()
