"""`RunConfig`: everything that decides the numbers of a training run."""

from contextlib import suppress
from types import SimpleNamespace
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from sparcl_lite.config.base import AnySparse, Frozen, is_looked_up, is_stored, sparse_of
from sparcl_lite.config.clfd import SWITCH, Switch
from sparcl_lite.config.key import key_of
from sparcl_lite.config.profiles import PROFILES, resolve
from sparcl_lite.registry import DATASETS, METHODS, OF_FIELD, STRATEGIES, entries_of

UNFROZEN = "none"  # as the boundary of freezing: every block trains
MIN_CHANNELS = 8  # with fewer, torch 2.14's CPU convolutions corrupt memory

Count = Annotated[int, Field(ge=1)]


class RunConfig(Frozen):
    """One training run: data, network, method, sparsity and seed. Fields left open come from `profile`.

    The fields of the method's own (its `Parameters`, e.g. `alpha` of DER++) stand beside these: they are given, read
    and printed alike.
    """

    model_config = ConfigDict(extra="allow")

    profile: Literal[PROFILES] = "lite"
    dataset: str
    method: str = "der++"
    sparse: AnySparse | None = None
    seed: int = Field(0, ge=0, lt=2**31)
    # data
    tasks: Count | tuple[Count, ...] = Field(description="equal ones, or the number of classes of each: [4, 3, 3]")
    images_per_class: int = Field(ge=0, description="training images a class; 0 means all")
    class_order: Literal["native", "shuffled"]
    holdout: Literal["test", "validation"] = Field(
        "test", description="evaluated on: the test set, or 20 % of the training data left out of training"
    )
    # network
    network: str
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
    clfd: Switch = Field(None, description="CLFD's encoder and selection: true for its defaults, or its fields")
    engine: Literal["dense", "auto", "sparse"] = Field(
        "dense",
        description="what runs the network: PyTorch's dense layers, kernels for the nonzero weights, or what is faster",
    )
    registered: dict[str, str] = Field({}, description="identity of what a user registered; filled in by itself")

    @classmethod
    def _filled(cls, given: dict[str, Any], stored: bool) -> dict[str, Any]:
        profile = given.get("profile", "lite")
        if profile not in PROFILES:
            raise ValueError(f"profile = {profile!r} is unknown; allowed: {', '.join(PROFILES)}")
        if stored:
            return cls._as_stored(given)
        given = {"method": cls.model_fields["method"].default} | given
        if isinstance(given.get("sparse"), dict):  # as rules of the profiles look at it
            with suppress(ValueError):  # told with the field's place when the field itself is validated
                given["sparse"] = sparse_of(given["sparse"])
        if given.get("clfd") is not None:
            with suppress(ValueError):
                given["clfd"] = SWITCH.validate_python(given["clfd"])
        filled = resolve(profile, given)
        own = METHODS[filled["method"]].Parameters
        if unknown := [name for name in given if name not in cls.model_fields | own.model_fields]:
            raise ValueError(_unknown(unknown[0], filled["method"]))
        values = own.model_validate({name: filled[name] for name in own.model_fields if name in filled})
        common = {name: value for name, value in filled.items() if name in cls.model_fields}
        return common | dict(values) | {"registered": _identities(filled)}

    @classmethod
    def _as_stored(cls, given: dict[str, Any]) -> dict[str, Any]:
        """What a store holds, without fields of other methods, which older versions wrote for every run."""
        if given.get("method") not in METHODS:
            return given
        own = METHODS[given["method"]].Parameters
        values = own.model_validate({name: given[name] for name in own.model_fields if name in given})
        return {name: value for name, value in given.items() if name in cls.model_fields} | dict(values)

    @field_validator("dataset", "method", "network")
    @classmethod
    def _known(cls, name: str, info: ValidationInfo) -> str:
        if not is_stored(info):
            OF_FIELD[info.field_name].entry(name)
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
    def _check_together(self, info: ValidationInfo) -> "RunConfig":
        if is_stored(info):
            return self
        if self.classes < 1 or sum(self.task_classes) != self.classes:
            said = f"{self.tasks} does not divide the {self.classes} classes of {self.dataset}"
            if isinstance(self.tasks, tuple):
                said = f"{list(self.tasks)} has {sum(self.tasks)} classes, not the {self.classes} of {self.dataset}"
            allowed = f"a divisor of {self.classes}, or numbers of classes that add up to it"
            raise ValueError(f"tasks = {said}; allowed: {allowed}")
        if self.drop_last and self.even_batches:
            raise ValueError("drop_last = True: with even_batches there is no smaller batch to drop; switch one off")
        self._check_pretraining()
        self._check_clfd()
        if is_looked_up(info):
            return self
        METHODS[self.method].check(self)
        if self.sparse:
            STRATEGIES[self.sparse.kind].check(self)
        return self

    def _check_pretraining(self) -> None:
        if (self.pretraining == "disjoint") != bool(self.pretraining_classes):
            raise ValueError(
                f"pretraining_classes = {self.pretraining_classes} with pretraining = {self.pretraining!r}; "
                f"allowed: above 0 with disjoint, 0 otherwise"
            )
        if self.pretraining == "cifar100" and self.dataset != "cifar10":
            raise ValueError("pretraining = 'cifar100' is for dataset = 'cifar10'; allowed here: none, disjoint")

    def _check_clfd(self) -> None:
        if not self.clfd:
            return
        replaying = sorted(m for m in METHODS if METHODS[m].uses_buffer and METHODS[m].fills_each_step)
        if self.method not in replaying:
            raise ValueError(f"clfd: {self.method!r} does not replay a reservoir; allowed: {', '.join(replaying)}")
        for field in ("freeze", "pretraining"):
            if getattr(self, field) != "none":
                raise ValueError(f"clfd: with {field} = {getattr(self, field)!r}; allowed: none")
        _, rows, columns = DATASETS[self.dataset].shape
        if rows % 2 or columns % 2:
            raise ValueError(f"clfd: images of {self.dataset} are {rows} x {columns}; allowed: even sizes")

    @property
    def classes(self) -> int:
        """Classes of the stream, which is the width of the head."""
        return len(DATASETS[self.dataset].classes) - self.pretraining_classes

    @property
    def task_classes(self) -> tuple[int, ...]:
        """Classes of each task, in order."""
        return (self.classes // self.tasks,) * self.tasks if isinstance(self.tasks, int) else self.tasks

    @property
    def task_count(self) -> int:
        """Tasks of the stream."""
        return len(self.task_classes)

    @property
    def own(self) -> dict[str, Any]:
        """The fields of the method's own."""
        return dict(self.model_extra or {})

    @property
    def key(self) -> str:
        """Content address of the run: a hash of all that decides its numbers."""
        return key_of(self)


def _unknown(name: str, method: str) -> str:
    """What is said of a field that neither every run nor this method has."""
    others = [other for other in METHODS if name in METHODS[other].Parameters.model_fields]
    if others:
        return f"{name} is not a parameter of {method}; allowed with {', '.join(others)}"
    return f"{name} is not a parameter of this configuration"


def _identities(filled: dict[str, Any]) -> dict[str, str]:
    """The identity of each part of a run that a user registered, by the name of its field."""
    found = entries_of(SimpleNamespace(**dict.fromkeys(OF_FIELD) | filled))
    return {field: entry.identity for field, entry in found.items() if entry.identity}
