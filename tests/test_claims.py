"""Verdicts follow from the runs by the written rules, and no claim reads better than its evidence."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

import sparcl_lite as sl
from sparcl_lite.errors import KitError
from sparcl_lite.measure.statistics import (
    CONTRADICTED,
    INCONCLUSIVE,
    REPRODUCED,
    UNTESTABLE,
    Interval,
    paired_interval,
)
from sparcl_lite.papers.claims import Claim, claims
from sparcl_lite.papers.differences import PrintedDifference, paired, printed_difference
from sparcl_lite.papers.experiments import Experiment, Row
from sparcl_lite.papers.judge import judge
from sparcl_lite.papers.measured import benchmarks
from sparcl_lite.papers.registry import judge_claims
from sparcl_lite.papers.sparcl.experiments import EXPERIMENTS
from sparcl_lite.papers.sparcl.judge import STEPS
from sparcl_lite.papers.sparcl.tables import table1, table3
from sparcl_lite.papers.verdicts import from_seeds
from sparcl_lite.report.tables import scoreboard, verdict_line
from sparcl_lite.runs.benchmark import Measurement
from sparcl_lite.runs.store import Store

BASE = [70.0, 71.0, 72.0, 73.0]
EXPERIMENT = Experiment("made_up", "sparcl", "table1", tuple(Row(name, name, {}) for name in "abcd"))


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
        ("above", 0.0, -0.5, INCONCLUSIVE),  # -0.419 to 1.419
        ("above", 0.0, -1.5, INCONCLUSIVE),  # -1.419 to 0.419: the mean alone contradicts nothing
        ("above", 0.0, -2.0, CONTRADICTED),
        ("above", 0.5, 0.0, INCONCLUSIVE),
        ("above", 1.5, 0.0, INCONCLUSIVE),
        ("above", 2.0, 0.0, CONTRADICTED),
        ("not_below", 1.0, -1.0, REPRODUCED),  # mean 0, low -0.919
        ("not_below", 0.5, -1.0, INCONCLUSIVE),
        ("not_below", 0.5, -2.0, INCONCLUSIVE),
        ("not_below", 0.5, -3.0, CONTRADICTED),
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


def test_one_seed_decides_nothing():
    judged = verdict(claim_of(), frame_of(a=[80.0], b=[70.0]))
    assert (judged.verdict, judged.reason) == (UNTESTABLE, "one seed: no interval")
    assert (judged.seeds_to_decide, judged.paper_inside) == (None, None)
    assert "+10.0 (one seed: no interval)" in scoreboard([judged]).frame.loc[0, "measured"]


def test_a_rule_that_nobody_registered_is_refused_with_those_that_there_are():
    with pytest.raises(KitError, match="rule = 'close_to': unknown; allowed: above, not_below"):
        verdict(claim_of("close_to"), frame_of(a=BASE, b=BASE))


def test_a_registered_rule_decides_claims():
    @sl.register.rule("far_above", replace=True)
    def far_above(claim, experiment, frame, a, b):
        left, right = paired(frame, a, b, claim.metric)
        return from_seeds(claim, a, b, paired_interval(left - 100, right, claim.level))

    judged = verdict(claim_of("far_above"), frame_of(a=plus(*(5 + d for d in AROUND_ONE)), b=BASE))
    assert judged.evidence[0].effect.mean < -90
    assert judged.verdict == "contradicted"


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
    for rule in ("above", "honest_flops"):
        judged = verdict(claim_of(rule, [("a", "nowhere")], ratio=2.0), frame_of(a=BASE, b=BASE))
        assert (judged.verdict, judged.reason) == (UNTESTABLE, "no row nowhere in this experiment")


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (AROUND_ONE, AROUND_ONE, REPRODUCED),
        (AROUND_ONE, (-1, -1, -1, -1), CONTRADICTED),  # one of two fails
        (AROUND_ONE, (2, -1, 2, -1), INCONCLUSIVE),
        ((2, -1, 2, -1), (2, -1, 2, -1), INCONCLUSIVE),
        ((2, -1, 2, -1), (-1, -1, -1, -1), CONTRADICTED),
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


@pytest.mark.parametrize(
    ("ratios", "expected", "text"),
    [
        ([0.8, 0.8], REPRODUCED, "-20.0 % honest FLOPs, the same in every run, n 2"),
        ([0.8], REPRODUCED, "n 1"),
        ([0.7, 0.9], REPRODUCED, "-20.0 % honest FLOPs, from -30.0 to -10.0, n 2"),
        ([0.5, 1.1], INCONCLUSIVE, "from -50.0 to +10.0"),
        ([1.1, 1.2], CONTRADICTED, "from +10.0 to +20.0"),
        ([1.0, 1.0], INCONCLUSIVE, "0.0"),
    ],
)
def test_flops_below_holds_in_every_run_or_not_at_all(ratios, expected, text):
    frame = frame_of("flops_honest", a=[2 * r for r in ratios], b=[2.0] * len(ratios))
    judged = verdict(claim_of("flops_below"), frame)
    assert judged.verdict == expected
    assert text in judged.evidence[0].note


def test_flops_claims_are_judged_on_the_honest_count_of_the_papers_size():
    (claim,) = [c for c in claims("sparcl") if c.id == "flops-23x"]
    experiment = table1(profile="smoke")
    (judged,) = judge([claim], {"sparcl_table1": experiment}, {})
    assert [e.effect.mean for e in judged.evidence] == pytest.approx([20.93, 20.93], abs=0.01)
    assert [e.a for e in judged.evidence] == ["sparcl-der++-0.95-200", "sparcl-der++-0.95-500"]
    assert (judged.verdict, judged.paper, judged.paper_inside) == (CONTRADICTED, 23.0, False)
    assert "22.47x by the formula fitted to the published values" in judged.evidence[0].note
    for ratio, expected in ((20.9 / 0.95, REPRODUCED), (21.0 / 0.95, CONTRADICTED)):
        (judged,) = judge([claim.model_copy(update={"ratio": ratio})], {"sparcl_table1": experiment}, {})
        assert judged.verdict == expected


def test_memory_claims_are_judged_on_what_a_run_holds():
    listed = {claim.id: claim for claim in claims("sparcl")}
    for claim_id, held, current in (("memory-90", 0.25, "48%"), ("memory-95", 0.26, "50%")):
        (judged,) = judge([listed[claim_id]], {"sparcl_table1": table1(profile="smoke")}, {})
        assert judged.evidence[0].effect.mean == pytest.approx(held, abs=0.005)
        assert judged.verdict == CONTRADICTED
        assert f"{current} with the maps of the current batch only" in judged.evidence[0].note
        (judged,) = judge([listed[claim_id].model_copy(update={"ratio": 0.2})], {"sparcl_table1": table1()}, {})
        assert judged.verdict == REPRODUCED
        assert scoreboard([judged]).frame.loc[0, "expected"] == "20% less"


def test_task_il_claims_look_at_task_il():
    frame = frame_of("task_il", a=plus(*AROUND_ONE), b=BASE)
    assert verdict(claim_of(metric="task_il"), frame).verdict == REPRODUCED
    assert verdict(claim_of(), frame).verdict == INCONCLUSIVE  # all its Class-IL is zero


def test_the_flops_claim_of_another_data_set():
    (claim,) = [c for c in claims("sparcl") if c.id == "flops-tiny"]
    (judged,) = judge([claim], {"sparcl_table1": table1()}, {})
    assert judged.evidence[0].effect.mean == pytest.approx(5.15, abs=0.01)
    assert "5.49x by the formula" in judged.evidence[0].note


def test_untestable_says_why():
    judged = verdict(claim_of("untestable", (), reason="needs a phone"), pd.DataFrame())
    assert (judged.verdict, judged.reason) == (UNTESTABLE, "needs a phone")
    assert scoreboard([judged]).frame.loc[0, "measured"] == "needs a phone"
    assert verdict_line([judged]) == "0 reproduced, 0 contradicted, 0 inconclusive, 1 not testable here"


@pytest.mark.parametrize(
    "wrong",
    [{"comparisons": ()}, {"margin": -1.0}, {"rule": "honest_flops"},
     {"rule": "untestable"}, {"margins": 1.0}, {"rule": "not_below"}],
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
    assert (listed["flops-23x"].ratio, listed["flops-23x"].rule) == (23.0, "honest_flops")
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
    ("printed", "error", "low", "high", "expected"),
    [
        (1.0, 0.1, 0.1, 1.9, "yes"),
        (1.0, 0.1, -0.1, 2.1, "unclear"),
        (1.0, 0.1, -2.0, -0.5, "no"),
        (-1.0, 0.1, -1.9, -0.1, "yes"),
        (-1.0, 0.1, -2.1, 0.1, "unclear"),
        (-1.0, 0.1, 0.1, 1.9, "no"),
        (0.01, 0.1, -1.9, -0.1, "-"),  # no direction to be on the side of
        (0.9, 1.0, -1.9, -0.1, "-"),
        (1.0, 0.1, np.nan, np.nan, "unclear"),
    ],
)
def test_direction_of_a_difference(printed, error, low, high, expected):
    assert PrintedDifference(printed, error).same_direction(Interval(0.0, low, high, 5)) == expected


def test_the_papers_difference_has_the_error_of_its_stds_or_of_rounding():
    # 66.30 +- 0.98 of unknown n, so of two at least; 64.88 +- 1.17 of ten
    found = printed_difference(table1(), "sparcl-der++-0.75-200", "der++-200", "class_il")
    assert found.value == pytest.approx(1.42)
    assert found.error == pytest.approx(math.hypot(0.98 / math.sqrt(2), 1.17 / math.sqrt(10)), abs=1e-6)
    assert printed_difference(table3(), "tdm", "none", "class_il").error == 0.1
    assert printed_difference(table3(), "ddr", "none", "class_il") is None
    assert printed_difference(table3(sparsity=0.9), "tdm", "none", "class_il") is None


def test_more_comparisons_get_wider_intervals():
    frame = frame_of(a=plus(*AROUND_ONE), b=BASE)
    judged = verdict(claim_of(comparisons=[("a", "b")] * 4), frame)
    assert judged.claim.level == pytest.approx(0.975)
    # t(0.9875, 3) = 4.17653 in place of 3.18245
    assert judged.evidence[0].effect.low == pytest.approx(1 - HALF * 4.17653 / 3.18245, abs=1e-4)
    assert judged.verdict == INCONCLUSIVE
    assert "97.5 % intervals" in scoreboard([judged]).frame.loc[0, "measured"]


def test_seeds_that_would_decide_a_claim():
    open_, against = (2, -1, 2, -1), (-2, 1.8, -2, 1.8)
    one = verdict(claim_of(), frame_of(a=plus(*open_), b=BASE))
    two = verdict(claim_of(comparisons=[("a", "b"), ("c", "b")]), frame_of(a=plus(*open_), b=BASE, c=plus(*against)))
    assert one.seeds_to_decide == one.evidence[0].seeds_to_decide > 4
    assert two.seeds_to_decide == two.evidence[1].seeds_to_decide > one.seeds_to_decide  # one failure settles it
    both = verdict(claim_of(comparisons=[("a", "b"), ("c", "b")]), frame_of(a=plus(*open_), b=BASE, c=plus(0, 1, 0, 9)))
    assert both.seeds_to_decide == max(e.seeds_to_decide for e in both.evidence)
    assert scoreboard([both]).frame.loc[0, "seeds to decide"] == str(both.seeds_to_decide)


def test_the_papers_value_is_inside_or_not():
    frame = frame_of(**{"tdm": plus(*AROUND_ONE), "none": BASE})
    (claim,) = [c for c in claims("sparcl") if c.id == "tdm-accuracy"]
    (judged,) = judge([claim], {"sparcl_table3": table3()}, {"sparcl_table3": frame})
    assert judged.evidence[0].paper == pytest.approx(73.37 - 72.70)
    assert judged.paper_inside is True
    far = replace(judged.evidence[0], paper_inside=False)
    assert scoreboard([replace(judged, evidence=[*judged.evidence, far])]).frame.loc[0, "paper inside"] == "1 of 2"
    frame["class_il"] += 2 * (frame["row"] == "tdm")
    (judged,) = judge([claim], {"sparcl_table3": table3()}, {"sparcl_table3": frame})
    assert (judged.verdict, judged.paper_inside) == (REPRODUCED, False)
    assert scoreboard([judged]).frame.loc[0, "paper inside"] == "no"


@pytest.mark.parametrize(
    ("sparse_ms", "expected"),
    [((50, 51, 52), CONTRADICTED), ((30, 31, 30), REPRODUCED), ((32, 30, 100), INCONCLUSIVE)],
)
def test_a_measured_step_has_to_reach_the_ratio_over_its_rounds(tmp_path, sparse_ms, expected):
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
    (config,) = benchmarks().configs(benchmarks().row(STEPS), 1)
    Store(tmp_path).put(Measurement(config=config, report=steps, finished=""))
    judged = verdict()
    assert judged.verdict == expected
    assert judged.evidence[0].effect.mean == pytest.approx(np.mean([100 / ms for ms in sparse_ms]))
    assert "reworded" in scoreboard([judged]).frame.loc[0, "measured"]
    assert "an abacus" in scoreboard([judged]).frame.loc[0, "measured"]
