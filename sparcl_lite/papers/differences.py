"""Rows compared as pairs that share a seed: the differences that tables, figures and claims speak of."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from sparcl_lite.measure.statistics import Interval, holm, paired_interval, paired_permutation_test
from sparcl_lite.papers.experiments import Experiment


def paired(frame: pd.DataFrame, a: str, b: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Values of two rows over the seeds that both have."""
    if frame.empty:
        return np.array([]), np.array([])
    if a == b:
        own = frame.loc[frame["row"] == a, metric].dropna().to_numpy()
        return own, own
    values = frame[frame["row"].isin((a, b))].pivot_table(index="seed", columns="row", values=metric)
    if not {a, b} <= set(values.columns):
        return np.array([]), np.array([])
    both = values[[a, b]].dropna()
    return both[a].to_numpy(), both[b].to_numpy()


def difference(frame: pd.DataFrame, a: str, b: str, metric: str) -> Interval | None:
    """Mean of a - b with its 95 % interval; None when no seed has both."""
    left, right = paired(frame, a, b, metric)
    return paired_interval(left, right) if len(left) else None


COLUMNS = ["row", "label", "against", "difference", "low", "high", "n", "p", "p_holm"]


def differences(experiment: Experiment, frame: pd.DataFrame, metric: str = "class_il") -> pd.DataFrame:
    """Every row against the one it is compared with, in order; those without baseline or pairs are left out."""
    pairs = [(row.id, row.label, row.against) for row in experiment.rows if row.against]
    return compared(pairs, frame, metric)


def compared(pairs: Iterable[tuple[str, str, str]], frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Each (row, label, row it is compared with) that shares seeds, as one line.

    `p` is that of the exact paired test against no difference, `p_holm` corrected over all lines.
    """
    lines = []
    for row, label, against in pairs:
        left, right = paired(frame, row, against, metric)
        if len(left):
            effect, p = paired_interval(left, right), paired_permutation_test(left, right)
            lines.append((row, label, against, effect.mean, effect.low, effect.high, effect.n, p, np.nan))
    table = pd.DataFrame(lines, columns=COLUMNS)
    if len(table):
        table["p_holm"] = holm(table["p"])
    return table
