"""Runs of this machine beside the committed ones: equal, changed by little, changed by much, and not comparable."""

import json
from pathlib import Path

import pytest

from sparcl_lite.clustering.config import ClusteringConfig
from sparcl_lite.papers.ksparse.experiments import tables
from sparcl_lite.papers.registry import experiments
from sparcl_lite.report import agreement
from sparcl_lite.runs.store import Store

RESULTS = Store(Path(__file__).parent / "nothing", Path(__file__).parents[1] / "results")
TABLE = experiments("lite")["sparcl_table1"]
SGD, JOINT, EWC = ("sgd", "joint", "ewc")


def committed(row, seeds=5, **changed):
    """A row's configurations, and the committed result of its SGD row under each, one point apart by seed."""
    model = RESULTS.committed(TABLE.configs(TABLE.row(SGD), 1)[0])
    for config in TABLE.configs(TABLE.row(row), seeds):
        values = {"config": config, "class_il": 20.0 + config.seed, "task_il": 70.0 + config.seed}
        yield model.model_copy(update=values | changed)


def moved(result, points):
    """The result with one accuracy, and so its mean, changed."""
    matrix = [[*result.accuracy_matrix[0]], *result.accuracy_matrix[1:]]
    matrix[0][0] += points
    return result.model_copy(update={"accuracy_matrix": matrix, "class_il": result.class_il + points})


@pytest.fixture
def store(tmp_path):
    """Seed 0 of three rows made here: one with the same bits, one changed by little, one by much."""
    there, here = Store(tmp_path / "committed"), Store(tmp_path / "here")
    for row, points in ((SGD, 0), (JOINT, 1.5), (EWC, 30)):
        for result in committed(row):
            there.put(result)
            if result.config.seed == 0:
                here.put(moved(result, points) if points else result)
    return Store(here.root, there.root)


def outcomes(store):
    return {cell.name: cell.outcome for cell in agreement.compare(store, profile="lite")}


def test_the_same_bits_little_and_much(store):
    names = [f"sparcl_table1/{row}" for row in (SGD, JOINT, EWC)]
    expected = [agreement.SAME, agreement.WITHIN, agreement.OUTSIDE]
    assert outcomes(store) == dict(zip(names, expected, strict=True))
    cells = agreement.compare(store, profile="lite")
    line = "2 of 3 cells as committed (1 same bits, 1 within the spread), 1 outside: sparcl_table1/ewc seed 0"
    assert agreement.summary(cells) == line
    (much,) = (cell for cell in cells if cell.outcome == agreement.OUTSIDE)
    # 22 +- t(.995, 4) * sqrt(2.5) * sqrt(1.2), t = 4.6041
    assert (much.values["Class-IL"]["low"], much.values["Class-IL"]["high"]) == pytest.approx(
        (14.025, 29.975), abs=1e-3
    )
    assert (much.values["Class-IL"]["here"], much.values["Class-IL"]["committed"]) == (50.0, 20.0)
    shown = agreement.table(cells).frame
    assert set(shown["cell"]) == {"sparcl_table1/joint", "sparcl_table1/ewc"}


def test_other_flops_are_other_bits_and_outside_where_every_seed_has_the_same(store, tmp_path):
    (result,) = committed(SGD, 1)
    flops = result.flops.model_copy(update={"honest": result.flops.honest * 1.01})
    Store(store.root).put(result.model_copy(update={"flops": flops}))
    assert outcomes(store)["sparcl_table1/sgd"] == agreement.OUTSIDE


def test_few_or_no_committed_seeds_are_told(tmp_path):
    there, here = Store(tmp_path / "committed"), Store(tmp_path / "here")
    for result in committed(SGD, 2):
        there.put(result)
    for row in (SGD, JOINT):
        here.put(moved(next(committed(row)), 0.1))
    store = Store(here.root, there.root)
    assert outcomes(store) == {
        "sparcl_table1/sgd": agreement.INCOMPARABLE,
        "sparcl_table1/joint": agreement.UNKNOWN,
    }
    line = agreement.summary(agreement.compare(store, profile="lite"))
    assert line.startswith("0 of 0 cells as committed")
    assert line.endswith("1 not comparable: fewer than 3 committed seeds; 1 without a committed run")
    assert agreement.compare(store, profile="smoke") == []


def test_clusterings_are_compared_too(tmp_path):
    row = tables(profile="lite").rows[0]
    config = ClusteringConfig(**row.values, profile="lite", seed=0)
    result = RESULTS.committed(config)
    here = Store(tmp_path, *RESULTS.also_read)
    here.put(result)
    assert outcomes(here) == {f"ksparse_tables/{row.id}": agreement.SAME}
    final = result.final.model_copy(update={"accuracy": 0.01})
    here.put(result.model_copy(update={"final": final}))
    assert outcomes(here) == {f"ksparse_tables/{row.id}": agreement.OUTSIDE}


def test_all_cells_are_written_as_json(store, tmp_path):
    cells = agreement.compare(store, profile="lite")
    agreement.write(cells, tmp_path / "agreement.json")
    content = json.loads((tmp_path / "agreement.json").read_text())
    assert content["summary"] == agreement.summary(cells)
    assert [cell["outcome"] for cell in content["cells"]] == [cell.outcome for cell in cells]
