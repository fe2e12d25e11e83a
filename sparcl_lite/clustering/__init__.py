"""Clustering with gene selection: K-sparse and its peers, with scikit-learn's estimator interface.

>>> from sparcl_lite.clustering import KSparse, load, simulate
>>> cells = simulate(n_cells=120, n_genes=200, seed=0)
>>> model = KSparse(n_clusters=4, eta=50.0, random_state=0).fit(cells.X)
>>> model.coef_.shape
(200, 8)
"""

from typing import TYPE_CHECKING

from sparcl_lite.late import names_of

if TYPE_CHECKING:
    from sparcl_lite.clustering.data.loaders import DATASETS, Cells, load
    from sparcl_lite.clustering.data.simulator import simulate
    from sparcl_lite.clustering.gap import permutation_gap
    from sparcl_lite.clustering.ksparse import KSparse
    from sparcl_lite.clustering.simlr import SIMLR
    from sparcl_lite.clustering.sparse_kmeans import SparseKMeans
    from sparcl_lite.clustering.spectral import SpectralNJW
    from sparcl_lite.clustering.tuning import choose_eta, eta_for_genes, eta_path

__all__ = [
    "DATASETS",
    "SIMLR",
    "Cells",
    "KSparse",
    "SparseKMeans",
    "SpectralNJW",
    "choose_eta",
    "eta_for_genes",
    "eta_path",
    "load",
    "permutation_gap",
    "simulate",
]
__getattr__, __dir__ = names_of(
    __name__,
    {
        **dict.fromkeys(("DATASETS", "Cells", "load"), "data.loaders"),
        "simulate": "data.simulator",
        "permutation_gap": "gap",
        "KSparse": "ksparse",
        "SIMLR": "simlr",
        "SparseKMeans": "sparse_kmeans",
        "SpectralNJW": "spectral",
        **dict.fromkeys(("choose_eta", "eta_for_genes", "eta_path"), "tuning"),
    },
)
