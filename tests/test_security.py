"""Nobody is let in: no pickle from outside is loaded, no code runs that was not named, pages escape what they show."""

import ast
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from test_store import config_of, result_of

import sparcl_lite
from sparcl_lite.runs import sweep as sweeps
from sparcl_lite.runs.recording import Recording, recording_path
from sparcl_lite.runs.store import Store

PACKAGE = Path(sparcl_lite.__file__).parent
#: Where pickles are read: the restricted reader of CIFAR's files, and what one process of a user sends to another.
UNPICKLING = {"data/formats.py": {"Unpickler"}, "registry.py": {"loads"}}


class Evil:
    """Makes a folder where it is unpickled."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


def calls(path):
    """Every call in a file: the text of what is called, and its keywords."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}


def sources():
    return [(path, str(path.relative_to(PACKAGE))) for path in sorted(PACKAGE.rglob("*.py"))]


# -- pickles


def test_torch_loads_weights_only_and_numpy_no_objects():
    found = [(name, called, given) for path, name in sources() for called, given in calls(path)]
    loads = [(name, given) for name, called, given in found if called == "torch.load"]
    assert loads
    assert all(given.get("weights_only") == "True" for _, given in loads), loads
    assert not [name for name, _, given in found if given.get("allow_pickle") == "True"]


def test_pickles_are_read_nowhere_else():
    readers = re.compile(r"(^|\.)(pickle|cloudpickle|joblib|dill|shelve|marshal)\.(load|loads|Unpickler|open)$")
    found = {}
    for path, name in sources():
        for called, _ in calls(path):
            if readers.search(called) or called in (
                "pd.read_pickle",
                "pandas.read_pickle",
                "eval",
                "exec",
                "os.system",
            ):
                found.setdefault(name, set()).add(called.rpartition(".")[2])
    assert found == {"registry.py": UNPICKLING["registry.py"]}
    (base,) = (
        ast.unparse(base)
        for node in ast.walk(ast.parse((PACKAGE / "data" / "formats.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and node.name == "_Unpickler"
        for base in node.bases
    )
    assert base == "pickle.Unpickler"


def test_a_checkpoint_with_a_pickle_in_it_is_set_aside_and_not_run(tmp_path):
    store, config, crime = Store(tmp_path / "store"), config_of(), tmp_path / "crime"
    place = store.checkpoint_path(config)
    place.parent.mkdir(parents=True)
    torch.save({"trainer": Evil(crime)}, place)
    with pytest.warns(UserWarning, match=r"is damaged \(UnpicklingError\); set aside as"):
        assert store.load_checkpoint(config) is None
    assert not crime.exists()
    torch.load(store.root / "damaged" / place.name, weights_only=False)
    assert crime.exists()  # the same bytes do harm where nothing stops them


def test_a_recording_with_a_pickle_in_it_is_not_run(tmp_path):
    config, crime = config_of(), tmp_path / "crime"
    path = recording_path(tmp_path, config)
    path.parent.mkdir()
    np.savez(path, task=np.array([Evil(crime)], dtype=object))
    with pytest.warns(UserWarning, match="not used"):
        assert Recording.of(Store(tmp_path), config) is None
    assert not crime.exists()


def test_a_result_that_is_a_pickle_is_damaged(tmp_path):
    store, crime = Store(tmp_path / "store"), tmp_path / "crime"
    store.put(result_of(config_of())).write_bytes(pickle.dumps(Evil(crime)))
    assert "is damaged" in store.verify()[0]
    assert not crime.exists()


# -- plugins

PLUGIN = "from pathlib import Path\nPath({marker!r}).touch()\n"


def test_a_plugin_runs_only_when_named(tmp_path):
    """Not because it lies in the working directory, in the store or among the data, whatever it is called."""
    places = [tmp_path / name for name in ("here", "store", "data")]
    for place in places:
        place.mkdir()
        for name in ("plugin", "my_ideas", "sitecustomize_", "conftest", "sparcl_lite_plugin", "typer_plugin"):
            (place / f"{name}.py").write_text(PLUGIN.format(marker=str(tmp_path / "ran")))
    environment = os.environ | {"SPARCL_LITE_DATA": str(places[2]), "PYTHONPATH": str(PACKAGE.parent)}
    environment.pop("SPARCL_LITE_PLUGINS", None)
    command = [Path(sys.executable).parent / "sparcl-lite"]
    command = command if command[0].exists() else [sys.executable, "-P", "-m", "sparcl_lite"]
    listing = [*command, "names"]
    for more, ran in (([], False), (["--plugin", str(places[0] / "my_ideas.py")], True)):
        done = subprocess.run(
            [*map(str, listing), *more], cwd=places[0], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "ran").exists() == ran


# -- pages

EVIL = '<script>alert("x")</script>'


def test_pages_escape_what_they_are_filled_with():
    from sparcl_lite.report.site import _filled

    page = _filled("machine", how=EVIL, summary="", table="", executed=[])
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_tables_escape_their_cells_and_captions():
    from sparcl_lite.report.tables import Table

    table = Table(pd.DataFrame({"method": [EVIL], EVIL: ["a|b"]}), EVIL)
    assert "<script>" not in table._repr_html_()
    assert "&lt;script&gt;" in table._repr_html_()


def test_the_page_of_somebodys_cells_escapes_their_names(tmp_path):
    from sparcl_lite.clustering.analysis import analyse
    from sparcl_lite.clustering.data.cells import Cells
    from sparcl_lite.report.cells import write

    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 6)) + 6 * (np.arange(40)[:, None] % 2) * (np.arange(6) < 3)
    names = np.array([f"{EVIL}{n}" for n in range(6)])
    found = analyse(Cells(EVIL, X, None, names, names=np.array([EVIL] * 40)), n_clusters=2, n_genes=3)
    page = write(found, tmp_path).read_text(encoding="utf-8")
    assert "<script>" not in page
    assert page.count("&lt;script&gt;") >= 4


# -- the network and the terminal


def test_dask_listens_on_the_loopback_address_only():
    with sweeps._client(None, 1) as client:
        assert client.scheduler.address.startswith("tcp://127.0.0.1:")
        addresses = [client.cluster.dashboard_link, *client.scheduler_info()["workers"]]
        assert len(addresses) == 2
        assert all("127.0.0.1" in address for address in addresses), addresses
        services = {address for _, address in client.run_on_scheduler(_listening)}
        assert services == {"127.0.0.1"}


def _listening(dask_scheduler):
    import psutil

    return [(c.laddr.port, c.laddr.ip) for c in psutil.Process().net_connections("inet") if c.status == "LISTEN"]


def test_what_a_file_says_steers_no_terminal(tmp_path):
    name = "\x1b[2J\u202eevil"
    command = [sys.executable, "-m", "sparcl_lite", "run", "--dataset", name, "--store", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.isprintable()
