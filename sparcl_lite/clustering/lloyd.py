"""The label step of K-sparse: k-means on the projected samples, with free or penalised centroids."""

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import euclidean_distances

LLOYD_ITERATIONS = 100
RESTART_SAMPLES = 20_000  # of more samples the restarts see as many, drawn at random; the best then goes on with all

Assignment = tuple[np.ndarray, np.ndarray]  # labels (m,), centroids (k, h)


def kmeans(Z: np.ndarray, k: int, restarts: int, rng: np.random.RandomState, start: np.ndarray | None = None):
    """The best of `restarts` k-means++ runs and, where `start` (k, h) is given, of one that begins there.

    With a start the within-cluster sum of squares is never above that of the assignment it came from.
    """
    runs = [_restarted(Z, k, restarts, rng)] if restarts else []
    if start is not None:
        runs.insert(0, KMeans(k, init=start, n_init=1).fit(Z))
    best = min(runs, key=lambda run: run.inertia_)
    return best.labels_, best.cluster_centers_


def _restarted(Z: np.ndarray, k: int, restarts: int, rng: np.random.RandomState) -> KMeans:
    model = KMeans(k, n_init=restarts, random_state=rng)
    if len(Z) <= RESTART_SAMPLES:
        return model.fit(Z)
    sample = Z[np.sort(rng.choice(len(Z), RESTART_SAMPLES, replace=False))]
    return KMeans(k, init=model.fit(sample).cluster_centers_, n_init=1).fit(Z)


def anchors(labels: np.ndarray, k: int, h: int) -> np.ndarray:
    """Rows of the (k, h) identity, less their mean over the samples: projected samples are centred, too."""
    identity = np.eye(k, h)
    return identity - np.bincount(labels, minlength=k) / len(labels) @ identity


def penalised(Z: np.ndarray, centroids: np.ndarray, goals: np.ndarray, penalty: float) -> Assignment:
    """Minimise `sum_i 1/2 ||mu[l_i] - z_i||^2 + penalty/2 ||mu[l_i] - goals[l_i]||^2` over labels and mu by turns.

    Every centroid is drawn to its row of `goals` (k, h) with a weight in proportion to the cluster's size. The same
    weight for all would keep small clusters away from their samples, and the largest would take in everything. An empty
    cluster gets the sample nearest to its centroid.
    """
    labels = None
    for _ in range(LLOYD_ITERATIONS):
        distances = euclidean_distances(Z, centroids, squared=True) + extra_cost(centroids, goals, penalty)
        nearest = distances.argmin(axis=1)
        for empty in np.flatnonzero(np.bincount(nearest, minlength=len(goals)) == 0):
            nearest[distances[:, empty].argmin()] = empty
        if labels is not None and np.array_equal(nearest, labels):
            break
        labels = nearest
        sums, counts = cluster_sums(Z, labels, len(goals))
        means = sums / np.maximum(counts, 1)[:, None]
        centroids = (means + penalty * goals) / (1 + penalty)
    return labels, centroids


def extra_cost(centroids: np.ndarray, goals: np.ndarray, penalty: float) -> np.ndarray:
    """What a sample pays beside its squared distance for each cluster, (k,)."""
    return penalty * np.square(centroids - goals).sum(axis=1)


def cluster_sums(Z: np.ndarray, labels: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Per cluster the sum of its rows of Z, (k, h), and their number, (k,)."""
    sums = np.stack([np.bincount(labels, column, minlength=k) for column in Z.T], axis=1)
    return sums, np.bincount(labels, minlength=k).astype(float)
