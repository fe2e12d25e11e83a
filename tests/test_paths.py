"""`~` is the home directory wherever a user names a folder."""

import os
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from sparcl_lite import cli
from sparcl_lite.data import sources
from sparcl_lite.errors import KitError
from sparcl_lite.notebook import NotebookParameters
from sparcl_lite.report import figures
from sparcl_lite.report.execution import parameters_of
from sparcl_lite.report.notebooks import select
from sparcl_lite.runs.run import default_store
from sparcl_lite.runs.store import Store


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home directory, and a working directory beside it that stays empty."""
    place, working = tmp_path / "home", tmp_path / "working"
    place.mkdir()
    working.mkdir()
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.chdir(working)
    yield place
    assert list(working.iterdir()) == []


def test_of_a_store(home, monkeypatch):
    store = Store("~/store", "~/results")
    assert (store.root, store.also_read) == (home / "store", [home / "results"])
    monkeypatch.setenv("SPARCL_LITE_STORE", "~/other")
    assert Store(default_store()).root == home / "other"


def test_of_data(home, monkeypatch):
    monkeypatch.setenv("SPARCL_LITE_DATA", "~/data")
    assert sources.data_dir() == home / "data"


def test_of_a_notebook(home):
    (home / "results").mkdir()
    p = NotebookParameters.checked({"store": "~/store", "evidence": "~/results", "figures": "~/figures"})
    assert [p.store, p.evidence, p.figures] == [str(home / name) for name in ("store", "results", "figures")]
    assert NotebookParameters.checked({"evidence": ""}).evidence == ""
    figures.save(plt.figure(), pd.DataFrame({"x": [1]}), "~/figures", "empty")
    assert (home / "figures" / "empty.csv").exists()


def test_every_folder_of_a_notebook_is_one():
    for path in select(["all"]):
        text, names = path.read_text(encoding="utf-8"), parameters_of(path) - NotebookParameters.model_fields.keys()
        assert ("benchmarks: Evidence" in text) == ("benchmarks" in names)


@pytest.mark.parametrize("given", ["--store=~/store", None])
def test_of_the_command_line(home, monkeypatch, capsys, given):
    monkeypatch.setenv("SPARCL_LITE_STORE", "~/store")
    monkeypatch.setattr(sys, "argv", ["sparcl-lite", "store", "verify", *([given] if given else [])])
    with pytest.raises(SystemExit):
        cli.main()
    assert f"{home / 'store'}: 0 sound runs" in capsys.readouterr().out


def test_without_a_home_the_path_is_named(monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user without an entry
    with pytest.raises(KitError, match=r"~/store: no home directory is known"):
        Store("~/store")
    assert Store("store").root == Path("store")
