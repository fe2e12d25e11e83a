"""Intervals and tests against scipy, hand-computed values and brute force."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sparcl_lite.measure.statistics import (
    bootstrap_interval,
    holm,
    paired_interval,
    paired_permutation_test,
    t_interval,
)

A = [67.1, 66.0, 70.4, 68.8, 65.2, 69.9, 67.7]
B = [66.4, 66.9, 67.0, 68.1, 64.0, 66.5, 68.2]

accuracies = st.floats(0, 100).map(lambda value: round(value, 3))
samples = st.lists(accuracies, min_size=2, max_size=12)
pairs = st.lists(st.tuples(accuracies, accuracies), min_size=1, max_size=9)
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=12)


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


def scipy_p(a, b):
    """All sign flips by scipy, which exchanges the members of each pair."""
    return stats.permutation_test(
        (a, b),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    ).pvalue


def test_permutation_test_matches_scipy():
    assert paired_permutation_test(A, B) == pytest.approx(scipy_p(A, B))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=7))
def test_permutation_test_matches_scipy_with_many_ties(drawn):
    a, b = np.array(drawn, dtype=float).T
    assert paired_permutation_test(a, b) == pytest.approx(scipy_p(a, b))


def test_permutation_test_by_hand():
    # differences 1, 2, 3: only +++ and --- reach |6|
    assert paired_permutation_test([2, 4, 6], [1, 2, 3]) == 2 / 8
    # differences 3, 3, -1 sum to 5: two flips reach |7|, two |5|, the other four only |1|
    assert paired_permutation_test([3, 3, 0], [0, 0, 1]) == 4 / 8
    # differences 1, -1: every flip is as far from 0 as the observed 0
    assert paired_permutation_test([1, 0], [0, 1]) == 1


def test_smallest_p_is_two_flips_of_all():
    assert paired_permutation_test(np.arange(10) + 1.0, np.zeros(10)) == 2 / 1024
    assert paired_permutation_test(np.arange(5) + 1.0, np.zeros(5)) == 0.0625
    assert paired_permutation_test(np.arange(20) + 1.0, np.zeros(20)) == 2 / 2**20


def test_sums_equal_but_for_rounding_are_ties():
    # (0.1 + 0.2) - 0.3 is 5.6e-17 in floating point, and 0 in truth
    assert paired_permutation_test([0.1, 0.2, 0.0], [0.0, 0.0, 0.3]) == 1


@given(pairs)
def test_permutation_test_is_a_p_value_and_symmetric(drawn):
    a, b = zip(*drawn, strict=True)
    p = paired_permutation_test(a, b)
    assert 2 / 2 ** len(a) <= p <= 1
    assert p == paired_permutation_test(b, a)
    assert p == paired_permutation_test(a[::-1], b[::-1])
    assert paired_permutation_test(a, a) == 1


def test_random_flips_agree_with_the_exact_test(monkeypatch):
    exact = paired_permutation_test(A, B)
    monkeypatch.setattr("sparcl_lite.measure.statistics.EXACT_LIMIT", 6)
    drawn = paired_permutation_test(A, B, seed=1)
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=5 * math.sqrt(exact * (1 - exact) / 100_000))
    assert drawn == paired_permutation_test(A, B, seed=1)
    assert drawn != paired_permutation_test(A, B, seed=2)


def test_random_flips_never_give_zero():
    assert paired_permutation_test(np.ones(40), np.zeros(40)) == 1e-5


def test_holm_by_hand():
    # sorted .005 .01 .03 .04 times 4 3 2 1: .02 .03 .06 .04; the last is lifted to .06
    adjusted = holm([0.01, 0.04, 0.03, 0.005])
    assert adjusted.tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]).tolist() == [1, 1]
    assert holm([]).shape == (0,)


@given(p_values, st.floats(0.001, 0.999))
def test_holm_rejects_what_the_step_down_procedure_rejects(values, level):
    adjusted = holm(values)
    expected = np.zeros(len(values), dtype=bool)
    for step, index in enumerate(np.argsort(values)):
        if values[index] * (len(values) - step) > level:
            break
        expected[index] = True
    assert ((adjusted <= level) == expected).all()


@given(p_values)
def test_holm_keeps_the_order_and_never_lowers(values):
    adjusted, order = holm(values), np.argsort(values)
    assert (np.diff(adjusted[order]) >= 0).all()
    assert (adjusted >= values).all()
    assert (adjusted <= np.minimum(1, np.array(values) * len(values)).max()).all()
    assert adjusted[order[0]] == min(1, min(values) * len(values))
    np.testing.assert_array_equal(holm(values[::-1]), adjusted[::-1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: t_interval([]), r"values: got shape \(0,\), allowed is \(n,\) with n >= 1"),
        (lambda: t_interval([[1.0], [2.0]]), r"values: got shape \(2, 1\)"),
        (lambda: bootstrap_interval([1.0, math.nan]), "values: got nan, allowed are finite"),
        (lambda: t_interval([1.0, 2.0], 95), "level: got 95, allowed is a number between 0 and 1"),
        (lambda: bootstrap_interval([1.0, 2.0], 1.0), "level: got 1.0"),
        (lambda: paired_interval([1.0, 2.0], [1.0]), "b: got 1 values, allowed are 2"),
        (lambda: paired_permutation_test([1.0], [math.inf]), "b: got inf"),
        (lambda: holm([0.5, 1.5]), "p_values: got 1.5, allowed are 0 to 1"),
        (lambda: holm([math.nan]), "p_values: got nan"),
        (lambda: holm(0.5), r"p_values: got shape \(\)"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
