"""The papers' tables as experiments: their rows, which runs they share, how many seeds each row needs."""

import pytest

from sparcl_lite.papers.experiments import METRICS, Experiment, Row
from sparcl_lite.papers.reference import reference
from sparcl_lite.papers.sparcl.experiments import PRINTED, table1, table3
from sparcl_lite.runs import run
from sparcl_lite.store import Store

BASELINES = {"sgd", "joint", "er-200", "der++-200", "er-500", "der++-500"}
SPARSE = {f"sparcl-{m}-{s}-{b}" for m in ("er", "der++") for s in ("0.75", "0.90", "0.95") for b in (200, 500)}


def test_table1_has_the_papers_rows():
    rows = [row.id for row in table1().rows]
    assert set(rows) == BASELINES | SPARSE
    assert len(rows) == 18
    assert set(rows) <= set(reference("sparcl", "table1")["row"])


def test_table3_has_the_papers_rows_and_the_three_it_leaves_out():
    rows = {row.id for row in table3().rows}
    assert set(reference("sparcl", "table3")["row"]) == set(PRINTED)
    assert rows == set(PRINTED) | {"ddr", "dgm", "ddr+dgm"}
    assert len(table3().rows) == 8


@pytest.mark.parametrize("item", [table1, table3])
def test_rows_are_distinct_runs_compared_with_rows_of_the_table(item):
    experiment = item(profile="smoke")
    keys = [experiment.configs(row, 1)[0].key for row in experiment.rows]
    assert len(set(keys)) == len(keys)
    for row in experiment.rows:
        assert row.against is None or experiment.row(row.against).id == row.against != row.id


@pytest.mark.parametrize("profile", ["smoke", "lite", "paper"])
@pytest.mark.parametrize("variant", ["paper", "official"])
def test_both_tables_share_their_common_runs(profile, variant):
    one, three = (item(profile=profile, variant=variant) for item in (table1, table3))
    for a, b in (("der++-500", "none"), ("sparcl-der++-0.75-500", "tdm+ddr+dgm")):
        first, second = one.configs(one.row(a), 10), three.configs(three.row(b), 10)
        assert [c.key for c in first] == [c.key for c in second]
        assert len(first) == 10


def test_the_parts_switched_on_are_those_of_the_name():
    for row in table3().rows:
        sparse = row.values.get("sparse")
        on = [part for part in ("tdm", "ddr", "dgm") if sparse and getattr(sparse, part)]
        assert "+".join(on) == (row.id if sparse else "")
        assert sparse is None or sparse.sparsity == 0.75
        assert (row.values["method"], row.values["buffer_size"]) == ("der++", 500)


def test_seeds_are_as_many_as_asked_but_never_more_than_needed():
    experiment = table1(profile="smoke")
    for name, needed in (("er-200", 5), ("der++-200", 10), ("sparcl-der++-0.95-500", 10), ("sgd", 5)):
        for asked in (1, 5, 7, 100):
            configs = experiment.configs(experiment.row(name), asked)
            assert [c.seed for c in configs] == list(range(min(asked, needed)))
    assert {row.id: row.seeds for row in table3().rows} == {row.id: 10 if row.id in PRINTED else 5
                                                            for row in table3().rows}  # fmt: skip


def test_values_of_a_row_win_over_shared_ones_and_reach_the_configuration():
    experiment = Experiment("x", "sparcl", "table1", "", (Row("a", "A", {"buffer_size": 50}),), {"profile": "smoke"})
    (config,) = experiment.configs(experiment.row("a"), 1)
    assert (config.buffer_size, config.dataset, config.profile) == (50, "digits", "smoke")


def test_a_row_that_is_not_there():
    with pytest.raises(KeyError, match="nowhere"):
        table1().row("nowhere")


def test_another_sparsity_does_not_take_the_name_of_the_papers():
    experiment = table1(sparsities=[0.951, 0.95])
    names = [row.id for row in experiment.rows if row.id.startswith("sparcl-der++") and row.id.endswith("-200")]
    assert names == ["sparcl-der++-0.951-200", "sparcl-der++-0.95-200"]
    assert [experiment.row(name).label for name in names] == ["SparCL-DER++ 0.951", "SparCL-DER++ 0.95"]


def test_only_the_papers_settings_count_as_printed():
    assert table1().printed
    assert table1(sparsities=[0.98]).printed  # the paper has no row of that name
    assert table3(profile="smoke").printed
    for changed in ({"method": "er"}, {"buffer": 200}, {"sparsity": 0.9}):
        assert not table3(**changed).printed


def two_rows():
    tiny = {"profile": "smoke", "tasks": 2, "images_per_class": 10, "epochs": 1, "method": "er"}
    rows = (Row("a", "A", {"buffer_size": 20}, seeds=2), Row("b", "B", {"buffer_size": 30}, seeds=1))
    return Experiment("x", "sparcl", "table1", "", rows, tiny)


def test_stored_trains_nothing_and_reads_what_is_there(tmp_path, monkeypatch):
    experiment, store = two_rows(), Store(tmp_path / "store")
    empty = experiment.stored(seeds=2, store=store)
    assert empty.empty
    assert list(empty.columns) == ["row", "seed", *METRICS, "key"]
    assert not store.root.exists()
    config = experiment.configs(experiment.row("a"), 2)[1]
    result = run(config, store=store)
    monkeypatch.setattr("sparcl_lite.runs._train", lambda *_: pytest.fail("trained"))
    (line,) = experiment.stored(seeds=2, store=store).to_dict("records")
    assert (line["row"], line["seed"], line["key"]) == ("a", 1, config.key)
    assert (line["class_il"], line["flops_honest"]) == (result.class_il, result.flops.honest)
    assert (line["seconds"], line["flops_paper"]) == (result.seconds.train, result.flops.paper)


def test_run_trains_what_is_missing_once(tmp_path):
    experiment, store = two_rows(), Store(tmp_path / "store")
    for row in experiment.rows:  # all but one, which is then trained in this process
        for config in experiment.configs(row, 2)[row.id == "b" :]:
            run(config, store=store)
    frame = experiment.run(seeds=2, store=store)
    assert frame[["row", "seed"]].values.tolist() == [["a", 0], ["a", 1], ["b", 0]]
    assert frame.equals(experiment.stored(seeds=2, store=store))
    assert frame.drop(columns="seconds").equals(experiment.run(seeds=2, store=store).drop(columns="seconds"))
