"""Verdicts follow from the runs by the written rules, and no claim reads better than its evidence."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from sparcl_lite.measure.statistics import Interval
from sparcl_lite.papers.claims import NOT, PARTLY, REPRODUCED, UNTESTABLE, Claim, claims, judge, paired
from sparcl_lite.papers.experiments import Experiment, Row
from sparcl_lite.papers.sparcl.experiments import EXPERIMENTS
from sparcl_lite.papers.sparcl.judge import STEPS, judge_claims
from sparcl_lite.papers.sparcl.tables import table1, table3
from sparcl_lite.report.tables import direction_verdict, scoreboard, verdict_line
from sparcl_lite.store import Store

BASE = [70.0, 71.0, 72.0, 73.0]
EXPERIMENT = Experiment("made_up", "sparcl", "table1", "", tuple(Row(name, name, {}) for name in "abcd"))


def frame_of(metric="class_il", **rows):
    """Runs of made-up rows; each row's values by seed."""
    lines = [
        {"row": row, "seed": seed, "class_il": 0.0, "flops_honest": 1.0, metric: value}
        for row, values in rows.items()
        for seed, value in (values.items() if isinstance(values, dict) else enumerate(values))
    ]
    return pd.DataFrame(lines)


def plus(*differences):
    return [base + difference for base, difference in zip(BASE, differences, strict=True)]


def claim_of(rule="above", comparisons=(("a", "b"),), **more):
    given = {"id": "x", "statement": "s", "source": "t", "experiment": "made_up"} | more
    return Claim(rule=rule, comparisons=comparisons, **given)


def verdict(claim, frame):
    (judged,) = judge([claim], {"made_up": EXPERIMENT}, {"made_up": frame})
    return judged


# Differences 0.5, 1.5, 0.5, 1.5: mean 1, standard error sqrt(1/3)/2, t(0.975, 3) = 3.18245, so 1 +- 0.91870.
AROUND_ONE = (0.5, 1.5, 0.5, 1.5)
HALF = 0.91870


@pytest.mark.parametrize(
    ("rule", "margin", "shift", "expected"),
    [
        ("above", 0.0, 0.0, REPRODUCED),  # 0.081 to 1.919
        ("above", 0.0, -0.5, PARTLY),  # -0.419 to 1.419
        ("above", 0.0, -1.5, NOT),
        ("above", 0.5, 0.0, PARTLY),
        ("above", 1.5, 0.0, NOT),
        ("not_below", 1.0, -1.0, REPRODUCED),  # mean 0, low -0.919
        ("not_below", 0.5, -1.0, PARTLY),
        ("not_below", 0.5, -2.0, NOT),
        ("not_below", 0.0, 0.0, REPRODUCED),
    ],
)
def test_the_interval_against_the_margin_decides(rule, margin, shift, expected):
    judged = verdict(claim_of(rule, margin=margin), frame_of(a=plus(*(d + shift for d in AROUND_ONE)), b=BASE))
    effect = judged.evidence[0].effect
    assert judged.verdict == expected
    assert (effect.mean, effect.low, effect.high) == pytest.approx(
        (1 + shift, 1 + shift - HALF, 1 + shift + HALF), abs=1e-4
    )
    assert effect.n == 4


def test_p_is_that_of_the_bound_which_decides():
    below = frame_of(a=plus(-0.9, -0.8, -0.9, -0.8), b=BASE)
    (evidence,) = verdict(claim_of("not_below", margin=1.0), below).evidence
    assert evidence.outcome == REPRODUCED
    assert evidence.p == 2 / 16  # all four above -1, though all below 0
    (evidence,) = verdict(claim_of("not_below", margin=0.85), below).evidence
    assert evidence.p == 1.0


def test_one_seed_decides_nothing():
    judged = verdict(claim_of(), frame_of(a=[80.0], b=[70.0]))
    assert (judged.verdict, judged.reason) == (UNTESTABLE, "one seed: no interval")
    assert judged.evidence[0].p is None
    assert "+10.0 (one seed: no interval)" in scoreboard([judged]).frame.loc[0, "measured"]


