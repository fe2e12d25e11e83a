"""The papers' tables as experiments: their rows, which runs they share, how many seeds each row needs."""

import pytest

from sparcl_lite.config import PROFILES
from sparcl_lite.papers.claims import claims
from sparcl_lite.papers.experiments import RECORD, Experiment, Row
from sparcl_lite.papers.reference import reference
from sparcl_lite.papers.sparcl.experiments import EXPERIMENTS
from sparcl_lite.papers.sparcl.studies import CHANGES, SUSPECTS, confounders, removal, sensitivity
from sparcl_lite.papers.sparcl.tables import PRINTED, table1, table2, table3
from sparcl_lite.runs.run import run
from sparcl_lite.runs.store import Store
from sparcl_lite.runs.training import Training
from sparcl_lite.sparsity.settings import OFFICIAL_QUIRKS

ALONE = {"sgd", "joint", "ewc", "lwf", "packnet", "lps"}
REPLAY = {f"{m}-{b}" for m in ("a-gem", "icarl", "fdr", "er", "der++") for b in (200, 500)}
SPARSE = {f"sparcl-{m}-{s}-{b}" for m in ("er", "der++") for s in ("0.75", "0.90", "0.95") for b in (200, 500)}


def test_table1_has_the_papers_rows():
    rows = [row.id for row in table1(masked=()).rows]
    assert set(rows) == ALONE | REPLAY | SPARSE
    assert len(rows) == 28
    printed = set(reference("sparcl", "table1")["row"])
    assert printed == set(rows) | {"der-200", "der-500"}  # of the DER paper's table, not of SparCL's


def test_table1_has_er_der_and_sparcl_under_both_losses():
    rows = {row.id: row for row in table1().rows}
    masked = {name for name in rows if name.endswith("+mask")}
    assert masked == {f"{name}+mask" for name in SPARSE | {f"{m}-{b}" for m in ("er", "der++") for b in (200, 500)}}
    for name in masked:
        plain, row = rows[name.removesuffix("+mask")], rows[name]
        assert row.values == plain.values | {"masked_ce": True}
        assert row.against == (f"{plain.against}+mask" if name.startswith("sparcl") else plain.id)


def test_table2_has_the_papers_rows_a_mask_that_never_changes_and_the_dense_method():
    rows = [row.id for row in table2().rows]
    ours = {f"random-der++-{s}-500" for s in ("0.90", "0.95")}
    assert set(rows) == set(reference("sparcl", "table2")["row"]) | ours | {"der++-500"}
    assert len(rows) == 9
    for row in table2().rows[1:]:
        assert row.id.startswith(row.values["sparse"].kind)
        assert row.against == "der++-500"
    assert {row.against for row in table2(method="er").rows} == {None, "er-500"}


def test_table3_has_the_papers_rows_and_the_three_it_leaves_out():
    rows = {row.id for row in table3().rows}
    assert set(reference("sparcl", "table3")["row"]) == set(PRINTED)
    assert rows == set(PRINTED) | {"ddr", "dgm", "ddr+dgm"}
    assert len(table3().rows) == 8


def test_removal_varies_rule_and_share_alone():
    experiment = removal(proportions=[0.2, 0.4])
    assert [row.id for row in experiment.rows] == [
        "none", "stages-0.20", "stages-0.40", "one_shot-0.20", "one_shot-0.40", "random-0.20", "random-0.40"
    ]  # fmt: skip
    for row in experiment.rows[1:]:
        sparse = row.values["sparse"]
        assert row.id == f"{sparse.removal_rule}-{sparse.removal:.2f}"
        same = sparse.model_copy(update={"removal": 0.3, "removal_rule": "stages"})
        assert same == table3().row("tdm+ddr+dgm").values["sparse"]
    assert experiment.rows[0].values == table3().row("tdm+dgm").values


def test_sensitivity_changes_one_parameter_at_a_time():
    experiment = sensitivity()
    default = experiment.row("default").values["sparse"]
    assert default == table1().row("sparcl-der++-0.90-200").values["sparse"]
    for name, values in CHANGES.items():
        assert getattr(default, name) not in values
        for value in values:
            row = experiment.row(f"{name}={value}")
            assert row.values["sparse"] == default.model_copy(update={name: value})
            assert (row.against, row.values["buffer_size"]) == ("default", 200)
    sizes = {row.id: row.values["buffer_size"] for row in experiment.rows if row.id.startswith(("dense-", "sparse-"))}
    assert sizes == {"dense-200": 200, "dense-500": 500, "sparse-500": 500}


