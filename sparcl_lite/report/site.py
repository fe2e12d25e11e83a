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
from sparcl_lite.papers.verdicts import Judged
from sparcl_lite.report import agreement, board, notebooks
from sparcl_lite.report.documents import DATA, judged_at
from sparcl_lite.report.tables import PUBLICATIONS, VERDICTS, verdict_line
from sparcl_lite.runs.store import Store

INTRO = (
    "The papers' tables were trained anew, smaller, on the papers' CIFAR-10 and on Fashion-MNIST, with an interval for "
    "every cell. Each claim has a rule that decides it; here is what came out, by paper."
)
CONTENTS = "\n```{{toctree}}\n:hidden:\n\n{}\n```\n"
PAGES = files("sparcl_lite.report") / "pages"


@dataclass
class Here:
    """What ran on this machine: how, its verdicts, and its cells beside the committed ones."""

    how: str = "Nothing was run on this machine; `make reproduce` does. All pages show what is committed."
    judged: list[Judged] = field(default_factory=list)
    cells: list[agreement.Cell] = field(default_factory=list)
    profile: str = "lite"  # its verdicts stand beside the committed ones of the same data


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
    known = committed(root)
    made_here = {profile: {} for profile in known}
    made_here["desk" if here.profile == "desk" else "lite"] = {
        (e.claim.publication, e.claim.id): e.verdict for e in here.judged
    }
    names = [path.stem for path in notebooks.select(["all"])]
    said = {path.stem: notebooks.about(path) for path in notebooks.select(["all"])}
    listed = [
        {"name": name, "summary": said[name].summary, "run": "run here" if name in executed else ""} for name in names
    ]
    shared = {"papers": PUBLICATIONS, "verdicts": VERDICTS, "data": DATA, "here": bool(here.judged)}
    claims = [
        board.line(entry, names, made_here[profile], profile)
        for paper in PUBLICATIONS
        for profile, entries in known.items()
        for entry in _of(paper, entries)
    ]
    lines = {profile: verdict_line(entries) for profile, entries in known.items()}
    compared, cards = agreement.table(here.cells), [_card(root, paper, known, here) for paper in PUBLICATIONS]
    return {
        "index.md": _filled("index", intro=INTRO, data=DATA, cards=cards),
        "scoreboard.md": _filled("scoreboard", claims=claims, lines=lines, **shared),
        "machine.md": _filled(
            "machine", how=here.how, summary=agreement.summary(here.cells) if here.cells else "",
            table="" if compared.frame.empty else compared.to_markdown(), executed=sorted(executed),
        ),
        "notebooks/index.md": _filled("notebooks", notebooks=listed),
    }  # fmt: skip


@cache
def committed(root: Path) -> dict[str, list[Judged]]:
    """The claims with their verdicts, by the profile of the committed runs that decide them."""
    return {profile: judged_at(Store(root / "results"), profile) for profile in DATA}


def _of(paper: str, entries: list[Judged]) -> list[Judged]:
    return [entry for entry in entries if entry.claim.publication == paper]


def _card(root: Path, paper: str, known: dict[str, list[Judged]], here: Here) -> dict[str, Any]:
    """A paper on the front page: its verdicts by the data of their runs, and its first table's figure, if any."""
    mine = {profile: found for profile, entries in known.items() if (found := _of(paper, entries))}
    made_here = _of(paper, here.judged)
    counts = {profile: Counter(entry.verdict for entry in entries) for profile, entries in mine.items()}
    drawn = {path.stem for path in (root / "figures").glob(f"{paper}_table*.png")}
    notebook = next((name for name in sorted(drawn) if (root / "notebooks" / f"{name}.ipynb").exists()), "")
    return {
        "id": paper,
        "name": PUBLICATIONS[paper],
        "about": import_module(f"sparcl_lite.papers.{paper}").__doc__.splitlines()[0],
        "counts": {profile: {verdict: found[verdict] for verdict in VERDICTS} for profile, found in counts.items()},
        "lines": {profile: verdict_line(entries) for profile, entries in mine.items()},
        "here": verdict_line(made_here) if made_here else "",
        "notebook": notebook,
        "figure": f"{notebook}_desk" if f"{notebook}_desk" in drawn else notebook,
    }


def _filled(template: str, **values: Any) -> str:
    with as_file(PAGES) as pages:
        environment = Environment(loader=FileSystemLoader(pages), undefined=StrictUndefined, autoescape=True)
        environment.filters["slug"] = lambda text: text.replace(" ", "-")
        environment.filters["plain"] = lambda text: text.replace("`", "")
        return environment.get_template(f"{template}.md.j2").render(values) + "\n"