@pytest.mark.parametrize("rule", ["above", "flops_below"])
@pytest.mark.parametrize("frame", [pd.DataFrame(), frame_of(a=BASE), frame_of(a={0: 1.0, 1: 2.0}, b={2: 1.0})])
def test_missing_runs_decide_nothing(rule, frame):
    judged = verdict(claim_of(rule), frame)
    assert (judged.verdict, judged.reason) == (UNTESTABLE, "no runs of both rows")
    assert math.isnan(judged.evidence[0].effect.mean)
    assert "no runs of both rows" in scoreboard([judged]).frame.loc[0, "measured"]


def test_an_experiment_without_frame_and_a_row_it_lacks_decide_nothing():
    (judged,) = judge([claim_of()], {"made_up": EXPERIMENT}, {})
    assert judged.verdict == UNTESTABLE
    for rule in ("above", "flops_ratio"):
        judged = verdict(claim_of(rule, [("a", "nowhere")], ratio=2.0), frame_of(a=BASE, b=BASE))
        assert (judged.verdict, judged.reason) == (UNTESTABLE, "no row nowhere in this experiment")


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (AROUND_ONE, AROUND_ONE, REPRODUCED),
        (AROUND_ONE, (-1, -1, -1, -1), PARTLY),  # one of two holds
        (AROUND_ONE, (2, -1, 2, -1), PARTLY),
        ((2, -1, 2, -1), (2, -1, 2, -1), PARTLY),
        ((2, -1, 2, -1), (-1, -1, -1, -1), NOT),  # none holds, one is on the other side
        ((-1, -1, -1, -1), (-1, -1, -1, -1), NOT),
    ],
)
def test_several_comparisons(first, second, expected):
    frame = frame_of(a=plus(*first), b=BASE, c=plus(*second))
    assert verdict(claim_of(comparisons=[("a", "b"), ("c", "b")]), frame).verdict == expected


def test_a_comparison_without_runs_leaves_the_claim_open():
    frame = frame_of(a=plus(*AROUND_ONE), b=BASE)
    assert verdict(claim_of(comparisons=[("a", "b"), ("c", "b")]), frame).verdict == UNTESTABLE


def test_seeds_are_matched_as_pairs():
    a, b = {0: 1.0, 1: 20.0, 2: 300.0, 7: 5.0}, {2: 299.0, 1: 19.5, 0: 0.0, 5: 9.0}
    shuffled = frame_of(a=a, b=b, c=BASE).sample(frac=1, random_state=0)
    left, right = paired(shuffled, "a", "b", "class_il")
    assert (left - right).tolist() == [1.0, 0.5, 1.0]
    assert verdict(claim_of(), shuffled).evidence[0].effect.n == 3


def test_holm_covers_all_tests_of_the_list():
    frame = frame_of(a=plus(*AROUND_ONE), b=BASE, c=plus(2, -1, 2, -1))
    listed = [claim_of(), claim_of(comparisons=[("c", "b"), ("d", "b")]), claim_of("flops_below")]
    judged = judge(listed, {"made_up": EXPERIMENT}, {"made_up": frame})
    tested = [e for entry in judged for e in entry.evidence if e.p is not None]
    # signs of 0.5, 1.5, 0.5, 1.5: all or none; of 2, -1, 2, -1: 12 of 16 sums reach 2
    assert [e.p for e in tested] == [2 / 16, 12 / 16]
    assert [e.p_holm for e in tested] == [4 / 16, 12 / 16]


