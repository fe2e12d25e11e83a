"""Claims as data: a statement of a paper, its source, the comparisons that decide it, and a rule with a bound."""

import tomllib
from importlib import resources
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sparcl_lite.measure.statistics import joint_level

ACCURACY_RULES = ("above", "not_below")
RUN_RULES = (*ACCURACY_RULES, "flops_below", "never_increases", "slope_between")  # that look at an experiment's runs
COUNTED_RATIOS = ("honest_flops", "held_memory", "memory_ratio")
RATIO_RULES = (*COUNTED_RATIOS, "memory_measured", "measured_speedup", "measured_cost", "measured_memory")
RATIO_TOLERANCE = 0.05  # the papers print FLOPs and savings with two digits


class Claim(BaseModel):
    """One statement of a paper and the rule that decides it; see the head of the paper's `claims.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    publication: str = Field("", description="the paper's folder")
    statement: str
    source: str
    rule: str = Field(description="of this paper, or registered")
    experiment: str
    comparisons: list[tuple[str, str]]
    metric: Literal["class_il", "task_il", "accuracy", "precision", "recovered", "markers"] = "class_il"
    margin: float = Field(0.0, ge=0)
    expected: float | None = None
    ratio: float | None = None
    between: tuple[float, float] | None = None
    dataset: str = Field("cifar10", description="whose printed numbers are the paper's; of a claim that is counted")
    reason: str = Field("", description="why it is untestable")
    note: str = Field("", description="what else a reader has to know, shown with the verdict")

    @model_validator(mode="after")
    def _check_decidable(self) -> Self:
        if self.rule == "untestable" and not self.reason:
            raise ValueError(f"{self.id}: rule = 'untestable' needs a reason")
        if self.rule != "untestable" and not self.comparisons:
            raise ValueError(f"{self.id}: comparisons is empty; rule = {self.rule!r} needs one or more")
        if self.rule in RATIO_RULES and self.ratio is None:
            raise ValueError(f"{self.id}: rule = {self.rule!r} needs ratio")
        if self.rule == "slope_between" and self.between is None:
            raise ValueError(f"{self.id}: rule = 'slope_between' needs between")
        if self.rule == "not_below" and not self.margin:
            raise ValueError(f"{self.id}: margin = 0; rule = 'not_below' needs one above 0")
        return self

    @property
    def level(self) -> float:
        """Level of each of its intervals, such that all of them together err 5 % of the time at most."""
        return joint_level(len(self.comparisons))

    @property
    def bound(self) -> float | tuple[float, float] | None:
        """What the effect has to be above; `never_increases`: below; `slope_between`: within."""
        if self.rule in RATIO_RULES:
            return self.ratio * (1 - RATIO_TOLERANCE * (self.rule in COUNTED_RATIOS))
        if self.rule == "slope_between":
            return self.between
        return {"not_below": -self.margin, "flops_below": 0.0, "untestable": None}.get(self.rule, self.margin)


def claims(publication: str) -> list[Claim]:
    """The claims of a paper."""
    text = resources.files(f"sparcl_lite.papers.{publication}").joinpath("claims.toml").read_text()
    return [Claim.model_validate(entry | {"publication": publication}) for entry in tomllib.loads(text)["claim"]]
