"""Spectral clustering of Ng, Jordan and Weiss: K-sparse's baseline, and what it starts from."""

from typing import Any, Self

from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from sparcl_lite.clustering.checks import check_counts
from sparcl_lite.clustering.design import Design
from sparcl_lite.clustering.embedding import check_pairs, spectral_embedding, squared_distances
from sparcl_lite.clustering.lloyd import kmeans


class SpectralNJW(ClusterMixin, BaseEstimator):
    """k-means on the row-normalised eigenvectors of the normalised Laplacian (Ng, Jordan and Weiss, 2002).

    scikit-learn's `SpectralClustering` does not normalise the rows. Given k + 4 components and `scale=True` it is the
    initialisation of `KSparse`; with the defaults it is the baseline of the authors' scripts.

    Parameters
    ----------
    n_clusters : k
    n_components : eigenvectors, the trivial one among them; None is k
    sigma : width of the Gaussian affinity
    scale : divide X by its spectral norm first
    n_init : k-means restarts
    random_state : of the restarts

    Attributes
    ----------
    labels_ : (m,)
    embedding_ : (m, n_components), rows of unit length
    """

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        n_components: int | None = None,
        sigma: float = 150.0,
        scale: bool = False,
        n_init: int = 10,
        random_state: Any = None,
    ):
        self.n_clusters = n_clusters
        self.n_components = n_components
        self.sigma = sigma
        self.scale = scale
        self.n_init = n_init
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Cluster X (m, d), dense or CSR. Raises ValueError on more samples than all pairs can be held of."""
        check_counts(self, "n_clusters", "n_components", "n_init")
        X = validate_data(self, X, accept_sparse="csr", dtype=[float, "float32"], ensure_min_samples=2)
        if X.shape[0] < self.n_clusters:
            raise ValueError(f"n_samples={X.shape[0]} should be >= n_clusters={self.n_clusters}.")
        check_pairs(X.shape[0], "SpectralNJW", "KSparse(init='whitened')")
        design = Design(X)
        sigma = self.sigma if self.scale else self.sigma / design.norm
        size = min(self.n_components or self.n_clusters, X.shape[0])
        self.embedding_ = spectral_embedding(squared_distances(design.gram()), size, sigma)
        rng = check_random_state(self.random_state)
        self.labels_, _ = kmeans(self.embedding_, self.n_clusters, self.n_init, rng)
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
