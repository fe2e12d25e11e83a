"""The frontier: its rows, what they were measured to cost, which of them none beats, and what fits a budget."""

import numpy as np
import pandas as pd
import pytest

from sparcl_lite.bench.cost import cost
from sparcl_lite.papers.claims import claims
from sparcl_lite.papers.clfd.costs import on_front, points, within
from sparcl_lite.papers.clfd.frontier import family_of, frontier
from sparcl_lite.papers.clfd.tables import tables
from sparcl_lite.papers.measured import ROUNDS, benchmarks, cost_rounds
from sparcl_lite.papers.registry import judge_claims
from sparcl_lite.papers.sparcl.tables import table1
from sparcl_lite.report.budget import answer, costs_table, goal
from sparcl_lite.report.figures import pareto
from sparcl_lite.runs.benchmark import Measurement
from sparcl_lite.runs.store import Store


def made_up(**families):
    """Reports of two rounds: seconds and megabytes of each family."""
    return [
        {
            "seconds": {name: value[0] * factor for name, value in families.items()},
            "peak_bytes": {name: 1e6 * value[1] for name, value in families.items()},
            "environment": {"processor": "a processor", "commit": "abc"},
        }
        for factor in (1.0, 1.1)
    ]


EXPERIMENT = frontier(profile="lite", methods=("er",), sparsities=(0.9,))
COSTS = {"sgd": (50, 90), "er": (120, 100), "sparcl-er-0.90": (60, 70), "clfd-er": (30, 30),
         "clfd-sparcl-er-0.90": (10, 20), "clfd-sparcl-er-0.90-less": (6, 20)}  # fmt: skip
ACCURACY = {"sgd": 20, "er": 50, "sparcl-er-0.90": 52, "clfd-er": 60, "clfd-sparcl-er-0.90": 55,
            "clfd-sparcl-er-0.90-less": 49}  # fmt: skip


def found(more=0):
    """The points of two seeds a row, and of so many more of CLFD-ER, which dense ER does not have."""
    frame = pd.DataFrame(
        {"row": f"{family}-200", "seed": seed, "class_il": accuracy + seed}
        for family, accuracy in ACCURACY.items()
        for seed in range(2 + more * (family == "clfd-er"))
    )
    return points(EXPERIMENT, frame, made_up(**COSTS))


def test_rows_are_each_method_plain_sparse_with_clfd_and_both():
    rows = {row.id: row for row in frontier(profile="desk").rows}
    assert len(rows) == 1 + 3 * (3 + 3 + 1)
    keys = {frontier(profile="desk").configs(row, 1)[0].key for row in rows.values()}
    assert len(keys) == len(rows)
    both = rows["clfd-sparcl-er-ace-0.95-200"].values
    assert (both["clfd"].ffe, both["sparse"].sparsity, both["method"]) == (True, 0.95, "er-ace")
    less = rows["clfd-sparcl-er-ace-0.95-less-200"].values
    assert less["sparse"] == both["sparse"].model_copy(update={"removal": 0.6})
    core = table1(profile="desk")
    for name in ("er-200", "der++-200", "sparcl-er-0.95-200", "sgd"):
        row = rows.get(name) or rows["sgd-200"]
        assert frontier(profile="desk").configs(row, 1)[0].key == core.configs(core.row(name), 1)[0].key


def test_savings_are_ratios_within_a_round_to_dense_er():
    line = found().set_index("family").loc["clfd-er"]
    assert line["seconds"] == pytest.approx(31.5)
    assert (line["seconds_saved"], line["megabytes_saved"]) == pytest.approx((4.0, 100 / 30))
    assert line["seconds_saved_low"] == pytest.approx(line["seconds_saved_high"])  # the rounds differ, ratios do not
    assert (line["difference"], line["n"]) == (10.0, 2)


def test_a_difference_says_when_fewer_seeds_have_both_rows_than_one():
    shown = costs_table(EXPERIMENT, found(more=1), made_up(**COSTS)[0]).frame.set_index("method")
    assert (shown.loc["CLFD-ER", "against ER"], shown.loc["CLFD-ER", "n"]) == ("+10.0 ± 0.0, n 2", 3)
    assert shown.loc["SparCL-ER 0.90", "against ER"] == "+2.0 ± 0.0"
    assert shown.loc["ER", "against ER"] == "-"


def test_the_front_is_what_no_other_beats():
    table = found()
    assert set(table.loc[table["front"], "family"]) == {"clfd-er", "clfd-sparcl-er-0.90", "clfd-sparcl-er-0.90-less"}
    rng = np.random.default_rng(0)
    drawn = pd.DataFrame(rng.integers(0, 5, (40, 3)), columns=["class_il", "seconds", "megabytes"])
    for place, one in drawn.iterrows():
        beaten = any(
            other["class_il"] >= one["class_il"]
            and (other[["seconds", "megabytes"]] <= one[["seconds", "megabytes"]]).all()
            and not other.equals(one)
            for _, other in drawn.iterrows()
        )
        assert on_front(drawn)[place] == (not beaten)