def test_sensitivity_of_the_official_variant_leaves_out_what_it_is_or_cannot_be():
    names = {row.id.partition("=")[0] for row in sensitivity(variant="official").rows}
    assert names.isdisjoint({*OFFICIAL_QUIRKS, "growth"})
    assert names > set(CHANGES) - {"growth", "initial_mask"}


def test_confounders_compare_like_with_like():
    experiment = confounders(profile="lite", suspects=SUSPECTS)
    configs = {row.id: experiment.configs(row, 1)[0] for row in experiment.rows}
    loops = ("masked_ce", "replay_from_task", "drop_last", "merge_batches")
    for sparse, dense in (("sparse", "dense"), ("sparse+mask", "dense+mask"), ("official", "dense+loop"),
                          ("sparse+frozen", "dense+frozen"), ("sparcl-er", "er"),
                          ("sparcl-er+mask", "er+mask")):  # fmt: skip
        assert experiment.row(sparse).against == dense
        assert all(getattr(configs[sparse], name, None) == getattr(configs[dense], name, None) for name in loops)
    assert configs["official"].sparse.variant == "official"
    assert configs["official"].masked_ce
    assert not configs["official-mask"].masked_ce
    assert configs["dense+frozen"].sparse.freeze_bn_bias
    assert configs["dense+frozen"].sparse.weight_density == 1.0
    assert [row.id for row in confounders(suspects=["mask"]).rows] == ["dense", "sparse", "dense+mask", "sparse+mask"]
    with pytest.raises(ValueError, match="suspects: got \\['loss'\\]"):
        confounders(suspects=["loss"])
    assert configs["dense"].key == table3(profile="lite").configs(table3().row("none"), 1)[0].key


def test_rows_that_decide_a_claim_have_ten_seeds():
    for claim in claims("sparcl"):
        if claim.rule in ("above", "not_below"):
            rows = {row.id: row for row in EXPERIMENTS[claim.experiment]().rows}
            seeds = 5 if claim.id == "er-accuracy" else 10  # the rows of ER have fewer
            assert {rows[name].seeds for pair in claim.comparisons for name in pair} == {seeds}, claim.id


@pytest.mark.parametrize("item", EXPERIMENTS.values())
def test_rows_are_distinct_runs_compared_with_rows_of_the_table(item):
    experiment = item(profile="smoke")
    keys = [experiment.configs(row, 1)[0].key for row in experiment.rows]
    assert len(set(keys)) == len(keys)
    for row in experiment.rows:
        assert row.against is None or experiment.row(row.against).id == row.against != row.id


@pytest.mark.parametrize("profile", PROFILES)
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
    for name, needed in (
        ("fdr-200", 5),
        ("er-200", 5),
        ("der++-200", 10),
        ("sparcl-er-0.90-200", 5),
        ("sparcl-der++-0.95-500", 10),
        ("sgd", 5),
    ):
        for asked in (1, 5, 7, 100):
            configs = experiment.configs(experiment.row(name), asked)
            assert [c.seed for c in configs] == list(range(min(asked, needed)))
    assert {row.id: row.seeds for row in table3().rows} == {row.id: 10 if row.id in PRINTED else 5
                                                            for row in table3().rows}  # fmt: skip


def test_values_of_a_row_win_over_shared_ones_and_reach_the_configuration():
    experiment = Experiment("x", "sparcl", "table1", (Row("a", "A", {"buffer_size": 50}),), {"profile": "smoke"})
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
    return Experiment("x", "sparcl", "table1", rows, tiny)


def test_stored_trains_nothing_and_reads_what_is_there(tmp_path, monkeypatch):
    experiment, store = two_rows(), Store(tmp_path / "store")
    empty = experiment.stored(seeds=2, store=store)
    assert empty.empty
    assert list(empty.columns) == ["row", "method", "seed", *Training.columns, *RECORD]
    assert not store.root.exists()
    config = experiment.configs(experiment.row("a"), 2)[1]
    result = run(config, store=store)
    monkeypatch.setattr(Training, "compute", lambda *_: pytest.fail("trained"))
    (line,) = experiment.stored(seeds=2, store=store).to_dict("records")
    assert (line["row"], line["method"], line["seed"], line["key"]) == ("a", "A", 1, config.key)
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
