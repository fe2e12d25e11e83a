"""The record of tuning: equal chances, no choice on an edge, and the choices are those of the `lite` profile."""

import importlib.util
import re
import sys
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

from sparcl_lite.papers.clfd import tables as clfd
from sparcl_lite.papers.clfd.frontier import frontier
from sparcl_lite.papers.lightcl import tables as lightcl
from sparcl_lite.papers.sparcl import tables as sparcl

FOLDER = Path(__file__).parent.parent / "results" / "tuning"
TUNED = ["lr", "alpha", "beta", "penalty"]
RECORDS = {stream: pd.read_csv(FOLDER / f"{stream}.csv") for stream in ("lite", "lightcl", "desk", "lightcl-desk")}
WHOLE = ("lite", "lightcl")  # streams of which every row is tuned
# There only some rows are tuned so far, these among them: runs are long.
AT_DESK = {
    "desk": {"er", "sparcl-er-0.95", "snip-der++-0.90", "rigl-der++-0.95", "clfd-er"},
    "lightcl-desk": {"er-15", "lightcl-15"},
}
FAMILIES = [(stream, family) for stream, record in RECORDS.items() for family in record["family"].unique()]
EXPERIMENTS = {
    "lite": [sparcl.table1(profile="lite"), sparcl.table2(profile="lite")],
    "lightcl": [lightcl.table1(profile="lite")],
    "desk": [make(profile="desk") for make in (sparcl.table1, sparcl.table2, clfd.tables, frontier)],
    "lightcl-desk": [lightcl.table1(profile="desk")],
}


def family_of(stream, row):
    """A row's family: SparCL's rows are tuned whatever their buffer and loss."""
    plain = row.id.partition(sparcl.MASKED)[0]
    return plain if stream.startswith("lightcl") else re.sub(r"(-less)?-\d+$", "", plain)


def candidates(stream, family):
    record = RECORDS[stream]
    return record[record["family"] == family].dropna(axis="columns", how="all")


def score(group):
    return group[group.columns.intersection(["class_il", "task_il"])].mean(axis=1)


def chosen(stream, family):
    group = candidates(stream, family)
    (best,) = group[group["best"]].to_dict("records")
    return best


@pytest.mark.parametrize("stream", WHOLE)
def test_every_row_of_the_tables_is_tuned_with_equally_many_candidates(stream):
    tuned = {family_of(stream, row) for experiment in EXPERIMENTS[stream] for row in experiment.rows}
    counts = {family: len(candidates(stream, family)) for family in tuned}
    assert set(RECORDS[stream]["family"]) == tuned
    assert len(set(counts.values())) == 1, counts
    assert min(counts.values()) >= 5


@pytest.mark.parametrize(("stream", "family"), FAMILIES)
def test_no_candidate_counts_twice_and_no_choice_is_on_an_edge_of_what_was_tried(stream, family):
    group, best = candidates(stream, family), chosen(stream, family)
    names = [name for name in TUNED if name in group]
    assert not group[names].duplicated().any()
    for name in names if stream in WHOLE else ():
        assert group[name].nunique() == 1 or group[name].min() < best[name] < group[name].max(), (name, best[name])


@pytest.mark.parametrize(("stream", "family"), FAMILIES)
def test_the_choice_has_the_highest_mean_of_both_accuracies(stream, family):
    group = candidates(stream, family)
    assert score(group)[group["best"]].item() == pytest.approx(score(group).max())


@pytest.mark.parametrize("stream", AT_DESK)
def test_at_desk_rows_have_equally_many_candidates_and_seeds_as_far_as_they_are_tuned(stream):
    record = RECORDS[stream]
    assert AT_DESK[stream] <= set(record["family"])
    assert record.groupby("family").size().nunique() == 1
    assert record["seeds"].nunique() == 1


