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
    from sparcl_lite.clustering.analysis import Analysis, analyse
    from sparcl_lite.clustering.data.loaders import DATASETS, Cells, load
    from sparcl_lite.clustering.data.simulator import simulate
    from sparcl_lite.clustering.files import read_cells
    from sparcl_lite.clustering.gap import permutation_gap
    from sparcl_lite.clustering.ksparse import KSparse
    from sparcl_lite.clustering.resampling import selection_frequencies
    from sparcl_lite.clustering.simlr import SIMLR
    from sparcl_lite.clustering.sparse_kmeans import SparseKMeans
    from sparcl_lite.clustering.spectral import SpectralNJW
    from sparcl_lite.clustering.tuning import choose_eta, eta_for_genes, eta_path

__all__ = [
    "DATASETS",
    "SIMLR",
    "Analysis",
    "Cells",
    "KSparse",
    "SparseKMeans",
    "SpectralNJW",
    "analyse",
    "choose_eta",
    "eta_for_genes",
    "eta_path",
    "load",
    "permutation_gap",
    "read_cells",
    "selection_frequencies",
    "simulate",
]
__getattr__, __dir__ = names_of(
    __name__,
    {
        **dict.fromkeys(("DATASETS", "Cells", "load"), "data.loaders"),
        "simulate": "data.simulator",
        **dict.fromkeys(("Analysis", "analyse"), "analysis"),
        "read_cells": "files",
        "permutation_gap": "gap",
        "selection_frequencies": "resampling",
        "KSparse": "ksparse",
        "SIMLR": "simlr",
        "SparseKMeans": "sparse_kmeans",
        "SpectralNJW": "spectral",
        **dict.fromkeys(("choose_eta", "eta_for_genes", "eta_path"), "tuning"),
    },
)
