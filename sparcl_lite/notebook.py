"""What a notebook needs beyond its thin cells: checked parameters, its store, and one place for its figures."""

from pathlib import Path
from types import ModuleType
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sparcl_lite.config import explain
from sparcl_lite.errors import KitError
from sparcl_lite.store import Store

HIDDEN = {"In", "Out", "exit", "quit", "get_ipython", "open"}


class NotebookParameters(BaseModel):
    """Parameters that every notebook has; each notebook adds its own fields.

    Attributes
    ----------
    profile : size of the runs: smoke, lite or paper
    dataset : empty for the profile's own
    seeds : at most so many runs per row (rows that decide no claim have fewer)
    store : folder where runs made here are kept
    evidence : folder of committed results that is looked into first; empty to make every run here
    scheduler : address of a Dask scheduler; empty for this machine
    figures : folder for figures and their points
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    profile: str = "lite"
    dataset: str = ""
    seeds: int = Field(10, ge=1)
    store: str = "../build/store"
    evidence: str = "../results"
    scheduler: str = ""
    figures: str = "../build/figures"

    @classmethod
    def checked(cls, namespace: dict[str, Any]) -> Self:
        """The parameters as the notebook's cells so far (and papermill) set them.

        Raises `KitError` on an unknown name, where papermill only warns, and on a wrong type or value.
        """
        try:
            return cls(**plain_values(namespace))
        except ValidationError as error:
            allowed = ", ".join(cls.model_fields)
            raise KitError(f"{explain(error)} (parameters here: {allowed})") from None

    def shared(self) -> dict[str, Any]:
        """What all runs of the notebook have in common."""
        return {"profile": self.profile} | ({"dataset": self.dataset} if self.dataset else {})

    def open_store(self) -> Store:
        """The store of the notebook's runs, with the committed evidence in front of it."""
        return Store(self.store, *([self.evidence] if self.evidence else []))

    def run(self, experiment) -> Any:
        """Results of an experiment as a DataFrame; what is missing is trained."""
        return experiment.run(seeds=self.seeds, store=self.open_store(), scheduler=self.scheduler or None)


def plain_values(namespace: dict[str, Any]) -> dict[str, Any]:
    """The plain values (numbers, texts, lists, ...) among the public names of a notebook."""
    return {
        name: value
        for name, value in namespace.items()
        if not name.startswith("_") and name not in HIDDEN and not isinstance(value, ModuleType) and not callable(value)
    }


def notebooks_folder() -> Path:
    """The folder of notebooks of the checkout this package runs from. Raises `KitError` when there is none."""
    folder = Path(__file__).parent.parent / "notebooks"
    if not folder.is_dir():
        raise KitError(f"notebooks = {folder}: not there; run from a checkout of the project (pip install -e .)")
    return folder
