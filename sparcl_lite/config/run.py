"""`RunConfig`: everything that decides the numbers of a training run."""

import hashlib
import json
from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from sparcl_lite.config.base import Frozen
from sparcl_lite.config.lightcl import LightCL
from sparcl_lite.config.networks import ARCHITECTURES, UNFROZEN, boundaries
from sparcl_lite.config.profiles import PROFILES, resolve
from sparcl_lite.config.sparse import AnySparse, SparCL
from sparcl_lite.data.specs import SPECS

SCHEMA_VERSION = 2  # part of every key: raise it when the same configuration, or a default, would give other numbers
VERSIONS = {"lightcl": 3, "sparcl": 3, "rigl": 3}  # the same for one method, or one kind of sparse training, alone
REPLAY_METHODS = ("agem", "icarl", "fdr", "er", "der", "der++", "lightcl")
SHARING_METHODS = ("agem", "fdr")  # that replay an equal share of the buffer for each task
METHODS = ("sgd", "joint", "ewc", "lwf", "packnet", "lps", "pnn", *REPLAY_METHODS)
PACKING_METHODS = ("packnet", "lps")
TASK_AWARE_METHODS = (*PACKING_METHODS, "pnn")
FREEZING_METHODS = ("sgd", "er", "lightcl")
DENSE_METHODS = (*PACKING_METHODS, "pnn", "lightcl")  # that no sparse strategy goes with
SPARSE = TypeAdapter(AnySparse)
MIN_CHANNELS = 8  # with fewer, torch 2.14's CPU convolutions corrupt memory

Count = Annotated[int, Field(ge=1)]