@pytest.mark.parametrize(
    ("ratios", "expected", "text"),
    [
        ([0.8, 0.8], REPRODUCED, "-20.0 % honest FLOPs, the same in every run, n 2"),
        ([0.8], REPRODUCED, "n 1"),
        ([0.7, 0.9], REPRODUCED, "-20.0 % honest FLOPs, from -30.0 to -10.0, n 2"),
        ([0.5, 1.1], NOT, "from -50.0 to +10.0"),
        ([1.0, 1.0], NOT, "+0.0"),
    ],
)
def test_flops_below_holds_in_every_run_or_not_at_all(ratios, expected, text):
    frame = frame_of("flops_honest", a=[2 * r for r in ratios], b=[2.0] * len(ratios))
    judged = verdict(claim_of("flops_below"), frame)
    assert judged.verdict == expected
    assert text in judged.evidence[0].note


def test_flops_ratio_is_that_of_the_papers_size_whatever_was_run():
    (claim,) = [c for c in claims("sparcl") if c.id == "flops-23x"]
    experiment = table1(profile="smoke")
    (judged,) = judge([claim], {"sparcl_table1": experiment}, {})
    assert [e.effect.mean for e in judged.evidence] == pytest.approx([22.47, 22.47], abs=0.01)
    assert [e.a for e in judged.evidence] == ["sparcl-der++-0.95-200", "sparcl-der++-0.95-500"]
    assert judged.verdict == REPRODUCED
    assert "counted honestly" in judged.evidence[0].note
    for ratio, expected in ((22.4 / 0.95, REPRODUCED), (22.6 / 0.95, NOT)):
        (judged,) = judge([claim.model_copy(update={"ratio": ratio})], {"sparcl_table1": experiment}, {})
        assert judged.verdict == expected


def test_memory_saving_is_that_of_the_papers_size():
    listed = {claim.id: claim for claim in claims("sparcl")}
    for claim_id, saved in (("memory-90", 0.48), ("memory-95", 0.50)):
        claim = listed[claim_id]
        (judged,) = judge([claim], {"sparcl_table1": table1(profile="smoke")}, {})
        assert judged.evidence[0].effect.mean == pytest.approx(saved, abs=0.005)
        assert judged.verdict == REPRODUCED
        assert "with the maps of replayed samples" in judged.evidence[0].note
        (judged,) = judge([claim.model_copy(update={"ratio": 0.6})], {"sparcl_table1": table1()}, {})
        assert judged.verdict == NOT
        assert scoreboard([judged]).frame.loc[0, "expected"] == "60% less"


def test_task_il_claims_look_at_task_il():
    frame = frame_of("task_il", a=plus(*AROUND_ONE), b=BASE)
    assert verdict(claim_of(metric="task_il"), frame).verdict == REPRODUCED
    assert verdict(claim_of(), frame).verdict == NOT  # all its Class-IL is zero


def test_the_flops_claim_of_another_data_set():
    (claim,) = [c for c in claims("sparcl") if c.id == "flops-tiny"]
    (judged,) = judge([claim], {"sparcl_table1": table1()}, {})
    assert judged.evidence[0].effect.mean == pytest.approx(22.2 / 4.04, rel=0.01)


def test_untestable_says_why():
    judged = verdict(claim_of("untestable", (), reason="needs a phone"), pd.DataFrame())
    assert (judged.verdict, judged.reason) == (UNTESTABLE, "needs a phone")
    assert scoreboard([judged]).frame.loc[0, "measured"] == "needs a phone"
    assert verdict_line([judged]) == "0 reproduced, 0 partly, 0 not reproduced, 1 not testable here"


@pytest.mark.parametrize(
    "wrong",
    [{"rule": "close_to"}, {"comparisons": ()}, {"margin": -1.0}, {"rule": "flops_ratio"},
     {"rule": "untestable"}, {"margins": 1.0}, {"scale": "phone"}],
)  # fmt: skip
def test_a_claim_that_could_not_be_decided_is_refused(wrong):
    with pytest.raises(ValidationError):
        claim_of(**wrong)


def test_every_claim_refers_to_rows_that_exist():
    for claim in claims("sparcl"):
        if claim.rule == "untestable":
            assert claim.reason
            continue
        rows = {row.id: row for row in EXPERIMENTS[claim.experiment](profile="paper").rows}
        assert {name for pair in claim.comparisons for name in pair} <= set(rows)


