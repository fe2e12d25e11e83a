"""Executes notebooks with papermill: into a report, or in place as they are committed."""

import ast
import logging
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import nbformat

from sparcl_lite.errors import KitError
from sparcl_lite.notebook import notebooks_folder
from sparcl_lite.report import documents
from sparcl_lite.report.notebooks import METADATA, about
from sparcl_lite.runs.sweep import SweepError

LIVE = "application/vnd.jupyter.widget-view+json"  # of an output: nothing without a kernel; its picture stays
TIMEOUT_SECONDS = None  # a cell trains for as long as it needs


class RunsFailedError(KitError):
    """Some of a notebook's runs failed; those of other notebooks need not."""


def parameters_of(notebook: Path) -> set[str]:
    """Names that the notebook's parameters cell sets."""
    import papermill  # slow to import, and needed here alone

    return set(papermill.inspect_notebook(str(notebook)))


def execute(notebook: Path, output: Path, parameters: dict[str, Any]) -> Path:
    """Run a notebook headless, in its own folder, and write it with its outputs.

    Raises `KitError` if a cell fails, `RunsFailedError` if runs of it did.
    """
    import papermill

    check_names(notebook, parameters)
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
        kind = RunsFailedError if error.ename == SweepError.__name__ else KitError
        raise kind(f"{notebook.stem}: {_reason(error)}") from None
    except RuntimeError as error:  # its kernel died: it was killed, or memory ran out
        raise KitError(f"{notebook.stem}: {' '.join(str(error).split())}") from None
    return output


def check_names(notebook: Path, parameters: Iterable[str]) -> None:
    known = parameters_of(notebook)
    for name in parameters:
        if name not in known:
            raise KitError(f"{notebook.stem}: {name} is not a parameter; allowed: {', '.join(sorted(known))}")


def _reason(error: Any) -> str:
    """What stopped a notebook, in one line; of pydantic's text, which comes from another process, the essence."""
    text = " ".join(error.evalue.split())
    if error.ename in ("KitError", "KeyboardInterrupt"):
        return text
    if found := re.search(r" for \w+ (\S+) (.*?) \[type=\w+, input_value=(.*?), input_type=", text):
        field, allowed, value = found.groups()
        return f"{field} = {value}: {allowed[0].lower()}{allowed[1:]}"
    return f"{error.ename}: {text}"


def reproduce(
    notebooks: list[Path], folder: Path, common: dict[str, Any], chosen: dict[str, Any], failed: list[str]
) -> Iterator[int]:
    """Execute every notebook into `folder`; before each but the first, yields how many are done.

    It says how long the others may take. Every notebook gets those of the `common` parameters that it has, and all of
    the `chosen` ones; they stand in the parameters cell of what is written. A notebook whose runs failed is left out,
    and `failed` gets its line.
    """
    for notebook in notebooks:  # before the first of them trains
        check_names(notebook, chosen)
    start, runs = time.monotonic(), [about(notebook).runs + 1 for notebook in notebooks]
    for number, notebook in enumerate(notebooks):
        if number:
            yield number
        passed = (time.monotonic() - start) / 60
        left = f", about {passed * sum(runs[number:]) / sum(runs[:number]):.0f} left" if number else ""
        print(f"[{number + 1}/{len(notebooks)}] {notebook.stem}, {passed:.0f} minutes so far{left}", file=sys.stderr)
        known = parameters_of(notebook)
        parameters = {name: value for name, value in common.items() if name in known} | chosen
        try:
            executed = execute(notebook, folder / notebook.name, parameters)
        except RunsFailedError as error:
            print(f"{error}; going on with the other notebooks", file=sys.stderr)
            failed.append(str(error))
            (folder / notebook.name).unlink()
            continue
        page = tidied(nbformat.read(executed, as_version=4))
        for cell in page.cells:
            if "parameters" in cell.metadata.get("tags", []):
                cell.source = with_parameters(cell.source, parameters)
        nbformat.write(page, executed)


def render(notebooks: list[Path]) -> None:
    """Execute the committed notebooks in place, with their own parameters, from the committed results.

    Their figures go to `figures/`, and the generated blocks of README.md and docs/ are written anew.
    """
    root = notebooks_folder().parent
    figures = root / "figures"
    documents.render(root)
    for notebook in notebooks:
        with tempfile.TemporaryDirectory() as scratch:  # what is interrupted leaves the notebook as it was
            places = {"figures": os.path.relpath(figures, notebook.parent)}
            executed = execute(notebook, Path(scratch) / notebook.name, places)
            nbformat.write(tidied(nbformat.read(executed, as_version=4)), notebook)


def with_parameters(source: str, values: dict[str, Any]) -> str:
    """The parameters cell with these values in the place of its own, comments kept: what ran, in one cell."""
    lines = source.splitlines()
    for line in reversed(ast.parse(source).body):
        if isinstance(line, ast.Assign) and (name := line.targets[0].id) in values:
            first, last = line.value.lineno - 1, line.value.end_lineno - 1
            end = lines[last].encode()[line.value.end_col_offset :].decode()
            lines[first : last + 1] = [f"{name} = {values[name]!r}{end}"]
    return "\n".join(lines)


def tidied(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook without what papermill adds and without progress bars, as it is committed."""
    notebook.metadata = {k: v for k, v in notebook.metadata.items() if k in ("kernelspec", "language_info", METADATA)}
    notebook.cells = [c for c in notebook.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    for cell in notebook.cells:
        tags = [tag for tag in cell.metadata.get("tags", []) if tag == "parameters"]
        cell.metadata = {"tags": tags} if tags else {}
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
            for output in cell.outputs:
                output.get("data", {}).pop(LIVE, None)
    for count, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1):
        cell.execution_count = count
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
    return notebook
