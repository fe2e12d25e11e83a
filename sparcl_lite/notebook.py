"""What a notebook needs beyond its thin cells: checked parameters, its store, and one place for its figures."""

import ast
import os
import sys
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from sparcl_lite.config import explain
from sparcl_lite.errors import KitError
from sparcl_lite.paths import folder
from sparcl_lite.plugins import load
from sparcl_lite.runs.store import Store

INTERRUPTED = "stopped; a run that was on keeps its last epoch, and goes on from it when the cell runs again"
INJECTED = "# Parameters\n"  # how the cell begins in which papermill sets parameters


#: Folders of the committed notebooks, relative to theirs: those of the checkout, wherever a kernel runs.
STORE, EVIDENCE, FIGURES = "../build/store", "../results", "../build/figures"


def _placed(given: str) -> str:
    """An absolute folder. A kernel in the checkout or in its notebooks' folder has the same relative ones."""
    home = _home()
    if home and (given in (STORE, EVIDENCE, FIGURES) or Path.cwd() in (home, home.parent)):
        return os.path.normpath(home / folder(given))
    return os.path.abspath(folder(given))


def _evidence(given: str) -> str:
    place = given and _placed(given)
    if place and not Path(place).is_dir():
        raise ValueError(f"no folder is at {place}; allowed: a folder of results, or nothing to make every run here")
    return place


Folder = Annotated[str, AfterValidator(lambda given: given and _placed(given))]
Evidence = Annotated[str, AfterValidator(_evidence)]


def _listed(given: Any) -> Any:
    """A list, also where papermill's `-p` gives it as text, or one name alone."""
    if not isinstance(given, str):
        return given
    return ast.literal_eval(given) if given.startswith("[") else [given] * bool(given)


class NotebookParameters(BaseModel):
    """Parameters that every notebook has; each notebook adds its own fields.

    Attributes
    ----------
    profile : size of the runs: smoke, lite, desk or paper
    dataset : empty for the profile's own
    seeds : at most so many runs per row (rows that decide no claim have fewer)
    store : folder where runs made here are kept
    evidence : folder of committed results that is looked into first; empty to make every run here
    scheduler : address of a Dask scheduler; empty for this machine
    figures : folder for figures and their points
    plugins : files or modules that register names, imported first
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    profile: str = "lite"
    dataset: str = ""
    seeds: int = Field(10, ge=1)
    store: Folder = Field(default_factory=lambda: _placed(STORE))
    evidence: Evidence = Field(default_factory=lambda: place if Path(place := _placed(EVIDENCE)).is_dir() else "")
    scheduler: str = ""
    figures: Folder = Field(default_factory=lambda: _placed(FIGURES))
    plugins: Annotated[list[str], BeforeValidator(_listed)] = []

    @classmethod
    def checked(cls, namespace: dict[str, Any]) -> Self:
        """The parameters as the notebook's cells (and papermill) have set them last; `namespace` is its `globals()`.

        Raises `KitError` on an unknown name, where papermill only warns, and on a wrong type or value. Names that the
        rest of the notebook makes are no parameters, so that it may run again in the same kernel.
        """
        allowed = ", ".join(cls.model_fields)
        for name in names_set(namespace.get("In", []), cls.model_fields):
            if name not in cls.model_fields:
                raise KitError(f"{name} is not a parameter (parameters here: {allowed})")
        in_one_line(ValidationError, KeyboardInterrupt)
        load(_listed(namespace.get("plugins", [])))
        try:
            return cls(**{name: namespace[name] for name in cls.model_fields if name in namespace})
        except ValidationError as error:
            raise KitError(f"{explain(error)} (parameters here: {allowed})") from None

    def shared(self) -> dict[str, Any]:
        """What all runs of the notebook have in common."""
        return {"profile": self.profile} | ({"dataset": self.dataset} if self.dataset else {})

    def open_store(self) -> Store:
        """The store of the notebook's runs, with the committed evidence in front of it."""
        return Store(self.store, *([self.evidence] if self.evidence else []))

    def measured(self) -> Store:
        """Benchmarks: those of this machine's store, else the committed ones; no notebook makes any."""
        return Store(_placed(EVIDENCE), self.store)

    def committed(self, experiment) -> Any:
        """All committed results of an experiment as a DataFrame, whatever the parameters say; nothing is trained."""
        from sparcl_lite.papers.registry import ALL_SEEDS

        return experiment.stored(seeds=ALL_SEEDS, store=Store(_placed(EVIDENCE)))

    def run(self, experiment) -> Any:
        """Results of an experiment as a DataFrame; what is missing is trained.

        Progress says first which runs are stored, since when, and how long the others will take.
        """
        from sparcl_lite.runs.forecast import forecast

        store = self.open_store()
        said = forecast(experiment.jobs(seeds=self.seeds), store, Store(_placed(EVIDENCE)))
        print(f"{experiment.name}: {said}", file=sys.stderr)
        runs = experiment.run(seeds=self.seeds, store=store, scheduler=self.scheduler or None)
        for line in experiment.left_out(runs):
            print(line, file=sys.stderr)
        return runs


def in_one_line(*errors: type[BaseException]) -> None:
    """A notebook shows these errors in one line, in place of the calls that led to them."""
    if "IPython" not in sys.modules or not (shell := sys.modules["IPython"].get_ipython()):
        return

    def show(shell, kind, error, traceback, tb_offset=None) -> list[str]:
        text = explain(error) if isinstance(error, ValidationError) else INTERRUPTED
        lines = [f"{kind.__name__}: {text}"]
        shell._showtraceback(kind, error, lines)
        return lines

    shell.set_custom_exc(errors, show)


def names_set(cells: Sequence[str], known: Container[str]) -> list[str]:
    """Names given by the parameters cell executed last, the last of `cells` that sets a known one, and by papermill's.

    `cells` are the sources of all executed cells, in order: `In` of a kernel.
    """
    names: list[str] = []
    for source in reversed(cells):
        found, injected = _plain_names(source), source.startswith(INJECTED)
        sets_known = any(name in known for name in found)
        if injected or sets_known:
            names = found + names
        if sets_known and not injected:
            break
    return names


def _plain_names(source: str) -> list[str]:
    """Names that a cell gives literal values, as parameters have, and not what it computes, loops over or defines."""
    try:
        lines = ast.parse(source).body
    except SyntaxError:
        return []
    return [
        target.id
        for line in lines
        if isinstance(line, ast.Assign | ast.AnnAssign) and _is_literal(line.value)
        for target in getattr(line, "targets", None) or [line.target]
        if isinstance(target, ast.Name)
    ]


def _is_literal(value: ast.expr | None) -> bool:
    try:
        ast.literal_eval(value)
    except (TypeError, ValueError):
        return False
    return True


def notebooks_folder() -> Path:
    """The folder of notebooks of the checkout this package runs from. Raises `KitError` when there is none."""
    if place := _home():
        return place
    raise KitError("notebooks: not there; run from a checkout of the project (pip install -e .)")


def _home() -> Path | None:
    place = Path(__file__).parent.parent / "notebooks"
    return place if place.is_dir() else None
