"""What a run is: validated, frozen configurations and the profiles that fill what the user left open.

A profile (`profiles.toml`) is a set of numbers, never a branch in the code. Where the numbers of a run are used is
not decided here.
"""

import hashlib
import json
import tomllib
from functools import cache
from importlib import resources
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sparcl_lite.data.specs import SPECS

SCHEMA_VERSION = 2  # part of every key: raise it when the same configuration, or a default, would give other numbers
PROFILES = ("smoke", "lite", "paper")
METHODS = ("sgd", "joint", "ewc", "lwf", "packnet", "lps", "agem", "icarl", "fdr", "er", "der", "der++")
REPLAY_METHODS = ("agem", "icarl", "fdr", "er", "der", "der++")
PACKING_METHODS = ("packnet", "lps")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


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
    "ties": "index",
}


class Sparse(_Frozen):
    """What every kind of sparse training has: a share of weights of the prunable layers that are zero."""

    sparsity: float = Field(0.75, ge=0, lt=1)

    @property
    def weight_density(self) -> float:
        """Nominal density of the prunable layers."""
        return 1 - self.sparsity

    @property
    def gradient_density(self) -> float:
        """Nominal density of the prunable layers' weight gradients."""
        return self.weight_density


class StaticMask(Sparse):
    """One mask for the whole run: random, the largest initial weights, or SNIP's saliency |w dL/dw| (Lee et al., 2019).

    SNIP's saliency comes from one batch of the first task. `scope` says where weights compete: within a layer (as
    SparCL's comparison does, *recalled*), or in the whole network (as the SNIP paper does).
    """

    kind: Literal["random", "magnitude", "snip"]
    scope: Literal["layer", "network"] = "layer"


class RigL(Sparse):
    """RigL (Evci et al., ICML 2020): drops the smallest weights, grows where the dense gradient is largest.

    A share `drop_fraction` / 2 (1 + cos(pi t / t_end)) of a layer's weights moves every `interval` steps, up to
    `until` of the steps of a task (`schedule="task"`: the cosine restarts with each) or of the run.
    """

    kind: Literal["rigl"] = "rigl"
    drop_fraction: float = Field(0.3, gt=0, le=1)
    interval: int = Field(100, ge=1, description="steps between two updates of the mask")
    until: float = Field(0.75, gt=0, le=1, description="t_end as a share of all steps")
    schedule: Literal["task", "run"] = "task"


