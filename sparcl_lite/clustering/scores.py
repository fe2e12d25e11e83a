"""How good a clustering and a selection of features are, given the truth."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score
from sklearn.metrics.cluster import contingency_matrix

SILHOUETTE_SAMPLES = 2_000  # all pairs of them are compared


def accuracy(truth: ArrayLike, labels: ArrayLike) -> float:
    """Share of samples in the right cluster, once clusters are matched to classes as well as possible (Hungarian).

    >>> accuracy(["a", "a", "b"], [7, 7, 5])
    1.0
    """
    counts = contingency_matrix(truth, labels)
    return float(counts[linear_sum_assignment(-counts)].sum() / counts.sum())


def agreement(truth: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Accuracy, adjusted Rand index and normalised mutual information (geometric mean) of labels (m,)."""
    return {
        "accuracy": accuracy(truth, labels),
        "ari": float(adjusted_rand_score(truth, labels)),
        "nmi": float(normalized_mutual_info_score(truth, labels, average_method="geometric")),
    }


def silhouette(Z: np.ndarray, labels: np.ndarray, seed: int = 0) -> float | None:
    """Mean silhouette of labels in Z (m, h) by squared Euclidean distances, of up to 2,000 samples; None if undefined.

    Squared distances are the default of the software that the authors used.
    """
    size = min(len(Z), SILHOUETTE_SAMPLES)
    chosen = np.random.RandomState(seed).permutation(len(Z))[:size]
    if not 2 <= len(np.unique(labels[chosen])) < size:
        return None
    return float(silhouette_score(Z[chosen], labels[chosen], metric="sqeuclidean"))


def precision_recall(selected: ArrayLike, truth: np.ndarray) -> tuple[float, float]:
    """Of selected indices against truth (d,) booleans: the share that is true, and the share of the true selected.

    >>> precision_recall([0, 1], np.array([True, False, True, True]))
    (0.5, 0.3333333333333333)
    """
    hits = int(np.asarray(truth)[np.asarray(selected, dtype=int)].sum())
    return hits / max(1, len(np.asarray(selected))), hits / max(1, int(np.sum(truth)))


def jaccard(first: ArrayLike, second: ArrayLike) -> float:
    """Shared entries of two sets over all their entries; 1 for two empty ones.

    >>> jaccard([1, 2], [2, 3])
    0.3333333333333333
    """
    a, b = set(np.asarray(first).tolist()), set(np.asarray(second).tolist())
    return len(a & b) / len(a | b) if a | b else 1.0