@pytest.mark.parametrize("stream", RECORDS)
def test_the_tables_rows_use_what_was_chosen(stream):
    for experiment in EXPERIMENTS[stream]:
        for row in experiment.rows:
            if (family := family_of(stream, row)) not in set(RECORDS[stream]["family"]):
                assert stream not in WHOLE
                continue
            best, (config,) = chosen(stream, family), experiment.configs(row, 1)
            assert config.lr == best["lr"], row.id
            if stream == "lightcl":  # there the terms' own weights are tuned too
                assert all(getattr(config, name) == best[name] for name in TUNED if name in best), row.id


def module():
    spec = importlib.util.spec_from_file_location("tune", FOLDER.parent.parent / "tools" / "tune.py")
    tune = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(FOLDER.parent.parent / "tools"))
    spec.loader.exec_module(tune)
    return tune


@pytest.mark.parametrize("stream", RECORDS)
def test_what_is_on_record_is_what_the_tool_tries(stream):
    tune, record = module(), RECORDS[stream]
    way = tune.STREAMS[stream]
    for family in record["family"].unique():
        group, tried = candidates(stream, family), way.candidates(family, way.rates)
        best = group.loc[score(group.iloc[: way.rates]).idxmax(), "lr"]
        columns = pd.DataFrame([columns for columns, _ in (*tried, *way.refined(family, best))])
        assert set(columns) == set(group.columns.intersection(["family", *TUNED]))
        for name in columns.columns.drop("family"):
            assert sorted(columns[name]) == pytest.approx(sorted(group[name])), (family, name)
        assert set(group["seeds"]) == {way.seeds}


def test_at_desk_every_row_is_tried_at_equally_many_rates_around_the_published_one():
    tune = module()
    rows = [row for experiment in EXPERIMENTS["desk"] for row in experiment.rows]
    families = {family_of("desk", row) for row in rows}
    assert families <= set(tune.DESK)
    few, more = ([c for family in tune.DESK for c in tune.around_published(family, rates)] for rates in (3, 5))
    assert {tuple(columns.items()) for columns, _ in few} < {tuple(columns.items()) for columns, _ in more}
    by_family = pd.DataFrame([columns for columns, _ in few]).groupby("family")["lr"].apply(list)
    assert (by_family["er"], by_family["clfd-der++"]) == ([0.033, 0.1, 0.3], [0.01, 0.03, 0.09])
    assert set(by_family.map(len)) == {3}


def test_rows_of_lightcls_table_are_tried_at_desk_around_the_rate_of_lite_on_their_own_stream():
    tune, lite = module(), lightcl.table1(profile="lite")
    tried = [candidate for row in ("sgd", "lightcl-15") for candidate in tune.around_lite(row, 3)]
    rates = [lite.configs(lite.row(row), 1)[0].lr for row in ("sgd", "lightcl-15")]
    expected = [
        (row, pytest.approx(rate * by, rel=0.05))
        for row, rate in zip(("sgd", "lightcl-15"), rates, strict=True)
        for by in (1 / 3, 1, 3)
    ]
    assert [(columns["family"], columns["lr"]) for columns, _ in tried] == expected
    for _, fields in tried:
        assert (fields["profile"], fields["pretraining"], fields["masked_ce"]) == ("desk", "disjoint", True)


def test_the_cost_of_tuning_is_said_before_anything_is_trained(monkeypatch, capsys):
    tune = module()

    def called(*arguments):
        monkeypatch.setattr(sys, "argv", ["tune.py", *arguments])
        with suppress(SystemExit):
            tune.main()
        return capsys.readouterr()

    said = called("desk", "clfd-er", "--rates", "1", "--seeds", "2", "--cost").out
    assert re.search(r"^clfd-er +0\.\d\d\ncore-hours +0\.\d\d$", said.strip())
    assert "no grid for nothing; allowed: sgd, joint, er" in called("desk", "nothing").err
    assert "the cost of lite is not known; allowed: desk, lightcl-desk" in called("lite", "--cost").err
