"""Intervals and verdicts against scipy, hand-computed values and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sparcl_lite.measure.statistics import (
    CONTRADICTED,
    INCONCLUSIVE,
    REPRODUCED,
    UNTESTABLE,
    Interval,
    bootstrap_interval,
    half_width,
    joint_level,
    joint_verdict,
    paired_interval,
    pooled_spread,
    seeds_for,
    seeds_to_decide,
    smallest_effect,
    t_interval,
    verdict,
)

A = [67.1, 66.0, 70.4, 68.8, 65.2, 69.9, 67.7]
B = [66.4, 66.9, 67.0, 68.1, 64.0, 66.5, 68.2]

accuracies = st.floats(0, 100).map(lambda value: round(value, 3))
samples = st.lists(accuracies, min_size=2, max_size=12)
pairs = st.lists(st.tuples(accuracies, accuracies), min_size=1, max_size=9)


def test_t_interval_by_hand():
    # mean 2, s = 1, t(0.975, 2) = 4.302653: half width 4.302653 / sqrt(3) = 2.484138
    interval = t_interval([1.0, 2.0, 3.0])
    assert (interval.mean, interval.n) == (2.0, 3)
    assert interval.low == pytest.approx(2 - 2.484138, abs=1e-6)
    assert interval.high == pytest.approx(2 + 2.484138, abs=1e-6)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_t_interval_matches_scipy(level):
    interval = t_interval(A, level)
    oracle = stats.t.interval(level, len(A) - 1, loc=np.mean(A), scale=stats.sem(A))
    assert (interval.low, interval.high) == pytest.approx(oracle)


@given(samples, st.floats(0.01, 0.98))
def test_t_interval_contains_its_mean_and_grows_with_the_level(values, level):
    narrow, wide = t_interval(values, level), t_interval(values, level + 0.01)
    assert wide.low <= narrow.low <= narrow.mean <= narrow.high <= wide.high


def test_bootstrap_matches_scipy_and_its_seed():
    skewed = np.exp(np.linspace(0, 3, 9))
    interval = bootstrap_interval(skewed, 0.9, seed=3)
    oracle = stats.bootstrap(
        (skewed,), np.mean, confidence_level=0.9, rng=np.random.default_rng(3), method="BCa"
    ).confidence_interval
    assert (interval.low, interval.high) == (oracle.low, oracle.high)
    assert interval == bootstrap_interval(skewed, 0.9, seed=3)
    assert interval != bootstrap_interval(skewed, 0.9, seed=4)


def test_bootstrap_leans_to_the_long_tail():
    interval = bootstrap_interval([1.0, 1.1, 1.2, 1.3, 1.5, 9.0])
    assert interval.high - interval.mean > interval.mean - interval.low > 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("interval_of", [t_interval, bootstrap_interval])
def test_one_seed_has_no_interval_and_equal_seeds_one_of_no_width(interval_of):
    single = interval_of([70.0])
    assert (single.mean, single.n) == (70.0, 1)
    assert math.isnan(single.low)
    assert math.isnan(single.high)
    equal = interval_of([70.0, 70.0, 70.0])
    assert (equal.mean, equal.low, equal.high, equal.n) == (70.0, 70.0, 70.0, 3)


def test_paired_interval_matches_scipy():
    interval = paired_interval(A, B, 0.9)
    oracle = stats.ttest_rel(A, B).confidence_interval(0.9)
    assert (interval.low, interval.high) == pytest.approx((oracle.low, oracle.high))
    assert interval.mean == pytest.approx(np.mean(A) - np.mean(B))


@given(pairs.filter(lambda drawn: len(drawn) > 1))
def test_paired_interval_turns_round_with_its_arguments(drawn):
    a, b = zip(*drawn, strict=True)
    there, back = paired_interval(a, b), paired_interval(b, a)
    assert (there.low, there.mean, there.high) == (-back.high, -back.mean, -back.low)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.1, 2.0, REPRODUCED), (-2.0, -0.1, CONTRADICTED), (-0.1, 2.0, INCONCLUSIVE), (0.0, 2.0, INCONCLUSIVE),
     (0.0, 0.0, INCONCLUSIVE), (math.nan, math.nan, UNTESTABLE)],
)  # fmt: skip
def test_the_whole_interval_decides(low, high, expected):
    assert verdict(Interval(1.0, low, high, 5), 0.0) == expected
    assert verdict(Interval(4.0, low + 3, high + 3, 5), 3.0) == expected


def test_a_statement_needs_all_its_comparisons():
    assert joint_verdict([REPRODUCED, REPRODUCED]) == REPRODUCED
    assert joint_verdict([REPRODUCED, INCONCLUSIVE]) == INCONCLUSIVE
    assert joint_verdict([REPRODUCED, INCONCLUSIVE, CONTRADICTED]) == CONTRADICTED
    assert joint_verdict([CONTRADICTED, UNTESTABLE]) == CONTRADICTED
    assert joint_verdict([REPRODUCED, UNTESTABLE]) == UNTESTABLE
    with pytest.raises(ValueError, match="verdicts: got none"):
        joint_verdict([])


def test_the_level_leaves_five_percent_for_all_comparisons_together():
    assert [joint_level(k) for k in (1, 2, 4)] == pytest.approx([0.95, 0.95, 0.975])


def simulated(rng, effects, n, draws):
    """How often each verdict is given on means `effects` (k,) above a bound of 0, with a spread of 1, n seeds."""
    k = len(effects)
    samples = rng.normal(np.reshape(effects, (k, 1)), 1.0, (draws, k, n))
    half = stats.t.ppf((1 + joint_level(k)) / 2, n - 1) * samples.std(axis=-1, ddof=1) / np.sqrt(n)
    means = samples.mean(axis=-1)
    given = [
        joint_verdict(verdict(Interval(m, m - h, m + h, n), 0.0) for m, h in zip(*pair, strict=True))
        for pair in zip(means, half, strict=True)
    ]
    return {name: given.count(name) / draws for name in (REPRODUCED, CONTRADICTED)}


DRAWS = 3000
MONTE_CARLO = 3 * math.sqrt(0.05 * 0.95 / DRAWS)


@pytest.mark.parametrize("n", [3, 5, 10, 20])
@pytest.mark.parametrize("comparisons", [1, 2, 4, 6])
def test_without_an_effect_a_wrong_verdict_is_rare(n, comparisons):
    found = simulated(np.random.default_rng(n), [0.0] * comparisons, n, DRAWS)
    assert found[REPRODUCED] <= 0.05 + MONTE_CARLO
    assert found[CONTRADICTED] <= 0.05 + MONTE_CARLO
    # all but one beyond the bound: the claim is still not true
    found = simulated(np.random.default_rng(n), [0.0] + [9.0] * (comparisons - 1), n, DRAWS)
    assert found[REPRODUCED] <= 0.05 + MONTE_CARLO


@pytest.mark.parametrize("n", [3, 5, 10, 20])
@pytest.mark.parametrize(("comparisons", "halves"), [(1, 2), (2, 4), (4, 4)])
def test_an_effect_of_twice_the_interval_is_seen(n, comparisons, halves):
    effect = halves * stats.t.ppf((1 + joint_level(comparisons)) / 2, n - 1) / np.sqrt(n)
    for sign, expected in ((1, REPRODUCED), (-1, CONTRADICTED)):
        found = simulated(np.random.default_rng(n), [sign * effect] * comparisons, n, DRAWS)
        assert found[expected] >= 0.95 - MONTE_CARLO


intervals = st.tuples(st.floats(-5, 5), st.floats(0, 5), st.floats(0, 5)).map(
    lambda drawn: Interval(drawn[0], drawn[0] - drawn[1], drawn[0] + drawn[2], 5)
)


@given(st.lists(intervals, min_size=1, max_size=6), st.floats(-5, 5))
def test_intervals_that_hold_the_bound_decide_nothing(drawn, bound):
    given_ = joint_verdict(verdict(interval, bound) for interval in drawn)
    if all(interval.low <= bound <= interval.high for interval in drawn):
        assert given_ == INCONCLUSIVE
    assert (given_ == REPRODUCED) == all(interval.low > bound for interval in drawn)
    assert (given_ == CONTRADICTED) == any(interval.high < bound for interval in drawn)


def test_the_smallest_effect_is_seen_four_times_in_five():
    for n, level in ((5, 0.95), (10, 1 - 0.1 / 6)):
        # the spread of 1 is known to this test; the interval's own width says so on average
        half = stats.t.ppf((1 + level) / 2, n - 1) / np.sqrt(n)
        effect = smallest_effect(Interval(0.0, -half, half, n), level)
        samples = np.random.default_rng(n).normal(effect, 1.0, (20_000, n))
        scaled = samples.mean(axis=1) / samples.std(axis=1, ddof=1) * np.sqrt(n)
        assert (scaled > stats.t.ppf((1 + level) / 2, n - 1)).mean() == pytest.approx(0.8, abs=0.06)
    assert smallest_effect(t_interval([1.0])) is None


def test_so_many_seeds_put_the_bound_outside():
    # s = 1, mean 0.5: t(0.975, n-1) / sqrt(n) < 0.5 from n = 18 on (17: .514, 18: .497)
    values = np.array([-1.0, 0.0, 1.0]) + 0.5
    assert seeds_to_decide(t_interval(values), 0.0) == 18
    assert seeds_to_decide(t_interval(values), 0.5 - 1e-9) is None  # above 10,000
    assert seeds_to_decide(t_interval([2.0, 2.0]), 0.0) == 2
    assert seeds_to_decide(t_interval([2.0, 2.0]), 2.0) is None
    assert seeds_to_decide(t_interval([2.0]), 0.0) is None


def test_spreads_of_differences_are_pooled_and_say_how_many_seeds_are_enough():
    # s^2 of 1 with 2 degrees of freedom and of 8 with 1: (2 * 1 + 1 * 8) / 3; one value says nothing
    effects = [t_interval([1.0, 2.0, 3.0]), t_interval([1.0, 5.0]), t_interval([7.0])]
    assert pooled_spread(effects) == pytest.approx(np.sqrt(10 / 3))
    assert pooled_spread([t_interval([1.0, 5.0], 0.9)], 0.9) == pytest.approx(np.sqrt(8))
    assert np.isnan(pooled_spread([t_interval([7.0])]))
    assert half_width(2.0, 3) == pytest.approx(2 * 4.302653 / np.sqrt(3))
    enough = seeds_for(0.75, 2.0)
    assert half_width(2.0, enough) < 0.75 <= half_width(2.0, enough - 1)
    assert seeds_for(0.0, 2.0) is None
    assert seeds_for(0.75, 0.0) == 2


@settings(deadline=None)  # the first call computes 10,000 quantiles
@given(samples, st.floats(-50, 150))
def test_a_decided_interval_has_seeds_enough(values, bound):
    interval = t_interval(values)
    needed = seeds_to_decide(interval, bound)
    if verdict(interval, bound) in (REPRODUCED, CONTRADICTED):
        assert needed <= interval.n
    else:
        assert needed is None or needed >= interval.n


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: t_interval([]), r"values: got shape \(0,\), allowed is \(n,\) with n >= 1"),
        (lambda: t_interval([[1.0], [2.0]]), r"values: got shape \(2, 1\)"),
        (lambda: bootstrap_interval([1.0, math.nan]), "values: got nan, allowed are finite"),
        (lambda: t_interval([1.0, 2.0], 95), "level: got 95, allowed is a number between 0 and 1"),
        (lambda: bootstrap_interval([1.0, 2.0], 1.0), "level: got 1.0"),
        (lambda: paired_interval([1.0, 2.0], [1.0]), "b: got 1 values, allowed are 2"),
        (lambda: paired_interval([1.0], [math.inf]), "b: got inf"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