def test_what_to_train_on_a_budget():
    table = found()
    assert answer(table, 40, 1000).startswith("40 s and 1000 MB: train CLFD-ER: 60.5")
    assert "train CLFD-SparCL-ER 0.90: 55.5" in answer(table, 40, 25)
    assert answer(table, 2, 25).startswith("2 s and 25 MB: nothing fits; the quickest is CLFD-SparCL-ER 0.90, 60%")
    assert [*within(table, 70, 80)["family"]] == [
        "clfd-er", "clfd-sparcl-er-0.90", "sparcl-er-0.90", "clfd-sparcl-er-0.90-less"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("faster", "low", "high", "outcome"),
    [(11.9, 1.0, 2.0, "not reached"), (12.1, 0.0, 2.0, "reached"), (12.1, -1.0, 2.0, "inconclusive"),
     (12.1, -2.0, -1.0, "not reached")],
)  # fmt: skip
def test_the_goal_is_reached_by_the_interval_of_a_fast_row(faster, low, high, outcome):
    table, fast = found(), found()["family"] == "clfd-sparcl-er-0.90-less"
    table["seconds_saved"] = np.where(fast, faster, 2.0)
    table.loc[fast, ["difference", "difference_low", "difference_high"]] = (low + high) / 2, low, high
    said = goal(table)
    assert said.startswith(f"12x faster than dense ER and not less accurate: {outcome}. CLFD-SparCL-ER 0.90, 60%")
    assert said.endswith(f", {(low + high) / 2:+.1f} ± {(high - low) / 2:.1f} points of Class-IL, n 2.")


def test_the_table_and_the_figure_show_every_row():
    table = found()
    shown = costs_table(EXPERIMENT, table, made_up(**COSTS)[0])
    assert [*shown.frame["method"]] == [row.label for row in EXPERIMENT.rows]
    assert shown.frame.set_index("method").loc["CLFD-ER", "times faster"] == "4.0 ± 0.0"
    figure, drawn = pareto(EXPERIMENT, table)
    assert len(drawn) == len(EXPERIMENT.rows)
    names = figure.axes[0].texts[-1]
    assert names.get_text().startswith("1 CLFD-SparCL-ER 0.90, 60% of data removed\n2 CLFD-SparCL-ER 0.90\n3 CLFD-ER")
    figure.canvas.draw()
    assert names.get_window_extent().y0 > 0  # nothing is cut, and nothing lies on the points
    assert names.get_window_extent().y1 < figure.axes[0].xaxis.label.get_window_extent().y0


def test_claims_of_time_and_memory_look_at_the_rounds(tmp_path):
    store = Store(tmp_path)
    experiment = benchmarks().narrowed(["frontier-smoke"])
    for config, report in zip(experiment.configs(experiment.rows[0], 2), made_up(**COSTS), strict=True):
        store.put(Measurement(config=config, report=report, finished=""))
    assert len(cost_rounds(store, "smoke")) == 2
    assert cost_rounds(store, "desk") == []
    judged = judge_claims({"clfd_tables": tables(profile="smoke")}, {}, store)
    by_id = {entry.claim.id: entry for entry in judged}
    assert by_id["speed"].evidence[0].effect.mean == pytest.approx(4.0)
    assert (by_id["speed"].verdict, by_id["memory"].verdict) == ("reproduced", "reproduced")
    elsewhere = judge_claims({"clfd_tables": tables(profile="desk")}, {}, store)
    assert {e.verdict for e in elsewhere if e.claim.rule.startswith("measured")} == {"not testable here"}


def test_every_claim_of_a_cost_is_of_rows_that_are_measured():
    families = {family_of(row.id) for row in frontier().rows}
    for claim in claims("clfd"):
        if claim.rule in ("measured_cost", "measured_memory"):
            assert {family_of(row) for pair in claim.comparisons for row in pair} <= families


@pytest.mark.slow
def test_costs_are_those_of_whole_runs_in_processes_of_their_own():
    report = cost(profile="smoke", families=("er", "clfd-sparcl-er-0.95"))
    assert set(report["seconds"]) == set(report["peak_bytes"]) == {"er", "clfd-sparcl-er-0.95"}
    assert report["steps"]["er"] > report["steps"]["clfd-sparcl-er-0.95"] > 0  # it removes data
    assert all(value > 0 for kind in ("seconds", "peak_bytes") for value in report[kind].values())
    assert ROUNDS > 1
