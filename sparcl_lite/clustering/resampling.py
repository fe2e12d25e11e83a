"""Which selected features another draw of the samples would select again, and how many of them by chance."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.utils import check_random_state

from sparcl_lite.clustering.inputs import matrix_and_names
from sparcl_lite.clustering.ksparse import KSparse

PAIRS = 25  # halves are drawn twice as often; Shah and Samworth take 50


def selection_frequencies(estimator: KSparse, X: Any, *, pairs: int = PAIRS) -> pd.DataFrame:
    """How often each feature of X (m, d) is selected from a random half of the samples: complementary pairs.

    Each of `pairs` times the samples are split into two halves, and both are clustered anew by a copy of `estimator`.
    One line a feature, the most frequent first: feature (its index), name where it has one, frequency (0 to 1), and
    `false_bound`, a bound on how many features of at least this frequency are false. A feature is false if a half
    selects it with a chance below q / d, which is that of features drawn blindly; q is the mean number selected. The
    expected number of false ones with a frequency of at least t > 1/2 is at most q^2 / (d (2 t - 1)), whatever the
    features depend on: Shah and Samworth (2013), theorem 1, equation (2); Meinshausen and Buehlmann (2010) have the
    same value under exchangeability. It is NaN for t <= 1/2, where there is none.

    Raises ValueError on a dask array, whose rows cannot be drawn at random at a low cost.
    """
    X, names = matrix_and_names(X)
    if names is None and isinstance(X, pd.DataFrame):
        X, names = X.to_numpy(), np.asarray(X.columns)
    if not hasattr(X, "__getitem__") or hasattr(X, "to_delayed"):
        raise ValueError(f"X: got {type(X).__name__}, allowed is a dense or CSR array, a data frame or AnnData")
    X, rng = X.tocsr() if hasattr(X, "tocsr") else X, check_random_state(estimator.random_state)
    m, d = X.shape
    counts = np.zeros(d)
    for _ in range(pairs):
        order = rng.permutation(m)
        for half in (order[: m // 2], order[m // 2 :]):
            model = clone(estimator).set_params(random_state=rng.randint(2**31)).fit(X[np.sort(half)])
            counts[model.selected_features_] += 1
    frequency, q = counts / (2 * pairs), counts.sum() / (2 * pairs)
    with np.errstate(divide="ignore"):
        bound = np.where(frequency > 0.5, q**2 / (d * (2 * frequency - 1)), np.nan)
    found = pd.DataFrame({"feature": np.arange(d), "frequency": frequency, "false_bound": bound})
    if names is not None:
        found.insert(1, "name", names)
    return found.sort_values("frequency", ascending=False, kind="stable", ignore_index=True)