class RunConfig(Frozen):
    """One training run: data, network, method, sparsity and seed. Fields left open come from `profile`."""

    profile: Literal[PROFILES] = "lite"
    dataset: str
    method: Literal[METHODS] = "der++"
    sparse: AnySparse | None = None
    seed: int = Field(0, ge=0, lt=2**31)
    # data
    tasks: Count | tuple[Count, ...] = Field(description="equal ones, or the number of classes of each: [4, 3, 3]")
    images_per_class: int = Field(ge=0, description="training images a class; 0 means all")
    class_order: Literal["native", "shuffled"]
    holdout: Literal["test", "validation"] = Field(
        "test",
        description="evaluated on: the test set, or 20 % of the training data left out of training",
    )
    # network
    network: Literal["small", "resnet18"]
    width: int = Field(
        ge=MIN_CHANNELS, le=1024, description="channels of the first stage; with fewer, CPU convolutions go wrong"
    )
    freeze: str = Field(
        UNFROZEN, description="the last block that does not train after the first task: none, stem, layer1, ..."
    )
    freeze_first_task: bool = Field(False, description="whether these blocks do not train in the first task either")
    frozen_norm: Literal["eval", "train"] = Field(
        "eval", description="batch norm of frozen blocks: running statistics, or those of the batch"
    )
    # pre-training
    pretraining: Literal["none", "disjoint", "cifar100"] = Field(
        "none", description="on classes of the same data set that the stream then lacks, or on CIFAR-100"
    )
    pretraining_classes: int = Field(0, ge=0, description="disjoint: the first so many classes are no task's")
    pretraining_epochs: int = Field(10, ge=0, description="0: the classes are left out, and nothing is trained")
    pretraining_lr: float = Field(0.05, gt=0)
    # training
    epochs: int = Field(ge=1, description="per task")
    batch_size: int = Field(ge=2)
    lr: float = Field(gt=0)
    drop_last: bool = Field(False, description="skip an epoch's last batch where it is smaller than the others")
    even_batches: bool = Field(False, description="no smaller last batch: an epoch's batches are all of one size")
    masked_ce: bool = Field(False, description="current-task-masked cross-entropy on current samples")
    # replay
    buffer_size: int = Field(ge=0, strict=True, description="samples; strict: rules of the profiles look at it")
    replay_batch_size: int = Field(ge=2)
    replay_from_task: int = Field(0, ge=0)
    merge_batches: bool = Field(True, description="ER: one batch (and one batch norm) of current and replayed")
    alpha: float = Field(ge=0, description="DER, DER++: weight of the logits' MSE; LwF: of the distillation")
    beta: float = Field(ge=0, description="DER++, unmerged ER: weight of the replayed CE; LightCL: of what is held")
    engine: Literal["dense", "auto", "sparse"] = Field(
        "dense",
        description="what runs the network: PyTorch's dense layers, kernels for the nonzero weights, or what is faster",
    )
    # other methods
    penalty: float = Field(0.0, ge=0, description="EWC: weight of the quadratic penalty; LPS: of ADMM's")
    gamma: float = Field(1.0, ge=0, description="EWC: decay of the Fisher information from task to task")
    temperature: float = Field(2.0, gt=0, description="LwF: of the distilled probabilities")
    weight_decay: float = Field(0.0, ge=0, description="LwF, iCaRL: weight of |theta|^2 in the loss")
    lightcl: LightCL = LightCL()

    @classmethod
    def _filled(cls, given: dict[str, Any]) -> dict[str, Any]:
        profile = given.get("profile", "lite")
        if profile not in PROFILES:
            raise ValueError(f"profile = {profile!r} is unknown; allowed: {', '.join(PROFILES)}")
        if isinstance(given.get("sparse"), dict):
            given = given | {"sparse": {"kind": "sparcl"} | given["sparse"]}
            with suppress(ValidationError):  # told with the field's place when the field itself is validated
                given["sparse"] = SPARSE.validate_python(given["sparse"])
        return resolve(profile, given)

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, name: str) -> str:
        if name not in SPECS:
            raise ValueError(f"unknown; allowed: {', '.join(SPECS)}")
        return name

    @field_validator("tasks", mode="wrap")
    @classmethod
    def _equal_or_listed(cls, given: Any, check: ValidatorFunctionWrapHandler) -> int | tuple[int, ...]:
        """A list of equal tasks is the same run as their number; `4,3,3` is how a command line lists them."""
        try:
            tasks = check(given.split(",") if isinstance(given, str) and "," in given else given)
        except ValidationError:
            allowed = "a number of tasks, or the classes of each, e.g. [4, 3, 3]; all of them 1 or more"
            raise ValueError(f"allowed: {allowed}") from None
        return len(tasks) if isinstance(tasks, tuple) and len(set(tasks)) == 1 else tasks

    @model_validator(mode="after")
    def _check_together(self) -> "RunConfig":
        if self.classes < 1 or sum(self.task_classes) != self.classes:
            said = f"{self.tasks} does not divide the {self.classes} classes of {self.dataset}"
            if isinstance(self.tasks, tuple):
                said = f"{list(self.tasks)} has {sum(self.tasks)} classes, not the {self.classes} of {self.dataset}"
            allowed = f"a divisor of {self.classes}, or numbers of classes that add up to it"
            raise ValueError(f"tasks = {said}; allowed: {allowed}")
        if self.drop_last and self.even_batches:
            raise ValueError("drop_last = True: with even_batches there is no smaller batch to drop; switch one off")
        if self.method in REPLAY_METHODS and self.buffer_size < 2:
            raise ValueError(
                f"buffer_size = {self.buffer_size}, but {self.method!r} replays batches; allowed: 2 or more"
            )
        if self.method in SHARING_METHODS and self.buffer_size < 2 * self.task_count:
            share, needed = self.buffer_size // self.task_count, 2 * self.task_count
            raise ValueError(
                f"buffer_size = {self.buffer_size}: {self.method} keeps {share} samples of each of {self.task_count} "
                f"tasks, and batch norm needs 2; allowed: {needed} or more"
            )
        if self.method == "icarl" and self.buffer_size < self.classes:
            raise ValueError(
                f"buffer_size = {self.buffer_size}: icarl keeps one sample of each of {self.classes} classes"
            )
        return self

    @model_validator(mode="after")
    def _check_sparse(self) -> "RunConfig":
        if self.sparse and self.method in DENSE_METHODS:
            raise ValueError(f"sparse = {self.sparse.kind!r}: {self.method!r} has its own ways; switch sparse off")
        if isinstance(self.sparse, SparCL) and self.sparse.ddr and self.epochs * self.sparse.cutoff < 1:
            raise ValueError(f"epochs = {self.epochs} ends before the first removal of DDR; switch ddr off")
        return self

    @model_validator(mode="after")
    def _check_frozen(self) -> "RunConfig":
        allowed = boundaries(self.network)
        if self.freeze not in allowed:
            raise ValueError(f"freeze = {self.freeze!r}: unknown in {self.network}; allowed: {', '.join(allowed)}")
        if self.freeze == UNFROZEN:
            return self
        if self.method not in FREEZING_METHODS:
            raise ValueError(f"freeze = {self.freeze!r}: allowed with {', '.join(FREEZING_METHODS)} only")
        if self.sparse or self.engine != "dense":
            raise ValueError(f"freeze = {self.freeze!r} needs dense layers: switch sparse off, and engine to dense")
        return self

    @model_validator(mode="after")
    def _check_pretraining(self) -> "RunConfig":
        if (self.pretraining == "disjoint") != bool(self.pretraining_classes):
            raise ValueError(
                f"pretraining_classes = {self.pretraining_classes} with pretraining = {self.pretraining!r}; "
                f"allowed: above 0 with disjoint, 0 otherwise"
            )
        if self.pretraining == "cifar100" and self.dataset != "cifar10":
            raise ValueError("pretraining = 'cifar100' is for dataset = 'cifar10'; allowed here: none, disjoint")
        return self

    @model_validator(mode="after")
    def _check_pruning(self) -> "RunConfig":
        if self.method != "lightcl" or not self.lightcl.prune:
            return self
        stages = len(ARCHITECTURES[self.network]["blocks"])
        if len(self.lightcl.prune) != stages:
            raise ValueError(
                f"lightcl.prune has {len(self.lightcl.prune)} shares; allowed: one for each of {stages} stages"
            )
        if min(self.kept_channels) < MIN_CHANNELS:
            raise ValueError(
                f"lightcl.prune leaves {min(self.kept_channels)} of a stage's channels; allowed: {MIN_CHANNELS} or more"
            )
        return self

    @property
    def classes(self) -> int:
        """Classes of the stream, which is the width of the head."""
        return len(SPECS[self.dataset].classes) - self.pretraining_classes

    @property
    def task_classes(self) -> tuple[int, ...]:
        """Classes of each task, in order."""
        return (self.classes // self.tasks,) * self.tasks if isinstance(self.tasks, int) else self.tasks

    @property
    def task_count(self) -> int:
        """Tasks of the stream."""
        return len(self.task_classes)

    @property
    def stage_widths(self) -> tuple[int, ...]:
        """Channels of each stage, before any pruning."""
        return tuple(self.width * 2**stage for stage in range(len(ARCHITECTURES[self.network]["blocks"])))

    @property
    def kept_channels(self) -> tuple[int, ...]:
        """Channels that LightCL's pruning leaves in each stage."""
        if self.method != "lightcl" or not self.lightcl.prune:
            return self.stage_widths
        extra = self.lightcl.extra_channel
        shares = zip(self.stage_widths, self.lightcl.prune, strict=True)
        return tuple(min(width, int(width * (1 - share) + 0.5) + extra) for width, share in shares)

    def boundary(self, task: int) -> str:
        """The last block that does not train in this task (counted from 0)."""
        if task > 0 or self.freeze == UNFROZEN:
            return self.freeze
        if not self.freeze_first_task:
            return UNFROZEN
        recovers = self.method == "lightcl" and self.lightcl.prune and self.lightcl.recover
        allowed = boundaries(self.network)
        return allowed[allowed.index(self.freeze) - bool(recovers)]

    def canonical(self) -> dict[str, Any]:
        """Everything that decides the numbers of the run, as plain JSON values.

        Fields at their declared default are left out, so a field added later leaves the keys of old results alone.
        """
        values = self.model_dump(mode="json", exclude={"profile"}, exclude_defaults=True)
        return values | ({"sparse": values["sparse"] | {"kind": self.sparse.kind}} if self.sparse else {})

    @property
    def key(self) -> str:
        """Content address of the run: a hash of the canonical configuration and the schema version."""
        parts = (self.method, self.sparse and self.sparse.kind)
        version = max(VERSIONS.get(part, SCHEMA_VERSION) for part in parts)
        text = json.dumps([version, self.canonical()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]
