"""The permutation gap that chooses the bound s of sparse k-means."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.utils import check_array, check_random_state

from sparcl_lite.clustering.sparse_kmeans import SparseKMeans
from sparcl_lite.clustering.tuning import FRACTIONS


@dataclass(frozen=True)
class Gap:
    """The gap statistic (g,) of every s of a grid (g,), its standard error over permutations, and the best s."""

    s: np.ndarray
    gap: np.ndarray
    error: np.ndarray

    @property
    def best(self) -> float:
        """The s of the largest gap."""
        return float(self.s[np.argmax(self.gap)])


def grid_of_s(features: int) -> np.ndarray:
    """As many values of s as K-sparse has of eta, from 1.2 to 2 sqrt(features), evenly on a logarithmic scale.

    From sqrt(features) on the bound has no effect. The authors' package ends at 0.9 sqrt(features), where the gap may
    still grow. This grid goes further, so that the largest gap is never at its end.
    """
    return np.geomspace(1.2, 2 * np.sqrt(features), len(FRACTIONS))


def permutation_gap(
    estimator: SparseKMeans, X: ArrayLike, *, s: np.ndarray | None = None, permutations: int = 25
) -> Gap:
    """How much better sparse k-means does on X (m, d) than on X with every column shuffled, for each s.

    `gap(s) = log O(s) - mean_b log O_b(s)`, O the objective and b the shuffled copies. The first clustering does not
    depend on s and is made once per copy. Source: Witten and Tibshirani (2010), section 3.2.
    """
    X, rng = check_array(X, dtype=[np.float64, np.float32]), check_random_state(estimator.random_state)
    grid = grid_of_s(X.shape[1]) if s is None else np.asarray(s, dtype=float)
    observed = _log_objectives(estimator, X, grid, rng)
    copies = [_log_objectives(estimator, _shuffled(X, rng), grid, rng) for _ in range(permutations)]
    return Gap(grid, observed - np.mean(copies, axis=0), np.std(copies, axis=0) / np.sqrt(permutations))


def _log_objectives(estimator: SparseKMeans, X: np.ndarray, grid: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    first = KMeans(estimator.n_clusters, n_init=estimator.n_init, random_state=rng).fit(X).labels_
    models = (clone(estimator).set_params(s=s).refine(X, first) for s in grid)
    return np.log([model.objective_ for model in models])


def _shuffled(X: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """X with every column permuted by itself."""
    order = rng.rand(*X.shape).argsort(axis=0)
    return np.take_along_axis(X, order, axis=0)
