"""Committed notebooks are whole and show no machine; each runs from nothing, with real training and real outputs."""

import ast
import copy
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import nbformat
import pandas as pd
import papermill
import pytest
from nbclient.exceptions import DeadKernelError

from sparcl_lite.errors import KitError
from sparcl_lite.notebook import NotebookParameters, notebooks_folder
from sparcl_lite.registry import NETWORKS
from sparcl_lite.report import execution, notebooks
from sparcl_lite.runs.store import Store

NOTEBOOKS = sorted(notebooks_folder().glob("*.ipynb"))
LARGEST = 500_000  # bytes
ABSOLUTE_PATH = re.compile(r"(?<![\w.~:/-])/(?:home|root|work|Users|tmp|usr|opt|mnt|var)/|\b[A-Z]:\\+\w")


def texts(cell):
    """The source and all text of the outputs of a cell; images are base64, not text."""
    yield cell["source"]
    for output in cell.get("outputs", []):
        yield output.get("text", "")
        yield from output.get("traceback", [])
        yield from (text for kind, text in output.get("data", {}).items() if kind.startswith("text/"))


def problems(notebook):
    """What keeps a notebook from being committed."""
    cells = notebook["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    outputs = [output for cell in code for output in cell["outputs"]]
    printed = "".join(output["text"] for output in outputs if output.get("name") == "stdout")
    found = []
    if any(cell["execution_count"] is None for cell in code):
        found.append("a code cell that was not executed")
    if [cell["execution_count"] for cell in code if cell["execution_count"]] != list(range(1, len(code) + 1)):
        found.append("cells executed out of order")
    if not notebook["metadata"].get("sparcl_lite", {}).get("summary"):
        found.append("no summary in its metadata")
    if sum("parameters" in cell["metadata"].get("tags", []) for cell in cells) != 1:
        found.append("not one cell tagged parameters")
    if not re.search(r"^(check|verdict): ", printed, re.MULTILINE):
        found.append("no cell printed check: or verdict:")
    if any(ABSOLUTE_PATH.search(text) for cell in cells for text in texts(cell)):
        found.append("an absolute path")
    if any("papermill" in part["metadata"] for part in (notebook, *cells)) or any(
        "injected-parameters" in cell["metadata"].get("tags", []) for cell in cells
    ):
        found.append("papermill metadata")
    if any(output.get("name") == "stderr" for output in outputs):
        found.append("stderr")
    if any(output["output_type"] == "error" for output in outputs):
        found.append("an error")
    if len(nbformat.writes(notebook).encode()) > LARGEST:
        found.append("too large")
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebooks_are_whole(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert problems(notebook) == []


def sound():
    """A small notebook without problems."""
    markdown = nbformat.v4.new_markdown_cell("# Title")
    parameters = nbformat.v4.new_code_cell("seeds = 1", execution_count=1, metadata={"tags": ["parameters"]})
    output = nbformat.v4.new_output("stream", name="stdout", text="check: fine\n")
    check = nbformat.v4.new_code_cell("print('check: fine')", execution_count=2, outputs=[output])
    return nbformat.v4.new_notebook(cells=[markdown, parameters, check], metadata={"sparcl_lite": {"summary": "all"}})


def stream(name, text):
    return nbformat.v4.new_output("stream", name=name, text=text)


BREAKS = {
    "a code cell that was not executed": lambda nb: nb.cells[1].update(execution_count=None),
    "cells executed out of order": lambda nb: nb.cells[1].update(execution_count=7),
    "no summary in its metadata": lambda nb: nb.metadata.pop("sparcl_lite"),
    "not one cell tagged parameters": lambda nb: nb.cells[1].update(metadata={}),
    "no cell printed check: or verdict:": lambda nb: nb.cells[2].update(outputs=[]),
    "an absolute path": lambda nb: nb.cells[0].update(source="see /" + "home/me/results"),
    "papermill metadata": lambda nb: nb.metadata.update(papermill={}),
    "stderr": lambda nb: nb.cells[2].outputs.append(stream("stderr", "warning")),
    "an error": lambda nb: nb.cells[2].outputs.append(nbformat.v4.new_output("error", ename="E", evalue="")),
    "too large": lambda nb: nb.cells[2].outputs.append(stream("stdout", "x" * LARGEST)),
}


def test_a_sound_notebook_has_no_problems():
    assert problems(sound()) == []


@pytest.mark.parametrize("expected", BREAKS)
def test_every_guard_can_fail(expected):
    broken = copy.deepcopy(sound())
    BREAKS[expected](broken)
    assert expected in problems(broken)


@pytest.mark.parametrize(
    "place",
    [
        lambda nb: nb.cells[1].update(source='store = "/' + 'work/store"'),
        lambda nb: nb.cells[2].outputs.append(stream("stdout", "kept in /tmp/store")),
        lambda nb: nb.cells[2].outputs.append(
            nbformat.v4.new_output("display_data", data={"text/html": "<td>C:" + "\\Users\\me</td>"})
        ),
        lambda nb: nb.cells[2].outputs.append(
            nbformat.v4.new_output("error", ename="E", evalue="", traceback=["File /usr/lib/x.py"])
        ),
    ],
)
def test_absolute_paths_are_found_in_sources_and_outputs(place):
    broken = sound()
    place(broken)
    assert "an absolute path" in problems(broken)


def test_papermills_marks_are_found_in_cells():
    for marked in ({"papermill": {}}, {"tags": ["injected-parameters"]}):
        broken = sound()
        broken.cells[2].metadata = marked
        assert problems(broken) == ["papermill metadata"]


def test_links_and_relative_paths_are_no_absolute_paths():
    notebook = sound()
    notebook.cells[0].source = "https://host/home/x, ../results/lite/, tcp://host:8786, notebooks/work/a, and/or"
    assert problems(notebook) == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder for all notebooks, as `reproduce` has it, with one store that is empty at first."""
    return tmp_path_factory.mktemp("reproduced")


#: The one that a user changes first, and one of clusterings. The others are `long`: each runs from its committed
#: results, and a study such as `your_own` from nothing in `test_cli`.
QUICKER = {"ksparse_tables", "quickstart"}


def each_from_nothing():
    for path in notebooks.select(["all"]):
        yield pytest.param(path, id=path.stem, marks=[] if path.stem in QUICKER else pytest.mark.long)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", each_from_nothing())
def test_notebooks_run_from_nothing(path, folder):
    name, before = path.stem, path.read_bytes()
    store, drawn = folder / "store", folder / name / "figures"
    values = {"profile": "smoke", "seeds": 1, "store": str(store), "evidence": "", "figures": str(drawn)}
    known = execution.parameters_of(path)
    values = {key: value for key, value in values.items() if key in known}
    executed = nbformat.read(execution.execute(path, folder / name / path.name, values), as_version=4)
    assert path.read_bytes() == before
    results = list(Store(store).results())
    assert len(results) >= notebooks.about(path).runs
    assert {result.config.profile for result in results} <= {"smoke"}
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert {"text/html", "image/png"} <= kinds
    assert "check: " in "".join(output["text"] for output in outputs if output.get("name") == "stdout")
    assert {p.suffix for p in drawn.iterdir()} == {".pdf", ".png", ".csv"}
    assert all(len(pd.read_csv(points)) > 1 for points in drawn.glob("*.csv"))
    tidy = problems(execution.tidied(executed))
    assert [problem for problem in tidy if problem != "an absolute path"] == []  # the injected store is one


def test_every_notebook_is_tried_the_quick_one_first_and_the_claims_last():
    everything = notebooks.select(["all"])
    assert set(everything) == set(NOTEBOOKS)
    assert [path.stem for path in (everything[0], everything[-1])] == ["quickstart", "claims"]


def test_long_notebooks_run_only_when_named(tmp_path, monkeypatch):
    for name, said in {"short": {"runs": 2}, "slow": {"long": True}, "silent": {}}.items():
        metadata = {"sparcl_lite": said} if said else {}
        nbformat.write(nbformat.v4.new_notebook(metadata=metadata), tmp_path / f"{name}.ipynb")
    monkeypatch.setattr(notebooks, "notebooks_folder", lambda: tmp_path)
    assert [path.stem for path in notebooks.select([])] == ["short", "silent"]
    assert [path.stem for path in notebooks.select(["slow"])] == ["slow"]
    assert [path.stem for path in notebooks.select(["all"])] == ["short", "silent", "slow"]
    with pytest.raises(KitError, match="notebook = 'lost': unknown; allowed: all, short, silent, slow"):
        notebooks.select(["lost"])


def test_a_rendering_that_is_interrupted_leaves_the_notebook_as_it_was(tmp_path, monkeypatch):
    notebook = tmp_path / "quickstart.ipynb"
    shutil.copy(notebooks_folder() / notebook.name, notebook)
    before = notebook.read_bytes()

    def interrupted(source, output, parameters):
        output.write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(execution, "execute", interrupted)
    monkeypatch.setattr(execution.documents, "render", lambda root: None)
    with pytest.raises(KeyboardInterrupt):
        execution.render([notebook])
    assert notebook.read_bytes() == before


def test_a_rendered_notebook_keeps_what_it_says_of_itself():
    notebook = sound()
    notebook.metadata = {"sparcl_lite": {"summary": "all"}, "papermill": {}, "language_info": {"name": "python"}}
    assert set(execution.tidied(notebook).metadata) == {"sparcl_lite", "language_info"}


class Parameters(NotebookParameters):
    sparsities: list[float]


def session(*cells, **values):
    """The namespace of a notebook in which these cells were executed, one after the other."""
    namespace = {"In": ["", *cells], "open": open} | values
    for cell in cells:
        exec(cell, namespace)
    return namespace


def test_parameters_are_those_of_the_namespace():
    p = Parameters.checked(session('import json\nprofile, _i1 = "smoke", 3', "sparsities = [0.9, 1]"))
    assert (p.profile, p.sparsities, p.seeds) == ("smoke", [0.9, 1.0], 10)
    assert p.shared() == {"profile": "smoke"}
    assert Parameters.checked({"dataset": "digits", "sparsities": []}).shared()["dataset"] == "digits"
    assert Parameters.checked({"sparsities": [], "evidence": ""}).open_store().also_read == []


def test_folders_do_not_depend_on_where_the_kernel_runs(tmp_path, monkeypatch):
    root = notebooks_folder().parent
    given = {"store": "../build/store", "evidence": "../results", "sparsities": []}
    for place in (root, root / "notebooks", tmp_path):
        monkeypatch.chdir(place)
        p = Parameters.checked(given)
        assert [p.store, p.figures] == [str(root / "build" / name) for name in ("store", "figures")]
        assert p.open_store().also_read == [root / "results"]
        own = str(tmp_path / "own" if place == tmp_path else root / "notebooks" / "own")
        assert Parameters.checked(given | {"store": "own"}).store == own


def test_evidence_that_is_named_and_missing_is_an_error(tmp_path):
    with pytest.raises(KitError, match=r"evidence = '.*/lost': no folder is at .*/lost; allowed: a folder of results"):
        Parameters.checked({"evidence": str(tmp_path / "lost"), "sparsities": []})


@pytest.mark.slow
def test_papermill_from_another_folder_finds_the_evidence_and_trains_nothing(tmp_path):
    """As a user runs it: a process of its own, whose kernel starts where the shell is."""
    (path,) = (path for path in NOTEBOOKS if path.stem == "quickstart")
    values = ["-p", "store", tmp_path / "store", "-p", "figures", tmp_path / "figures"]
    command = [sys.executable, "-m", "papermill", path, tmp_path / "out.ipynb", *values]
    done = subprocess.run([*map(str, command)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "store").exists()


WRONG = {
    "sparsity = 0.9": "sparsity is not a parameter",  # for `sparsities`
    "seeds = '1'": "seeds = '1': input should be a valid integer",
    "seeds = 0": "seeds = 0: input should be greater than or equal to 1",
    "seeds = 1.5": "seeds = 1.5: input should be a valid integer",
    "profile = 3": "profile = 3: input should be a valid string",
    "sparsities = 0.9": "sparsities = 0.9: input should be a valid list",
    "sparsities = ['a']": "sparsities.0 = 'a': input should be a valid number",
}


@pytest.mark.parametrize("line", WRONG)
def test_wrong_parameters_are_named_with_what_is_allowed(line):
    with pytest.raises(KitError) as error:
        Parameters.checked(session(f"sparsities = []\n{line}"))
    assert WRONG[line] in str(error.value)
    assert "profile, dataset, seeds, store, evidence, scheduler, figures, plugins, sparsities" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_misspelt_name_is_told_before_what_lacks_for_it():
    with pytest.raises(KitError, match=r"^sparsity is not a parameter"):
        Parameters.checked(session("sparsity = [0.9]\nseeds = 2"))


CELL = "sparsities = [0.9]\nseeds = 2  # at most"
CHECK = "p = None  # Parameters.checked(globals())"
BODY = """import math
runs: int = 3
for number in range(2):
    half = [value / 2 for value in range(number)]
def f(x): return x
total, store = f(runs), str(runs)"""


def test_what_the_notebook_makes_is_no_parameter():
    again = [CELL, CHECK, BODY, "!echo a cell that is no Python", CELL, CHECK]
    namespace = session(*(cell for cell in again if "!" not in cell), In=again)
    assert Parameters.checked(namespace).seeds == 2


def test_a_mended_name_needs_no_new_kernel():
    misspelt = "sparsities = []\nsedes = 3"
    cells = [misspelt, CHECK]
    with pytest.raises(KitError, match="sedes is not a parameter"):
        Parameters.checked(session(*cells))
    mended = session(*cells, CELL, CHECK)
    assert Parameters.checked(mended).seeds == 2
    with pytest.raises(KitError, match="sedes is not a parameter"):  # also after a pass without fault
        Parameters.checked(session(CELL, CHECK, BODY, misspelt, CHECK))


def test_what_papermill_sets_is_checked():
    injected = "# Parameters\nsedes = 3\n"
    with pytest.raises(KitError, match="sedes is not a parameter"):
        Parameters.checked(session(CELL, injected, CHECK))
    with pytest.raises(KitError, match="sedes is not a parameter"):
        Parameters.checked(session(CELL, "# Parameters\nseeds = 1\nsedes = 3\n", CHECK))
    mended = session(CELL, injected, CHECK, CELL, "# Parameters\nseeds = 3\n", CHECK)
    assert Parameters.checked(mended).seeds == 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_notebook_overwrites_a_parameter(path):
    parameters, *cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert "parameters" in parameters.metadata["tags"]
    lines = [line for cell in cells for line in ast.parse(cell.source).body if not isinstance(line, ast.ClassDef)]
    names = [node for line in lines for node in ast.walk(line) if isinstance(node, ast.Name)]
    made = {name.id for name in names if isinstance(name.ctx, ast.Store)}
    assert made & (NotebookParameters.model_fields.keys() | execution.parameters_of(path)) == set()


@pytest.mark.slow
def test_papermill_stops_at_a_misspelt_name_with_one_line(tmp_path):
    (path,) = (path for path in NOTEBOOKS if path.stem == "claims")
    with pytest.raises(papermill.PapermillExecutionError) as error:
        papermill.execute_notebook(
            str(path), str(tmp_path / "out.ipynb"), {"sedes": 1}, cwd=str(path.parent), progress_bar=False
        )
    assert re.match(r"sedes is not a parameter .*\(parameters here: profile, .*\)$", error.value.evalue)
    assert error.value.traceback == [f"KitError: {error.value.evalue}"]


@pytest.mark.parametrize("given", [["{}"], "{}", "['{}']"])
def test_plugins_of_a_notebook_are_a_list_a_name_or_what_papermill_makes_of_a_list(tmp_path, given):
    plugin = tmp_path / "mine.py"
    plugin.write_text("import sparcl_lite as sl\nsl.register.network('mine', replace=True)(lambda *shape: None)\n")
    given = given.format(plugin) if isinstance(given, str) else [given[0].format(plugin)]
    parameters = NotebookParameters.checked({"plugins": given})
    assert parameters.plugins == [str(plugin)]
    assert "mine" in NETWORKS
    NETWORKS.forget("mine")


def test_a_kernel_that_dies_is_one_line(tmp_path, monkeypatch):
    def die(*_, **__):
        raise DeadKernelError("Kernel died")

    monkeypatch.setattr("papermill.execute_notebook", die)
    (path,) = (path for path in NOTEBOOKS if path.stem == "quickstart")
    with pytest.raises(KitError, match=r"^quickstart: Kernel died$"):
        execution.execute(path, tmp_path / "out.ipynb", {})


def test_runs_that_fail_leave_out_one_notebook_and_are_told(tmp_path, monkeypatch, capsys):
    written = "raise __import__('sparcl_lite.runs.sweep', fromlist=['x']).SweepError('1 of 2 runs failed: ewc')"
    first, second = (tmp_path / f"{name}.ipynb" for name in ("first", "second"))
    for path, source in ((first, written), (second, "print('whole')")):
        cells = [nbformat.v4.new_code_cell("seeds = 1", metadata={"tags": ["parameters"]})]
        notebook = nbformat.v4.new_notebook(cells=[*cells, nbformat.v4.new_code_cell(source)])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, path)
    monkeypatch.setattr(execution, "about", lambda path: SimpleNamespace(runs=1))
    failed = []
    assert list(execution.reproduce([first, second], tmp_path / "out", {"seeds": 2}, {}, failed)) == [1]
    assert failed == ["first: SweepError: 1 of 2 runs failed: ewc"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["second.ipynb"]
    assert "seeds = 2" in (tmp_path / "out" / "second.ipynb").read_text()
    assert "first: SweepError: 1 of 2 runs failed: ewc; going on" in capsys.readouterr().err
