"""Executes notebooks with papermill and gathers them, with the scoreboard of claims, in one folder of HTML pages."""

import html
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat

from sparcl_lite.errors import KitError
from sparcl_lite.notebook import notebooks_folder
from sparcl_lite.report import agreement, documents
from sparcl_lite.report.notebooks import METADATA
from sparcl_lite.report.tables import Table

TIMEOUT_SECONDS = None  # a cell trains for as long as it needs


def parameters_of(notebook: Path) -> set[str]:
    """Names that the notebook's parameters cell sets."""
    import papermill  # slow to import, and needed here alone

    return set(papermill.inspect_notebook(str(notebook)))


def execute(notebook: Path, output: Path, parameters: dict[str, Any]) -> Path:
    """Run a notebook headless, in its own folder, and write it with its outputs. Raises `KitError` if a cell fails."""
    import papermill

    _check_names(notebook, parameters)
    output.parent.mkdir(parents=True, exist_ok=True)
    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            papermill.execute_notebook(
                str(notebook),
                str(output),
                parameters=parameters,
                cwd=str(notebook.parent),
                progress_bar=False,
                stderr_file=sys.stderr,  # the progress of its runs, live
                execution_timeout=TIMEOUT_SECONDS,
                extra_arguments=["--IPKernelApp.log_level=ERROR"],  # not its warning about local connections
            )
    except papermill.PapermillExecutionError as error:
        raise KitError(f"{notebook.stem}: {_reason(error)}") from None
    return output


def _check_names(notebook: Path, parameters: Iterable[str]) -> None:
    known = parameters_of(notebook)
    for name in parameters:
        if name not in known:
            raise KitError(f"{notebook.stem}: {name} is not a parameter; allowed: {', '.join(sorted(known))}")


def _reason(error: Any) -> str:
    """What stopped a notebook, in one line; of pydantic's text, which comes from another process, the essence."""
    text = " ".join(error.evalue.split())
    if error.ename == "KitError":
        return text
    if found := re.search(r" for \w+ (\S+) (.*?) \[type=\w+, input_value=(.*?), input_type=", text):
        field, allowed, value = found.groups()
        return f"{field} = {value}: {allowed[0].lower()}{allowed[1:]}"
    return f"{error.ename}: {text}"


def reproduce(notebooks: list[Path], folder: Path, common: dict[str, Any], chosen: dict[str, Any]) -> list[Path]:
    """Execute every notebook into `folder`/report and write each as HTML; returns the HTML pages.

    Every notebook gets those of the `common` parameters that it has, and all of the `chosen` ones.
    """
    pages = []
    for notebook in notebooks:  # before the first of them trains
        _check_names(notebook, chosen)
    for number, notebook in enumerate(notebooks, start=1):
        print(f"[{number}/{len(notebooks)}] {notebook.stem}", file=sys.stderr)
        known = parameters_of(notebook)
        parameters = {name: value for name, value in common.items() if name in known} | chosen
        executed = execute(notebook, folder / "report" / notebook.name, parameters)
        nbformat.write(_tidy(nbformat.read(executed, as_version=4)), executed)
        pages.append(_to_html(executed))
    return pages


def render(notebooks: list[Path]) -> None:
    """Execute the committed notebooks in place, with their own parameters, from the committed results.

    Their figures go to `figures/`, and the generated blocks of README.md and docs/ are written anew.
    """
    root = notebooks_folder().parent
    figures = root / "figures"
    documents.render(root)
    for notebook in notebooks:
        executed = execute(notebook, notebook, {"figures": os.path.relpath(figures, notebook.parent)})
        nbformat.write(_tidy(nbformat.read(executed, as_version=4)), executed)


def _tidy(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook without what papermill adds and without progress bars, as it is committed."""
    notebook.metadata = {k: v for k, v in notebook.metadata.items() if k in ("kernelspec", "language_info", METADATA)}
    notebook.cells = [c for c in notebook.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    for cell in notebook.cells:
        tags = [tag for tag in cell.metadata.get("tags", []) if tag == "parameters"]
        cell.metadata = {"tags": tags} if tags else {}
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    for count, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1):
        cell.execution_count = count
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
    return notebook


def _to_html(notebook: Path) -> Path:
    from nbconvert import HTMLExporter

    body, _ = HTMLExporter(template_name="lab", embed_images=True).from_filename(str(notebook))
    page = notebook.with_suffix(".html")
    page.write_text(body, encoding="utf-8")
    return page


def write_index(
    folder: Path,
    pages: list[Path],
    scoreboard: Table,
    verdicts: str,
    how: str,
    cells: list[agreement.Cell],
    committed: Table | None = None,
) -> Path:
    """`report/index.html`: scoreboard of claims, link to every notebook, and how this machine's cells agree.

    The cells are in `report/agreement.json` too. `committed` is a scoreboard of the runs that come with the checkout.
    """
    agreement.write(cells, folder / "report" / "agreement.json")
    compared = agreement.table(cells)
    differing = "" if compared.frame.empty else compared._repr_html_()
    papers_data = f"<h2>On the papers' own data</h2>{committed._repr_html_()}" if committed else ""
    links = "".join(f'<li><a href="{html.escape(page.name)}">{html.escape(page.stem)}</a></li>' for page in pages)
    index = folder / "report" / "index.html"
    index.write_text(
        f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>sparcl_lite: reproduction report</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; font-size: 13px }} th, td {{ padding: .35rem .6rem; border-bottom: 1px solid #ddd;
text-align: left; vertical-align: top }} caption {{ text-align: left; color: #666; padding: .4rem 0 }}
</style></head><body>
<h1>sparcl_lite: reproduction report</h1>
<p>{html.escape(how)}</p>
<h2>Claims: {html.escape(verdicts)}</h2>
{scoreboard._repr_html_()}
{papers_data}
<h2>Against the committed runs: {html.escape(agreement.summary(cells))}</h2>
{differing}
<h2>Notebooks</h2><ul>{links}</ul>
</body></html>
""",
        encoding="utf-8",
    )
    return index
