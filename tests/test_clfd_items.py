"""CLFD's tables as experiments: the paper's rows and numbers, distinct runs, claims that can be decided."""

import pandas as pd
import pytest

from sparcl_lite.config import PROFILES
from sparcl_lite.papers.claims import claims
from sparcl_lite.papers.clfd.experiments import EXPERIMENTS
from sparcl_lite.papers.clfd.figures import with_and_without
from sparcl_lite.papers.clfd.tables import ablation, gain_of_sparcl, tables
from sparcl_lite.papers.differences import printed_difference
from sparcl_lite.papers.judge import judge
from sparcl_lite.papers.reference import reference
from sparcl_lite.papers.registry import deciding
from sparcl_lite.papers.sparcl.studies import attribution
from sparcl_lite.papers.sparcl.tables import table1

METHODS = ("er", "der++", "er-ace")
OURS = {"er-50+mask", "sparcl-er-0.75-50+mask", "sparcl-er-0.75-50+mask-ddr"}


def test_the_tables_have_the_papers_rows_and_the_masked_loss():
    rows = {row.id for row in tables().rows}
    table1_rows = {f"{clfd}{method}-{buffer}" for clfd in ("", "clfd-") for method in METHODS for buffer in (50, 125)}
    assert set(reference("clfd", "tables")["row"]) == table1_rows | {"sparcl-er-0.75-50", "clfd-sparcl-er-0.75-50"}
    assert rows == set(reference("clfd", "tables")["row"]) | OURS


def test_the_ablation_has_the_papers_rows():
    assert {row.id for row in ablation().rows} == set(reference("clfd", "ablation")["row"])


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("item", EXPERIMENTS.values())
def test_rows_are_distinct_runs_compared_with_rows_of_the_table(item, profile):
    experiment = item(profile=profile)
    keys = [experiment.configs(row, 1)[0].key for row in experiment.rows]
    assert len(set(keys)) == len(keys)
    for row in experiment.rows:
        assert row.against is None or experiment.row(row.against).id == row.against != row.id


def test_both_experiments_share_their_common_runs():
    one, two = (item(profile="desk") for item in (tables, ablation))
    same = {"none": "er-50", "both": "clfd-er-50", "ffe-der++": "clfd-der++-50", "kept-er-ace-0.6": "clfd-er-ace-50"}
    for a, b in same.items():
        assert two.configs(two.row(a), 1)[0].key == one.configs(one.row(b), 1)[0].key


def test_rows_differ_from_what_they_are_compared_with_in_one_thing():
    experiment = tables()
    for row in experiment.rows:
        if row.id.startswith("clfd-"):
            plain = experiment.row(row.against)
            assert {**row.values, "clfd": None} == {**plain.values, "clfd": None}
    masked, whole = (experiment.row(f"sparcl-er-0.75-50+mask{end}").values for end in ("", "-ddr"))
    assert masked["sparse"].model_copy(update={"ddr": False}) == whole["sparse"]
    assert masked["masked_ce"]
    assert whole["masked_ce"]


def test_parts_and_bands_are_those_of_the_name():
    rows = {row.id: row.values.get("clfd") for row in ablation().rows}
    assert rows["none"] is None
    assert [(rows[name].ffe, rows[name].cffs) for name in ("ffe", "cffs", "both")] == [
        (True, False), (False, True), (True, True)
    ]  # fmt: skip
    assert [rows[band].band for band in ("ll", "lh", "hl", "hh", "ffe-der++")] == ["ll", "lh", "hl", "hh", "all"]
    assert rows["kept-er-0.3"].kept == rows["kept-er-ace-0.3"].kept == 0.3


def test_the_papers_gain_of_sparcl_with_fifty_samples():
    assert printed_difference(tables(), "sparcl-er-0.75-50", "er-50", "class_il").value == pytest.approx(14.32)


def test_the_weights_of_terms_are_the_papers():
    experiment = tables(profile="desk")
    alphas = {b: experiment.configs(experiment.row(f"der++-{b}"), 1)[0].alpha for b in (50, 125)}
    assert alphas == {50: 0.1, 125: 0.2}


