"""How many clusters the data support: the largest number that two halves of the cells agree on."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score, pairwise_distances_argmin
from sklearn.preprocessing import normalize

from sparcl_lite.clustering.design import Design
from sparcl_lite.clustering.lloyd import kmeans

MAX_CLUSTERS = 15
SAMPLES = 5_000  # that are compared at most
SPLITS, RESTARTS = 4, 3
STABLE = 0.8  # adjusted Rand index; Tibshirani and Walther (2005) ask for as much of their prediction strength


def number_of_clusters(design: Design, rng: np.random.RandomState) -> int:
    """The largest k up to 15 whose clusterings of two random halves agree; where none does, the k that agrees most.

    A half is clustered, and the other half is assigned to its centroids; that is compared with the other half's own
    clusters by the adjusted Rand index, whose mean over 4 splits must reach 0.8. Both happen in the row-normalised left
    singular vectors that `init="whitened"` starts from. Never more than there are different samples; one cluster is the
    answer for equal or very few ones only.
    """
    m, d = design.shape
    most = min(MAX_CLUSTERS, m // 4, d)
    if most < 2:
        return 1
    left, values = design.svd(min(most + 1, m, d), rng)
    left = left[np.sort(rng.permutation(m)[:SAMPLES])]
    most = min(most, _different(left * values))  # vectors of no weight are noise
    if most < 2:
        return 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of halves with fewer different cells than k
        agreed = {k: np.mean([_agreement(normalize(left[:, : k + 1]), k, rng) for _ in range(SPLITS)])
                  for k in range(2, most + 1)}  # fmt: skip
    return max((k for k, value in agreed.items() if value >= STABLE), default=max(agreed, key=agreed.get))


def _different(rows: np.ndarray) -> int:
    """How many rows differ by more than rounding."""
    return len(np.unique(np.round(rows / (np.abs(rows).max() or 1.0), 6), axis=0))


def _agreement(Z: np.ndarray, k: int, rng: np.random.RandomState) -> float:
    order = rng.permutation(len(Z))
    first, second = Z[order[: len(Z) // 2]], Z[order[len(Z) // 2 :]]
    _, centroids = kmeans(first, k, RESTARTS, rng)
    return adjusted_rand_score(kmeans(second, k, RESTARTS, rng)[0], pairwise_distances_argmin(second, centroids))
