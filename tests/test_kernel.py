"""What a person sees who runs the committed notebooks' cells in a real kernel, and stops them."""

import re
from contextlib import contextmanager

import nbformat
import pytest
import torch
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

from sparcl_lite.notebook import INTERRUPTED, notebooks_folder
from sparcl_lite.report.execution import with_parameters

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


DRAW = """
import matplotlib.pyplot as plt
from sparcl_lite.report import figures as draw
draw.use_style()
figure, ax = plt.subplots()
ax.plot([1, 2], label="dense")
ax.set(xlabel="epoch", ylabel="accuracy (%)", title="digits")
ax.legend()
"""


def test_a_figure_of_a_notebook_has_an_alternative_text():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(DRAW)])
    NotebookClient(notebook, kernel_name="python3").execute()
    (shown,) = (o for o in notebook.cells[0].outputs if o.output_type == "display_data")
    assert shown.metadata["image/png"]["alt"] == "Figure. digits, x: epoch, y: accuracy (%). Shown: dense."


class Session:
    """A kernel, and what the cells executed in it have said."""

    def __init__(self, manager, client):
        self.manager, self.client = manager, client

    def run(self, source, stop_when=None):
        """Text on stderr, and the error's lines (none without one), of a cell; it is interrupted when told to."""
        sent, said, error = self.client.execute(source), "", []
        while True:
            message = self.client.get_iopub_msg(timeout=240)
            content = message["content"]
            if message["parent_header"].get("msg_id") != sent:
                continue
            if message["msg_type"] == "stream" and content["name"] == "stderr":
                said += content["text"]
            if message["msg_type"] == "error":
                error = content["traceback"]
            if content.get("execution_state") == "idle":
                return said, error
            if stop_when and stop_when(said):
                self.manager.interrupt_kernel()
                stop_when = None


@contextmanager
def kernel(**how):
    manager, client = start_new_kernel(cwd=str(notebooks_folder()), **how)
    try:
        yield Session(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def sources(name, **values):
    """The first code cells of a notebook: parameters with these values, imports, runs."""
    notebook = nbformat.read(notebooks_folder() / f"{name}.ipynb", as_version=4)
    parameters, *others = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return [with_parameters(parameters, values), *others]


def test_a_wrong_value_is_one_line_and_mended_in_the_same_kernel(tmp_path):
    given = {"profile": "smoke", "store": str(tmp_path), "evidence": ""}
    with kernel() as session:
        for values, text in (
            ({"sparsity": 2.0}, "sparsity = 2.0: input should be less than 1"),
            ({"method": "derr"}, "method = 'derr': unknown; allowed: "),
            ({"evidence": str(tmp_path / "lost")}, "no folder is at"),
        ):
            parameters, check, *_ = sources("quickstart", **(given | values))
            session.run(parameters)
            _, error = session.run(check)
            assert len(error) == 1
            assert "\n" not in error[0]
            assert text in error[0]
        misspelt = sources("quickstart", **given)[0] + "\nsedes = 3"
        for parameters, expected in ((misspelt, "sedes is not a parameter"), (sources("quickstart", **given)[0], "")):
            session.run(parameters)
            _, error = session.run(check)
            assert expected in "".join(error)
            assert bool(error) == bool(expected)


@pytest.mark.parametrize("name", ["quickstart", pytest.param("sparcl_table3", marks=pytest.mark.long)])
def test_a_stopped_notebook_keeps_the_checkpoint_and_goes_on_from_it(tmp_path, name):
    """One with one run, in the kernel, and one with several, on workers."""
    given = {"dataset": "digits", "seeds": 1, "store": str(tmp_path), "evidence": ""}
    parameters, check, runs, *_ = sources(name, **given)

    def steps():
        """Of all runs; a finished one, whose checkpoint is gone, counts for more than it had."""
        found = [torch.load(path, weights_only=True) for path in tmp_path.glob("checkpoints/*.pt")]
        unfinished = sum(state["trainer"]["totals"]["steps"] for state in found)
        return unfinished + 10_000 * len(list(tmp_path.glob("*.json")))

    with kernel() as session:
        session.run(parameters)
        session.run(check)
        _, error = session.run(runs, stop_when=lambda said: steps())
        assert error == [f"KeyboardInterrupt: {INTERRUPTED}"]
        seen = [steps()]
        assert seen[0] > 0

        def grown(said):
            seen.append(steps())
            return seen[-1] > seen[0]

        said, error = session.run(runs, stop_when=grown)
        assert error == [f"KeyboardInterrupt: {INTERRUPTED}"]
    assert seen == sorted(seen), "a run began anew"
    assert re.search(r" [1-9]\d*/\d+ \[00:00" if name == "quickstart" else r"about \d+:\d\d", said), said
