"""The notebooks of the checkout: what each says of itself in its metadata, and which of them run, in which order."""

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict

from sparcl_lite.errors import KitError
from sparcl_lite.notebook import notebooks_folder
from sparcl_lite.report.tables import Table

METADATA = "sparcl_lite"  # the key of a notebook's metadata that holds its `About`


class About(BaseModel):
    """What a notebook says of itself.

    Attributes
    ----------
    summary : what it shows, in one line
    runs : how many runs it shows at one seed
    long : it takes so long that it only runs when named
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    summary: str = ""
    runs: int = 0
    long: bool = False


def about(notebook: Path) -> About:
    """What a notebook says of itself; the defaults where it says nothing."""
    return About.model_validate(json.loads(notebook.read_text(encoding="utf-8"))["metadata"].get(METADATA, {}))


def select(names: Iterable[str]) -> list[Path]:
    """The notebooks of those names; all but the long ones when none is named; `all` means all.

    Raises `KitError` on an unknown name.
    """
    available = {path.stem: path for path in sorted(notebooks_folder().glob("*.ipynb"))}
    chosen = list(names) or [name for name, path in available.items() if not about(path).long]
    if chosen == ["all"]:
        chosen = list(available)
    for name in chosen:
        if name not in available:
            raise KitError(f"notebook = {name!r}: unknown; allowed: all, {', '.join(available)}")
    return sorted((available[name] for name in chosen), key=_order)


def _order(path: Path) -> tuple:
    """The quick one first: who waits sees a result within a minute. The claims last: they judge the others' runs."""
    return path.stem != "quickstart", path.stem == "claims", path.stem


def listing() -> Table:
    """Every notebook with its summary, for a page in `docs/`."""
    lines = [
        {
            "notebook": f"[{path.stem}](../notebooks/{path.name})" + (" (long)" if said.long else ""),
            "shows": said.summary,
            "runs a seed": said.runs,
        }
        for path, said in ((path, about(path)) for path in select(["all"]))
    ]
    return Table(pd.DataFrame(lines))