def test_claims_compare_rows_that_there_are():
    for claim in claims("clfd"):
        rows = {row.id for row in EXPERIMENTS[claim.experiment]().rows}
        assert {row for pair in claim.comparisons for row in pair} <= rows, claim.id


def test_a_quarter_of_the_input_costs_a_quarter():
    listed = [claim for claim in claims("clfd") if claim.rule == "honest_flops"]
    alone, with_sparcl = judge(listed, {"clfd_tables": tables()}, {})
    assert alone.evidence[0].effect.mean == pytest.approx(4.0, rel=0.02)
    assert with_sparcl.evidence[0].effect.mean > 18.5


def test_rows_that_decide_a_claim_can_be_run_first():
    core = table1(profile="desk")
    assert {row.id for row in core.rows if row.values["method"] not in ("er", "der++")} == {"sgd", "joint"}
    first = core.narrowed(deciding(core))
    names = ["er", "sparcl-er-0.75", "der++", *(f"sparcl-der++-{level}" for level in ("0.75", "0.90", "0.95"))]
    assert {row.id for row in first.rows} == {f"{name}-{buffer}" for name in names for buffer in (200, 500)}
    assert [row.id for row in core.narrowed(["sgd", "der++-?00"]).rows] == ["sgd", "der++-200", "der++-500"]


def gains(**rows):
    """Class-IL of rows at two seeds."""
    return pd.DataFrame(
        {"row": row, "seed": seed, "class_il": value + seed} for row, value in rows.items() for seed in (0, 1)
    )


def test_the_gain_is_split_into_masked_loss_sparsity_and_fewer_data():
    frame = gains(**{"er-50": 30.0, "er-50+mask": 38.0, "sparcl-er-0.75-50+mask-ddr": 37.0,
                     "sparcl-er-0.75-50+mask": 41.0, "er-ace-50": 39.0})  # fmt: skip
    parts = gain_of_sparcl(tables(), frame)
    assert [*parts["difference"]] == [11.0, 8.0, -1.0, 4.0, 9.0]
    said = "a gain as published; what raises accuracy here: the masked loss and fewer data"
    assert parts.attrs["verdict"] == said


def test_without_the_row_on_all_data_sparsity_and_fewer_data_are_one_part():
    parts = attribution(gains(**{"dense": 30.0, "dense+mask": 29.0, "sparse+mask": 28.0}))
    assert [*parts["difference"]] == [-2.0, -1.0, -1.0]
    assert parts.attrs["verdict"].endswith("neither the masked loss nor sparsity and fewer data")


@pytest.mark.parametrize("row", ["er-50", "er-50+mask", "sparcl-er-0.75-50+mask"])
def test_the_split_says_where_a_row_has_no_runs(row):
    rows = {"er-50": 30.0, "er-50+mask": 38.0, "sparcl-er-0.75-50+mask-ddr": 37.0, "sparcl-er-0.75-50+mask": 41.0}
    parts = gain_of_sparcl(tables(), gains(**{name: value for name, value in rows.items() if name != row}))
    assert len(parts) < len(rows)
    assert (parts.attrs["complete"], parts.attrs["verdict"]) == (False, "not known: some rows have no runs")
    alone = gain_of_sparcl(tables(), gains(**{row: 30.0}))
    assert alone.empty
    assert not alone.attrs["complete"]


@pytest.mark.parametrize(
    ("counts", "title"),
    [
        ((), "here: smoke, digits, no runs"),
        ((1, 1), "here: smoke, digits, n 1"),
        ((2, 3), "here: smoke, digits, n 2 to 3 (95 %)"),
    ],
)
def test_the_figure_says_what_its_own_runs_are_of(counts, title):
    counts = dict(zip(["er-50", "clfd-er-50"], counts, strict=False))
    runs = [{"row": row, "class_il": 20.0 + n} for row, count in counts.items() for n in range(count)]
    figure, _ = with_and_without(tables(profile="smoke"), pd.DataFrame(runs, columns=["row", "class_il"]))
    assert [ax.get_title() for ax in figure.axes] == ["paper, cifar10 (± std)", title]