def test_the_papers_claims_are_listed():
    listed = {claim.id: claim for claim in claims("sparcl")}
    assert len(listed) == len(claims("sparcl"))
    assert (listed["flops-23x"].ratio, listed["flops-23x"].rule) == (23.0, "flops_ratio")
    assert (listed["accuracy-1.7"].expected, listed["accuracy-1.7"].rule) == (1.7, "above")
    for level in ("75", "90", "95"):
        sparse = [f"sparcl-der++-0.{level}-{buffer}" for buffer in (200, 500)]
        assert listed[f"not-below-{level}"].rule == "not_below"
        assert listed[f"not-below-{level}"].comparisons == list(zip(sparse, ["der++-200", "der++-500"], strict=True))
    for part in ("tdm", "ddr", "dgm"):
        assert listed[f"{part}-accuracy"].rule == "above"
        assert listed[f"{part}-flops"].rule == "flops_below"


@pytest.mark.parametrize("changed", [{"method": "er"}, {"sparsity": 0.95}, {"buffer": 200}])
def test_other_settings_do_not_pass_for_the_papers(changed):
    (claim,) = [c for c in claims("sparcl") if c.id == "tdm-accuracy"]
    frame = frame_of(**{"tdm": plus(*AROUND_ONE), "none": BASE})
    for experiment, expected in ((table3(), REPRODUCED), (table3(**changed), UNTESTABLE)):
        (judged,) = judge([claim], {"sparcl_table3": experiment}, {"sparcl_table3": frame})
        assert judged.verdict == expected
    assert "settings" in judged.reason


@pytest.mark.parametrize(
    ("printed", "low", "mean", "high", "n", "expected"),
    [
        (1.0, 0.1, 1.0, 1.9, 5, REPRODUCED),
        (1.0, -0.1, 1.0, 2.1, 5, PARTLY),
        (1.0, -2.0, -1.0, 0.5, 5, NOT),
        (1.0, -1.0, 0.0, 1.0, 5, NOT),
        (-1.0, -1.9, -1.0, -0.1, 5, REPRODUCED),
        (-1.0, -2.1, -1.0, 0.1, 5, PARTLY),
        (-1.0, 0.1, 1.0, 1.9, 5, NOT),
        (0.0, -1.9, -1.0, -0.1, 5, UNTESTABLE),  # no direction to be on the side of
        (np.nan, -1.9, -1.0, -0.1, 5, UNTESTABLE),
        (None, 0.1, 1.0, 1.9, 5, UNTESTABLE),
        (1.0, np.nan, 1.0, np.nan, 1, UNTESTABLE),
    ],
)
def test_direction_of_a_difference(printed, low, mean, high, n, expected):
    assert direction_verdict(printed, Interval(mean, low, high, n)) == expected


@pytest.mark.parametrize(("sparse_ms", "expected"), [((100, 50, 25), NOT), ((32, 30, 100), REPRODUCED)])
def test_a_measured_step_has_to_reach_the_ratio_in_the_median(tmp_path, sparse_ms, expected):
    experiments = {name: make(profile="paper") for name, make in EXPERIMENTS.items()}

    def verdict():
        found = {entry.claim.id: entry for entry in judge_claims(experiments, {}, Store(tmp_path))}
        return found["phone-3.1x"]

    assert (verdict().verdict, verdict().reason) == (UNTESTABLE, "not measured")
    steps = {
        "dense_layout": "contiguous",
        "rounds_ms": {"contiguous": [100, 100, 100], "channels_last": [1, 1, 1], "0.95": sparse_ms},
        "settings": {"threads": 2},
        "environment": {"processor": "an abacus"},
    }
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / f"{STEPS}.json").write_text(json.dumps(steps))
    judged = verdict()
    assert judged.verdict == expected
    assert judged.evidence[0].effect.mean == pytest.approx(np.median([100 / ms for ms in sparse_ms]))
    assert "an abacus" in scoreboard([judged]).frame.loc[0, "measured"]
