"""SparCL's own fields, and what `variant="official"` does differently."""

from typing import Any, Literal

from pydantic import Field, model_validator

from sparcl_lite.config import Sparse
from sparcl_lite.sparsity.schedule import data_fraction, samples_in_epoch

DGM_FACTOR = 0.90  # the one constant with which the paper's convention gives all 12 published SparCL values

#: What `variant="official"` (neu-spiral/SparCL) does differently; each field is a switch, see docs/deviations.md.
OFFICIAL_QUIRKS: dict[str, Any] = {
    "initial_mask": "magnitude",
    "cwi_gradient": "total",
    "cgi_gradient": "total",
    "expand_first_task": True,
    "freeze_from": 0.9,
    "drop_dead_weights": True,
    "freeze_bn_bias": True,
    "difficulty": "forgetting",
}


class SparCL(Sparse):
    """SparCL's sparse training: TDM (weights), DDR (data) and DGM (gradients); each can be switched off.

    Densities and proportions are fractions; `p_inter` and `p_intra` are fractions of *all* weights of a layer. The
    schedule (`interval`, `cutoff`, `freeze_from`) is in fractions of a task's epochs.
    """

    official = OFFICIAL_QUIRKS
    kind: Literal["sparcl"] = "sparcl"
    variant: Literal["paper", "official"] = "paper"
    tdm: bool = True
    ddr: bool = True
    dgm: bool = True
    interval: float = Field(0.1, gt=0, le=1, description="delta_k: a stage's share of the task's epochs")
    # TDM
    alpha: float = Field(0.5, ge=0, description="weight of the current task's gradient in CWI and CGI")
    beta: float = Field(1.0, ge=0, description="weight of the buffer's gradient in CWI and CGI")
    p_inter: float = Field(0.01, ge=0, lt=1)
    p_intra: float = Field(0.01, ge=0, lt=1)
    growth: Literal["random", "gradient"] = "random"
    initial_mask: Literal["random", "magnitude"] = "random"
    cwi_gradient: Literal["separate", "total"] = "separate"
    cwi_batches: int = Field(2, ge=1, description="batches that each gradient in CWI is averaged over")
    expand_first_task: bool = False
    freeze_from: float = Field(1.0, gt=0, le=1)
    drop_dead_weights: bool = False
    freeze_bn_bias: bool = False
    # DDR
    removal: float = Field(0.3, ge=0, lt=1, description="rho: share of a task's samples removed in all")
    cutoff: float = Field(0.4, gt=0, le=1, description="no removal after this share of the task's epochs")
    removal_rule: Literal["stages", "one_shot", "random"] = Field(
        "stages", description="the easiest of each stage; the easiest of all epochs, at the cut-off; random ones"
    )
    difficulty: Literal["misclassifications", "forgetting"] = "misclassifications"
    uncounted: float = Field(
        0.0, ge=0, lt=1, description="share of a task's epochs, at its start, whose answers are no sign of difficulty"
    )
    ties: Literal["random", "index"] = Field("random", description="index: of earlier results only")
    # DGM
    kept_gradients: float = Field(0.8, gt=0, le=1, description="1 - q/(1-s): share of active weights")
    gradient_interval: int = Field(30, ge=1, description="steps between two refreshes of the gradient mask")
    cgi_gradient: Literal["separate", "total"] = "separate"

    @model_validator(mode="after")
    def _check_densities(self) -> "SparCL":
        if self.tdm and self.sparsity < self.p_inter:
            raise ValueError(f"p_inter = {self.p_inter} exceeds sparsity = {self.sparsity}")
        if self.tdm and self.sparsity + self.p_intra >= 1:
            raise ValueError(f"p_intra = {self.p_intra} leaves no weights at sparsity = {self.sparsity}")
        if self.ddr and self.removal and self.interval > self.cutoff:
            raise ValueError(
                f"interval = {self.interval}: DDR never removes anything; allowed: up to cutoff = {self.cutoff}"
            )
        if self.ddr and self.uncounted >= self.interval:
            raise ValueError(
                f"uncounted = {self.uncounted} leaves nothing to count in the first stage; "
                f"allowed: below interval = {self.interval}"
            )
        if self.dgm and self.cgi_gradient == "total" and self.alpha == 0:
            raise ValueError('alpha = 0 with cgi_gradient = "total" masks every gradient; allowed: above 0')
        if self.growth == "gradient" and self.cwi_gradient == "total":
            raise ValueError('growth = "gradient" needs cwi_gradient = "separate": the total one is already masked')
        return self

    @property
    def weight_density(self) -> float:
        """Nominal density of the prunable layers (1 where TDM is off)."""
        return 1 - self.sparsity if self.tdm else 1.0

    @property
    def gradient_density(self) -> float:
        """Nominal density of the prunable layers' weight gradients."""
        return self.weight_density * (self.kept_gradients if self.dgm else 1.0)

    def samples_left(self, samples: int, epochs: int) -> int:
        """What DDR leaves in the last epoch."""
        return samples_in_epoch(self, samples, epochs - 1, epochs)

    def paper_share(self, epochs: int) -> float:
        """DDR's mean share of the data, and a constant for DGM."""
        return data_fraction(self, epochs) * (DGM_FACTOR if self.dgm else 1.0)
