"""The view of tables: a cell tells its runs and the paper's number, and its row runs with another seed."""

from pathlib import Path

import pytest

from sparcl_lite.explore import cells
from sparcl_lite.explore.tables import COLUMNS, Tables
from sparcl_lite.measure.statistics import t_interval
from sparcl_lite.papers.reference import reference
from sparcl_lite.papers.sparcl.tables import table3
from sparcl_lite.report.tables import comparison, plus_minus
from sparcl_lite.runs.store import Store

RESULTS = Path(__file__).parents[2] / "results"
STORE = Store("nowhere", RESULTS)
EXPERIMENT = table3(profile="lite")
FRAME = EXPERIMENT.stored(seeds=10, store=STORE)


def cell(row, metric="class_il"):
    (found,) = (c for c in cells.cells(EXPERIMENT, FRAME, metric) if c.row.id == row)
    return found


@pytest.fixture(scope="module")
def view():
    return Tables(STORE)


def test_every_item_of_every_paper_is_there():
    titles = set(cells.catalogue("lite"))
    assert {"SparCL: Table 1", "SparCL: Figure 3", "LightCL: Table 1", "K-sparse: tables"} <= titles
    assert not any("bench" in title for title in titles)
    for experiment in cells.catalogue("lite").values():
        assert cells.metrics(experiment)


def test_a_cell_says_what_the_comparison_of_the_report_says():
    table = comparison(EXPERIMENT, FRAME).frame.set_index("method")
    for each in cells.cells(EXPERIMENT, FRAME, "class_il"):
        texts, line = each.texts(), table.loc[each.row.label]
        assert texts["ours"] == line["Class-IL ours"]
        assert line["Class-IL difference"].startswith(texts["difference"]) or "tendency" in line["Class-IL difference"]
        assert texts["n"] == str(line["n"])


def test_a_cell_tells_its_interval_seeds_and_runs():
    each = cell("tdm")
    values = FRAME.loc[FRAME["row"] == "tdm", "class_il"]
    assert each.texts()["ours"] == plus_minus(t_interval(values))
    assert each.tips()["ours"].startswith("seeds 0, 1, 2")
    runs = each.runs(STORE)
    assert set(runs["key"]) >= set(FRAME.loc[FRAME["row"] == "tdm", "key"])
    assert len(runs) == len(values)
    for line in runs.itertuples():
        assert STORE.get(each.job(line.seed).config).config.key == line.key


def test_the_provenance_of_the_papers_number_is_told():
    printed = reference("sparcl", "table3").set_index(["row", "column"]).loc[("tdm", "cifar10/class_il")]
    said = cell("tdm").provenance
    assert f"{printed['value']:.2f}" in said
    assert printed["provenance"] in said
    assert printed["note"] in said
    assert cell("ddr").provenance == "the paper prints no number here"


def test_rows_are_filtered_by_words():
    shown = cells.cells(EXPERIMENT, FRAME, "class_il", "TDM dgm")
    assert {each.row.id for each in shown} == {"tdm+dgm", "tdm+ddr+dgm"}
    assert cells.cells(EXPERIMENT, FRAME, "class_il", "nothing") == []
    nothing = EXPERIMENT.stored(seeds=1, store=Store("nowhere"))
    printed = {each.row.id for each in cells.cells(EXPERIMENT, nothing, "class_il")}
    assert printed == {"none", "tdm", "tdm+ddr", "tdm+dgm", "tdm+ddr+dgm"}


def test_rows_of_one_label_are_told_apart(view):
    labels = [each.label for each in view.shown]
    assert len(set(labels)) == len(labels)


def test_points_of_the_figure_are_the_cells():
    shown = cells.cells(EXPERIMENT, FRAME, "class_il")
    _, points = cells.levels(shown)
    assert points["ours"].tolist() == [each.interval.mean for each in shown]
    assert points["paper"].notna().sum() == 5


def test_a_click_shows_what_is_behind_a_cell(view):
    view.item.value, view.query.value = "SparCL: Table 2", "rigl"
    assert [row[0][0] for row in view.grid.rows] == ["RigL-DER++ 0.90", "RigL-DER++ 0.95"]
    assert view.again.disabled
    view.grid.chosen = [1, COLUMNS.index("ours")]
    assert "rigl-der++-0.95-500" in view.behind.value
    assert view.cell.job(0).config.key in view.runs.value
    assert view.seed.value == 10  # the first that is not stored
    assert not view.again.disabled
    view.metric.value = "flops_honest"
    assert view.cell is None
    view.query.value = "nothing at all"
    assert "nothing here" in view.still()[1]
    view.query.value = ""
    for title in view.items:
        view.item.value = title
        assert view.grid.rows or title.startswith("CLFD"), title  # which has no runs at this profile


@pytest.mark.slow
def test_a_row_runs_with_another_seed(tmp_path, wait):
    store = Store(tmp_path)
    view = Tables(store, profile="smoke")
    view.item.value, view.query.value = "K-sparse: tables", "khan pca"
    assert view.grid.caption == "no such row with runs"  # nothing is stored, and nothing is printed
    view.item.value, view.query.value = "SparCL: Table 1", "sgd"
    view.grid.chosen = [0, 0]
    assert view.seed.value == 0
    view.seed.value = 12
    view.again.click()
    wait(lambda: "done" in view.said.value)
    view.background.close()
    assert store.get(view.cell.job(12).config).config.seed == 12
    assert "further" in view.runs.value
