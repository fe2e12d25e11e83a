"""The record of tuning: equal chances, no choice on an edge, and the choices are those of the `lite` profile."""

from pathlib import Path

import pandas as pd
import pytest

from sparcl_lite import RunConfig
from sparcl_lite.papers.lightcl.tables import table1

FOLDER = Path(__file__).parent.parent / "results" / "tuning"
TUNED = ["lr", "alpha", "beta", "penalty"]
LITE, LIGHTCL = (pd.read_csv(FOLDER / f"{stream}.csv") for stream in ("lite", "lightcl"))
TABLE = table1(profile="lite")
TO_COME = {"sparcl-er-0.90-15", "sparcl-der++-0.90-15"}
FAMILIES = {"lightcl": LIGHTCL.groupby("family", sort=False)}  # of each stream


def parameters(group):
    return [name for name in TUNED if name in group and group[name].notna().all()]


def best_of(table):
    return table[table["best"]].to_dict("records")


@pytest.mark.parametrize("row", best_of(LITE), ids=lambda row: row["method"])
def test_lite_uses_the_best_of_its_grid(row):
    given = {"profile": "lite", "method": row["method"]}
    if row["buffer_size"] == row["buffer_size"]:
        given["buffer_size"] = int(row["buffer_size"])
    config = RunConfig(**given)
    for name in set(TUNED) & set(row):
        if row[name] == row[name]:
            assert getattr(config, name) == row[name], name


def test_every_method_and_buffer_has_one_best_candidate():
    counts = LITE.groupby(["method", "buffer_size"], dropna=False)["best"].sum()
    assert (counts == 1).all()
    assert len(counts) == 18


@pytest.mark.parametrize("row", best_of(LIGHTCL), ids=lambda row: row["family"])
def test_rows_of_lightcls_table_use_their_best_candidate(row):
    (config,) = TABLE.configs(TABLE.row(row["family"]), 1)
    for name in TUNED:
        assert row[name] != row[name] or getattr(config, name) == row[name], name


def test_every_row_of_lightcls_table_is_tuned():
    assert set(LIGHTCL["family"]) == {row.id for row in TABLE.rows} - TO_COME


@pytest.mark.parametrize("stream", FAMILIES)
def test_all_families_of_a_table_have_equally_many_candidates_and_one_best(stream):
    sizes = FAMILIES[stream].size()
    assert sizes.nunique() == 1, sizes.to_dict()
    assert (FAMILIES[stream]["best"].sum() == 1).all()
    assert FAMILIES[stream].apply(lambda g: not g[parameters(g)].duplicated().any()).all(), "a candidate counts twice"


@pytest.mark.parametrize(("stream", "family"), [(s, f) for s, groups in FAMILIES.items() for f in groups.groups])
def test_no_choice_is_on_an_edge_of_what_was_tried(stream, family):
    group = FAMILIES[stream].get_group(family)
    (best,) = best_of(group)
    for name in parameters(group):
        tried = group[name]
        assert tried.nunique() == 1 or tried.min() < best[name] < tried.max(), (name, best[name])


@pytest.mark.parametrize("stream", FAMILIES)
def test_the_best_candidate_is_the_most_accurate(stream):
    for _, group in FAMILIES[stream]:
        (best,) = best_of(group)
        measured = ["class_il", "task_il"] if group["class_il"].notna().all() else ["task_il"]
        assert tuple(best[name] for name in measured) == max(group[measured].itertuples(index=False, name=None))
