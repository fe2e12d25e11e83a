"""Intervals and verdicts over seeds: what may be said about a mean, and about a difference of means.

All functions take plain sequences with one value per seed and know nothing of runs or claims. Two
methods are compared as pairs that share a seed. A single seed has no interval: its bounds are NaN,
which is not an error.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

__all__ = [
    "CONTRADICTED",
    "INCONCLUSIVE",
    "REPRODUCED",
    "UNTESTABLE",
    "Interval",
    "bootstrap_interval",
    "half_width",
    "joint_level",
    "joint_verdict",
    "paired_interval",
    "pooled_spread",
    "seeds_for",
    "seeds_to_decide",
    "smallest_effect",
    "t_interval",
    "verdict",
]

REPRODUCED, CONTRADICTED, INCONCLUSIVE, UNTESTABLE = "reproduced", "contradicted", "inconclusive", "not testable here"
ERROR = 0.05  # how often a true statement may be called contradicted, and one without effect reproduced
POWER = 0.8
MOST_SEEDS = 10_000


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


def verdict(interval: Interval, bound: float) -> str:
    """What an interval says of the statement "the mean is above `bound`".

    `reproduced`: the whole interval lies above; `contradicted`: the whole interval lies below; `inconclusive`: it
    contains the bound; `not testable here`: there is no interval.

    >>> verdict(Interval(1.0, 0.5, 1.5, n=5), 0.0), verdict(Interval(1.0, -0.5, 2.5, n=5), 0.0)
    ('reproduced', 'inconclusive')
    """
    if np.isnan(interval.low):
        return UNTESTABLE
    if interval.low > bound:
        return REPRODUCED
    return CONTRADICTED if interval.high < bound else INCONCLUSIVE


def joint_verdict(verdicts: Iterable[str]) -> str:
    """The verdict on a statement that needs all its comparisons.

    `contradicted` when one comparison is, whatever the others; else `not testable here` when one is, `reproduced` when
    all are, or `inconclusive`. Raises ValueError on no comparison.
    """
    found = set(verdicts)
    if not found:
        raise ValueError("verdicts: got none, allowed are one or more")
    for decisive in (CONTRADICTED, UNTESTABLE, INCONCLUSIVE):
        if decisive in found:
            return decisive
    return REPRODUCED


def joint_level(comparisons: int) -> float:
    """Level of each of so many intervals whose `joint_verdict` is wrongly `contradicted` at most 5 % of the time.

    95 % for one and two (2.5 % on each side), `1 - 0.1 / k` for k above (Bonferroni). `reproduced` needs no
    correction: with a true mean at the bound, all intervals lie above it less often than one does.
    """
    return 1 - 2 * ERROR / max(2, comparisons)


def smallest_effect(interval: Interval, level: float = 0.95) -> float | None:
    """The distance of a mean from its bound that the interval would show in 80 % of repetitions; None for one value.

    `(t(level) + t(0.8)) s / sqrt(n)` with n - 1 degrees of freedom, from the interval's own width.
    """
    if interval.n < 2:
        return None
    one_sided = stats.t.ppf((1 + level) / 2, interval.n - 1)
    half = (interval.high - interval.low) / 2
    return float(half * (1 + stats.t.ppf(POWER, interval.n - 1) / one_sided))


def seeds_to_decide(interval: Interval, bound: float, level: float = 0.95) -> int | None:
    """With how many values the bound lies outside the interval, if mean and spread stay as they are.

    The smallest n with `t(level, n-1) s / sqrt(n) < |mean - bound|`; None for one value, and above 10,000.
    """
    return None if interval.n < 2 else seeds_for(abs(interval.mean - bound), pooled_spread([interval], level), level)


def seeds_for(half: float, spread: float, level: float = 0.95) -> int | None:
    """With how many values half of the interval is below `half`, if their standard deviation is `spread`.

    The smallest n with `t(level, n-1) spread / sqrt(n) < half`; None above 10,000.
    """
    counts, widths = _half_widths(level)
    enough = widths * spread < half
    return int(counts[enough.argmax()]) if enough.any() else None


def half_width(spread: float, n: int, level: float = 0.95) -> float:
    """Half of the interval of `n` values, 2 or more, whose standard deviation is `spread`."""
    return float(_half_widths(level)[1][n - 2] * spread)


def pooled_spread(intervals: Iterable[Interval], level: float = 0.95) -> float:
    """Standard deviation of the values behind t intervals, taken to be the same for all; NaN where none has two.

    `sqrt(sum((n - 1) s^2) / sum(n - 1))`, s from each interval's own width.
    """
    known = [interval for interval in intervals if interval.n > 1]
    spreads = [(i.high - i.low) / 2 / half_width(1, i.n, level) for i in known]
    freedom = [interval.n - 1 for interval in known]
    return float(np.sqrt(np.average(np.square(spreads), weights=freedom))) if known else float("nan")


@cache
def _half_widths(level: float) -> tuple[np.ndarray, np.ndarray]:
    """Counts from 2 to 10,000, and half the width of the interval of so many values whose s is 1."""
    counts = np.arange(2, MOST_SEEDS + 1)
    return counts, stats.t.ppf((1 + level) / 2, counts - 1) / np.sqrt(counts)


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
