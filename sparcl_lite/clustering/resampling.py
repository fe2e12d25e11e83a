"""Which selected features another draw of the samples would select again, and how many of them by chance."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.utils import check_random_state

from sparcl_lite.clustering.ksparse import KSparse

PAIRS = 25  # halves are drawn twice as often; Shah and Samworth take 50


def selection_frequencies(estimator: KSparse, X: Any, *, pairs: int = PAIRS) -> pd.DataFrame:
    """How often each feature of X (m, d), dense or CSR, is selected from a random half of the samples.

    Each of `pairs` times the samples are split into two halves, and both are clustered anew by a copy of `estimator`.
    One line a feature, the most frequent first: feature (its index), frequency (0 to 1), and `false_bound`, a bound on
    how many features of at least this frequency are false. A feature is false if a half selects it with a chance of at
    most q / d, that of features drawn blindly; q is the mean number selected. The expected number of false ones with a
    frequency of at least t > 1/2 is at most q^2 / (d (2 t - 1)), whatever the features depend on (complementary pairs:
    Shah and Samworth, 2013, theorem 1; under exchangeability Meinshausen and Buehlmann, 2010, have the same). It is NaN
    for t <= 1/2, where there is none.
    """
    rng = check_random_state(estimator.random_state)
    m, d = X.shape
    counts = np.zeros(d)
    for _ in range(pairs):
        order = rng.permutation(m)
        for half in (order[: m // 2], order[m // 2 :]):
            model = clone(estimator).set_params(random_state=rng.randint(2**31)).fit(X[np.sort(half)])
            counts[model.selected_features_] += 1
    frequency, q = counts / (2 * pairs), counts.sum() / (2 * pairs)
    bound = np.full(d, np.nan)
    often = frequency > 0.5
    bound[often] = q**2 / (d * (2 * frequency[often] - 1))
    found = pd.DataFrame({"feature": np.arange(d), "frequency": frequency, "false_bound": bound})
    return found.sort_values("frequency", ascending=False, kind="stable", ignore_index=True)
