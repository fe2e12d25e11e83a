"""Intervals and tests over seeds: what may be said about a mean, and about a difference of means.

All functions take plain sequences with one value per seed and know nothing of runs or claims. Two
methods are compared as pairs that share a seed. A single seed has no interval: its bounds are NaN,
which is not an error.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

__all__ = [
    "Interval",
    "bootstrap_interval",
    "holm",
    "paired_interval",
    "paired_permutation_test",
    "t_interval",
]

EXACT_LIMIT = 20  # 2**20 sign flips are 8 MB of sums; above it the test draws flips at random
RANDOM_FLIPS = 99_999  # with the observed one 100,000: the smallest p is 1e-5
TIE_TOLERANCE = 1e-12  # relative; sums of the same values in another order differ by rounding only


@dataclass(frozen=True)
class Interval:
    """A mean over `n` values with the bounds of its interval, all in the unit of the values.

    `low` and `high` are NaN when `n` is 1.
    """

    mean: float
    low: float
    high: float
    n: int


def t_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Student's t interval of the mean, `mean +- t(level, n-1) * s / sqrt(n)`.

    `values` is `(n,)`, finite. Raises ValueError on other values, or a level outside (0, 1).

    >>> t_interval([1.0, 2.0, 3.0])  # doctest: +ELLIPSIS
    Interval(mean=2.0, low=-0.484..., high=4.484..., n=3)
    """
    sample, level = _sample("values", values), _checked_level(level)
    n, mean = len(sample), float(sample.mean())
    if n == 1:
        return Interval(mean, float("nan"), float("nan"), n)
    half = float(stats.t.ppf((1 + level) / 2, n - 1) * stats.sem(sample))
    return Interval(mean, mean - half, mean + half, n)


def bootstrap_interval(values: ArrayLike, level: float = 0.95, seed: int = 0) -> Interval:
    """Bias-corrected and accelerated bootstrap interval of the mean, for skewed values.

    `values` is `(n,)`, finite; `seed` draws the 9,999 resamples. Equal values give an interval of
    no width. Raises ValueError like `t_interval`. Source: Efron (1987), as implemented by
    `scipy.stats.bootstrap`.

    >>> bootstrap_interval([4.0, 4.0])
    Interval(mean=4.0, low=4.0, high=4.0, n=2)
    """
    sample, level = _sample("values", values), _checked_level(level)
    n, mean = len(sample), float(sample.mean())
    if n == 1:
        return Interval(mean, float("nan"), float("nan"), n)
    if np.ptp(sample) == 0:  # BCa divides by the spread of the resampled means
        return Interval(mean, mean, mean, n)
    bounds = stats.bootstrap(
        (sample,), np.mean, confidence_level=level, method="BCa", rng=np.random.default_rng(seed)
    ).confidence_interval
    return Interval(mean, float(bounds.low), float(bounds.high), n)


def paired_interval(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Interval:
    """t interval of the mean difference `a - b`; entry `i` of both comes from the same seed.

    `a` and `b` are `(n,)`. Raises ValueError when they differ in length, and like `t_interval`.

    >>> paired_interval([3.0, 5.0], [1.0, 3.0])
    Interval(mean=2.0, low=2.0, high=2.0, n=2)
    """
    return t_interval(_differences(a, b), level)


def paired_permutation_test(a: ArrayLike, b: ArrayLike, seed: int = 0) -> float:
    """Two-sided p value that paired `a` and `b` have the same mean, by flipping signs of `a - b`.

    Exact for n <= 20: the share of all `2**n` sign flips whose mean difference is at least as far
    from 0 as the observed one, ties included; the smallest p is `2 / 2**n`. Above, 99,999 random
    flips drawn with `seed`, and the observed one counts as a flip. Raises ValueError like
    `paired_interval`. Source: Fisher's randomisation test.

    >>> paired_permutation_test([2.0, 3.0, 4.0], [1.0, 1.0, 1.0])
    0.25
    """
    differences = _differences(a, b)
    extreme = abs(differences.sum()) - TIE_TOLERANCE * np.abs(differences).sum()
    if len(differences) <= EXACT_LIMIT:
        return float((np.abs(_all_flipped_sums(differences)) >= extreme).mean())
    rng = np.random.default_rng(seed)
    signs = rng.integers(0, 2, size=(RANDOM_FLIPS, len(differences)), dtype=np.int8) * 2 - 1
    hits = int((np.abs(signs @ differences) >= extreme).sum())
    return (hits + 1) / (RANDOM_FLIPS + 1)


def holm(p_values: ArrayLike) -> np.ndarray:
    """p values adjusted for testing all of them at once, in the order given.

    The k-th smallest of m becomes `max_{j<=k} min(1, (m - j + 1) * p_(j))`. `p_values` is `(m,)`;
    so is the result. Raises ValueError on a value outside 0 to 1. Source: Holm (1979).

    >>> holm([0.04, 0.01, 0.03])
    array([0.06, 0.03, 0.06])
    """
    p = np.asarray(p_values, dtype=float)
    if p.ndim != 1:
        raise ValueError(f"p_values: got shape {p.shape}, allowed is (m,)")
    wrong = p[~((p >= 0) & (p <= 1))]
    if wrong.size:
        raise ValueError(f"p_values: got {wrong[0]}, allowed are 0 to 1")
    order = np.argsort(p)
    scaled = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return adjusted


def _all_flipped_sums(differences: np.ndarray) -> np.ndarray:
    """Sums of `(n,)` differences under every choice of signs, shape `(2**n,)`."""
    sums = np.zeros(1)
    for difference in differences:
        sums = np.concatenate([sums + difference, sums - difference])
    return sums


def _differences(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    first, second = _sample("a", a), _sample("b", b)
    if len(first) != len(second):
        raise ValueError(f"b: got {len(second)} values, allowed are {len(first)}, one per value of a")
    return first - second


def _sample(field: str, values: ArrayLike) -> np.ndarray:
    sample = np.asarray(values, dtype=float)
    if sample.ndim != 1 or not sample.size:
        raise ValueError(f"{field}: got shape {sample.shape}, allowed is (n,) with n >= 1")
    if not np.isfinite(sample).all():
        raise ValueError(f"{field}: got {sample[~np.isfinite(sample)][0]}, allowed are finite numbers")
    return sample


def _checked_level(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level: got {level}, allowed is a number between 0 and 1, both excluded")
    return level
