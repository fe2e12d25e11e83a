"""The report, which is the documentation too: a folder of pages that Sphinx makes of notebooks, docs and the claims."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import nbformat
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from nbformat.v4 import new_markdown_cell

from sparcl_lite.errors import KitError
from sparcl_lite.notebook import notebooks_folder
from sparcl_lite.papers.registry import judged
from sparcl_lite.papers.verdicts import Judged
from sparcl_lite.report import agreement, board, notebooks
from sparcl_lite.report.tables import PUBLICATIONS, VERDICTS, verdict_line
from sparcl_lite.runs.store import Store

INTRO = (
    "The papers' tables were trained anew, at a small size, with an interval for every cell. Each claim has a "
    "rule that decides it; here is what came out, by paper."
)
CONTENTS = "\n```{{toctree}}\n:hidden:\n\n{}\n```\n"
PAGES = files("sparcl_lite.report") / "pages"


@dataclass
class Here:
    """What ran on this machine: how, its verdicts, and its cells beside the committed ones."""

    how: str = "Nothing was run on this machine; `make reproduce` does. All pages show what is committed."
    judged: list[Judged] = field(default_factory=list)
    cells: list[agreement.Cell] = field(default_factory=list)


def build(output: Path, here: Here | None = None) -> Path:
    """Write `output`/report/index.html and its pages; notebooks in `output`/notebooks take the place of committed ones.

    What has not changed since the last call is not made again. Raises `KitError` where Sphinx fails.
    """
    source, executed = output / "site", {path.stem: path for path in (output / "notebooks").glob("*.ipynb")}
    root = notebooks_folder().parent
    texts = _documents(root) | _notebooks(executed) | _generated(root, here or Here(), executed)
    for name, text in texts.items():
        _write(source / name, text)
    shutil.copytree(root / "figures", source / "figures", dirs_exist_ok=True)
    with as_file(PAGES) as pages:
        command = [sys.executable, "-m", "sphinx", "-q", "-j", "2", "-c", pages, "-d", output / "site" / "_build"]
        done = subprocess.run([*command, source, output / "report"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise KitError(f"report = {output / 'report'}: Sphinx failed: {' '.join(done.stderr.split())[-500:]}")
    return output / "report" / "index.html"


def _write(path: Path, text: str) -> None:
    """A file that has not changed keeps its time, so that its page is not made again."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _documents(root: Path) -> dict[str, str]:
    paths = [*sorted((root / "docs").glob("*.md")), root / "CONTRIBUTING.md", root / "CHANGELOG.md"]
    texts = {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in paths}
    texts["docs/index.md"] += CONTENTS.format(
        "\n".join(f"/{name.removesuffix('.md')}" for name in texts if "index" not in name)
    )
    return texts


def _notebooks(executed: dict[str, Path]) -> dict[str, str]:
    return {
        f"notebooks/{path.name}": _page(nbformat.read(executed.get(path.stem, path), as_version=4), path.stem, executed)
        for path in notebooks.select(["all"])
    }


def _page(notebook: nbformat.NotebookNode, name: str, executed: dict[str, Path]) -> str:
    """A notebook as a page: what it is from, a link to download it, and figures with their alternative texts."""
    where = "As run on this machine." if name in executed else "As committed: from the runs in `results/`."
    said = f"{where} {{download}}`Download the notebook <{name}.ipynb>`"
    for number, cell in enumerate(notebook.cells):
        alts = [
            o.metadata.get("image/png", {}).get("alt")
            for o in cell.get("outputs", [])
            if "image/png" in o.get("data", {})
        ]
        if alts:
            cell.metadata["mystnb"] = {"image": {"alt": alts[0] or f"Figure {number} of {name}"}}
        for output in cell.get("outputs", []):
            if text := output.get("data", {}).get("text/html"):
                output["data"]["text/html"] = re.sub(r'(href="\w+)\.ipynb"', r'\1.html"', text)
    notebook.cells.insert(1, new_markdown_cell(said, id="from-where"))
    return nbformat.writes(notebook)


def _generated(root: Path, here: Here, executed: dict[str, Path]) -> dict[str, str]:
    committed = _committed(root)
    made_here = {(e.claim.publication, e.claim.id): e.verdict for e in here.judged}
    names = [path.stem for path in notebooks.select(["all"])]
    said = {path.stem: notebooks.about(path) for path in notebooks.select(["all"])}
    listed = [
        {"name": name, "summary": said[name].summary, "run": "run here" if name in executed else ""} for name in names
    ]
    shared = {"papers": PUBLICATIONS, "verdicts": VERDICTS, "line": verdict_line(committed), "here": bool(here.judged)}
    claims = [board.line(entry, names, made_here) for entry in committed]
    compared, cards = agreement.table(here.cells), [_card(root, paper, committed, here) for paper in PUBLICATIONS]
    return {
        "index.md": _filled("index", intro=INTRO, cards=cards),
        "scoreboard.md": _filled("scoreboard", claims=claims, **shared),
        "machine.md": _filled(
            "machine", how=here.how, summary=agreement.summary(here.cells) if here.cells else "",
            table="" if compared.frame.empty else compared.to_markdown(), executed=sorted(executed),
        ),
        "notebooks/index.md": _filled("notebooks", notebooks=listed),
    }  # fmt: skip


@cache
def _committed(root: Path) -> list[Judged]:
    return judged(Store(root / "results"), profile="lite")


def _card(root: Path, paper: str, committed: list[Judged], here: Here) -> dict[str, Any]:
    mine, made_here = ([e for e in entries if e.claim.publication == paper] for entries in (committed, here.judged))
    counts = Counter(entry.verdict for entry in mine)
    tables = [path.stem for path in sorted((root / "figures").glob(f"{paper}_table*.png"))]
    return {
        "id": paper,
        "name": PUBLICATIONS[paper],
        "about": import_module(f"sparcl_lite.papers.{paper}").__doc__.splitlines()[0],
        "counts": {verdict: counts[verdict] for verdict in VERDICTS},
        "line": verdict_line(mine),
        "here": verdict_line(made_here) if made_here else "",
        "figure": next((name for name in tables if (root / "notebooks" / f"{name}.ipynb").exists()), ""),
    }


def _filled(template: str, **values: Any) -> str:
    with as_file(PAGES) as pages:
        environment = Environment(loader=FileSystemLoader(pages), undefined=StrictUndefined, autoescape=True)
        environment.filters["slug"] = lambda text: text.replace(" ", "-")
        return environment.get_template(f"{template}.md.j2").render(values) + "\n"
