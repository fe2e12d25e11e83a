"""What a run on cells is, and what it reports: validated, frozen, addressed by content like runs of training."""

import hashlib
import json
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from sparcl_lite.config.base import Frozen, is_stored
from sparcl_lite.config.profiles import PROFILES
from sparcl_lite.registry import CLUSTERERS

SIMULATED = "simulated"

Option = bool | int | float | str | None


class CellsConfig(Frozen):
    """Which cells a run is given: a bundled data set, or simulated ones. The seed is that of everything drawn."""

    profile: Literal[PROFILES] = "lite"
    dataset: Literal["zeisel", "cbmc", "pbmc", "khan", "nci60", "simulated"]
    options: dict[str, Option] = Field({})
    seed: int = Field(0, ge=0, lt=2**31)
    share: float = Field(1.0, gt=0, le=1, description="of the cells, drawn at random, that are taken")
    logs: bool = Field(False, description="log(1 + count per 10,000) of simulated counts, which are raw otherwise")
    cells: int | None = Field(None, ge=20, description="simulated; None: 600")
    genes: int | None = Field(None, ge=50, description="simulated; None: 10,000")
    dropout: float | None = Field(None, ge=0, lt=1, description="simulated, share of zeros; None: 0.8")
    sparse: bool = Field(False, description="simulated, as CSR")

    @model_validator(mode="after")
    def _check_simulated(self) -> Self:
        if self.dataset != SIMULATED:
            for name in ("logs", "cells", "genes", "dropout", "sparse"):
                if getattr(self, name):
                    raise ValueError(f"{name} = {getattr(self, name)}: only for dataset = 'simulated'")
        return self

    def canonical(self) -> dict[str, Any]:
        """Everything that decides the numbers of the run, as plain JSON values; defaults are left out."""
        return self.model_dump(mode="json", exclude={"profile"}, exclude_defaults=True)


def _key(kind: str, version: int, config: CellsConfig) -> str:
    text = json.dumps([kind, version, config.canonical()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


class ClusteringConfig(CellsConfig):
    """One clustering of one data set: method, its options, seed.

    The seed is that of the restarts, of the simulated data and of the subsample. `options` are parameters of the
    method's estimator; what is left out keeps the estimator's default.
    """

    method: str
    registered: dict[str, str] = Field({}, description="identity of what a user registered; filled in by itself")

    @field_validator("method")
    @classmethod
    def _known(cls, name: str, info: ValidationInfo) -> str:
        if not is_stored(info):
            CLUSTERERS.entry(name)
        return name

    @model_validator(mode="before")
    @classmethod
    def _identify(cls, given: Any, info: ValidationInfo) -> Any:
        """What comes from a store keeps the identity that it had."""
        if is_stored(info) or not isinstance(given, dict) or given.get("method") not in CLUSTERERS:
            return given
        identity = CLUSTERERS.entry(given["method"]).identity
        return given | {"registered": {"method": identity} if identity else {}}

    @property
    def key(self) -> str:
        """Content address of the run: a hash of the canonical configuration and the version of its method's numbers."""
        version = CLUSTERERS.entry(self.method).facts.get("schema", 1) if self.method in CLUSTERERS else 1
        return _key("clustering", version, self)


class RecoveryConfig(CellsConfig):
    """One selection of genes on training cells, judged on others; the seed is also that of the split."""

    selector: Literal["k-sparse", "rank-genes-groups", "scgenefit", "highly-variable", "random"]
    n_genes: int = Field(ge=1, description="how many are selected")

    @property
    def key(self) -> str:
        """Content address of the run: a hash of the canonical configuration."""
        return _key("recovery", 1, self)


class Agreement(BaseModel):
    """Labels against the truth, in 0 to 1 (ARI from -0.5): docs/ksparse.md."""

    accuracy: float
    ari: float
    nmi: float


class ClusteringResult(BaseModel):
    """What a clustering run reports; docs/ksparse.md defines each field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: ClusteringConfig
    cells: int
    genes: int
    nonzeros: int
    final: Agreement
    initial: Agreement | None = Field(description="of the labels that the method starts from, where it has such")
    silhouette: float | None
    features: int | None = Field(description="selected; None: the method selects none")
    ranking: list[int] = Field(description="the selected features of the largest weights, up to 200")
    precision: float | None = None
    recall: float | None = None
    details: dict[str, Any] = Field({}, description="of the method: criterion, l1 norm, s chosen by the gap, ...")
    seconds: float = Field(description="wall clock of the fit")
    cpu_seconds: float = Field(description="of all its threads: what a busy machine does not change")
    peak_memory_bytes: int
    environment: dict[str, Any]
    started: str
    finished: str


class RecoveryResult(BaseModel):
    """How well types are told from the selected genes on cells that had no part in the selection, 0 to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: RecoveryConfig
    cells: int
    genes: int
    accuracy: float
    balanced: float = Field(description="the mean over types of the share that is told rightly")
    selected: list[int]
    markers: float | None = Field(description="share of the known markers that is selected, where genes have names")
    precision: float | None = Field(description="simulated: share of the selected genes that truly differ")
    seconds: float = Field(description="wall clock of the selection")
    environment: dict[str, Any]
    started: str
    finished: str