class SparCL(Sparse):
    """SparCL's sparse training: TDM (weights), DDR (data) and DGM (gradients); each can be switched off.

    Densities and proportions are fractions; `p_inter` and `p_intra` are fractions of *all* weights of a layer. The
    schedule (`interval`, `cutoff`, `freeze_from`) is in fractions of a task's epochs.
    """

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
    ties: Literal["random", "index"] = "random"
    # DGM
    kept_gradients: float = Field(0.8, gt=0, le=1, description="1 - q/(1-s): share of active weights")
    gradient_interval: int = Field(30, ge=1, description="steps between two refreshes of the gradient mask")
    cgi_gradient: Literal["separate", "total"] = "separate"

    @model_validator(mode="before")
    @classmethod
    def _apply_variant(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("variant") == "official":
            return OFFICIAL_QUIRKS | given
        return given

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


SPARSE_KINDS = ("sparcl", "random", "magnitude", "snip", "rigl")
AnySparse = Annotated[SparCL | StaticMask | RigL, Field(discriminator="kind")]


class RunConfig(_Frozen):
    """One training run: data, network, method, sparsity and seed. Fields left open come from `profile`."""

    profile: Literal[PROFILES] = "lite"
    dataset: str
    method: Literal[METHODS] = "der++"
    sparse: AnySparse | None = None
    seed: int = Field(0, ge=0, lt=2**31)
    # data
    tasks: int = Field(ge=1)
    images_per_class: int = Field(ge=0, description="training images a class; 0 means all")
    class_order: Literal["native", "shuffled"]
    holdout: Literal["test", "validation"] = Field(
        "test",
        description="evaluated on: the test set, or 20 % of the training data left out of training",
    )
    # network
    network: Literal["small", "resnet18"]
    width: int = Field(
        ge=8, le=1024, description="channels of the first stage; below 8, torch 2.14's CPU convolutions corrupt memory"
    )
    # training
    epochs: int = Field(ge=1, description="per task")
    batch_size: int = Field(ge=2)
    lr: float = Field(gt=0)
    drop_last: bool = False
    masked_ce: bool = Field(False, description="current-task-masked cross-entropy on current samples")
    # replay
    buffer_size: int = Field(ge=0, strict=True, description="samples; strict: rules of the profiles look at it")
    replay_batch_size: int = Field(ge=2)
    replay_from_task: int = Field(0, ge=0)
    merge_batches: bool = Field(True, description="ER: one batch (and one batch norm) of current and replayed")
    alpha: float = Field(ge=0, description="DER, DER++: weight of the logits' MSE; LwF: of the distillation")
    beta: float = Field(ge=0, description="DER++, unmerged ER: weight of the replayed cross-entropy")
    engine: Literal["dense", "auto", "sparse"] = Field(
        "dense",
        description="what runs the network: PyTorch's dense layers, kernels for the nonzero weights, or what is faster",
    )
    # other methods
    penalty: float = Field(0.0, ge=0, description="EWC: weight of the quadratic penalty; LPS: of ADMM's")
    gamma: float = Field(1.0, ge=0, description="EWC: decay of the Fisher information from task to task")
    temperature: float = Field(2.0, gt=0, description="LwF: of the distilled probabilities")
    weight_decay: float = Field(0.0, ge=0, description="LwF, iCaRL: weight of |theta|^2 in the loss")

    @model_validator(mode="before")
    @classmethod
    def _fill_from_profile(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        profile = given.get("profile", "lite")
        if profile not in PROFILES:
            raise ValueError(f"profile = {profile!r} is unknown; allowed: {', '.join(PROFILES)}")
        if isinstance(given.get("sparse"), dict):
            given = given | {"sparse": {"kind": "sparcl"} | given["sparse"]}
        return _resolve(profile, given)

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, name: str) -> str:
        if name not in SPECS:
            raise ValueError(f"unknown; allowed: {', '.join(SPECS)}")
        return name

    @model_validator(mode="after")
    def _check_together(self) -> "RunConfig":
        if self.classes % self.tasks:
            raise ValueError(f"tasks = {self.tasks} does not divide the {self.classes} classes of {self.dataset}")
        if self.method in REPLAY_METHODS and self.buffer_size < 2:
            raise ValueError(
                f"buffer_size = {self.buffer_size}, but {self.method!r} replays batches; allowed: 2 or more"
            )
        if self.method == "icarl" and self.buffer_size < self.classes:
            raise ValueError(
                f"buffer_size = {self.buffer_size}: icarl keeps one sample of each of {self.classes} classes"
            )
        if self.sparse and self.method in PACKING_METHODS:
            raise ValueError(f"sparse = {self.sparse.kind!r}: {self.method!r} makes its own masks; switch sparse off")
        if isinstance(self.sparse, SparCL) and self.sparse.ddr and self.epochs * self.sparse.cutoff < 1:
            raise ValueError(f"epochs = {self.epochs} ends before the first removal of DDR; switch ddr off")
        return self

    @property
    def classes(self) -> int:
        """Classes of the data set, which is the width of the head."""
        return len(SPECS[self.dataset].classes)

    def canonical(self) -> dict[str, Any]:
        """Everything that decides the numbers of the run, as plain JSON values.

        Fields at their declared default are left out, so a field added later leaves the keys of old results alone.
        """
        values = self.model_dump(mode="json", exclude={"profile"}, exclude_defaults=True)
        return values | ({"sparse": values["sparse"] | {"kind": self.sparse.kind}} if self.sparse else {})

    @property
    def key(self) -> str:
        """Content address of the run: a hash of the canonical configuration and the schema version."""
        text = json.dumps([SCHEMA_VERSION, self.canonical()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]


@cache
def _rules() -> dict[str, list[dict]]:
    return tomllib.loads(resources.files("sparcl_lite").joinpath("profiles.toml").read_text())


def _lookup(values: dict[str, Any], dotted: str) -> Any:
    for part in dotted.split("."):
        values = values.get(part) if isinstance(values, dict) else getattr(values, part, None)
    return values


def _resolve(profile: str, given: dict[str, Any]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"method": "der++"}
    rules = _rules()
    for rule in rules[profile] + rules["every"]:
        known = defaults | given
        if all(_lookup(known, key) == value for key, value in rule.get("when", {}).items()):
            defaults |= rule["set"]
    filled = defaults | given
    spec = SPECS.get(filled["dataset"]) if isinstance(filled["dataset"], str) else None
    return ({"tasks": spec.tasks} if spec else {"tasks": 1}) | filled


def explain(error: ValidationError) -> str:
    """One line naming the field, the value and what is allowed."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "union_tag_invalid":
        return f"sparse.kind = {first['ctx']['tag']!r}: unknown; allowed: {', '.join(SPARSE_KINDS)}"
    place = [str(part) for part in first["loc"]]
    if place[:1] == ["sparse"]:
        del place[1:2]  # the kind, by which pydantic names the member of the union
    field = ".".join(place)
    message = first["msg"].removeprefix("Value error, ")
    if not field:
        return message
    if first["type"] == "extra_forbidden":
        return f"{field} is not a parameter of this configuration"
    if first["type"] == "missing":
        return f"{field} is missing"
    return f"{field} = {first['input']!r}: {message[0].lower()}{message[1:]}"
