"""Genes that tell given cell types apart, chosen by several ways, and what a classifier makes of them on other cells.

What is chosen from unlabelled cells (K-sparse, highly variable genes) stands beside what needs labels.
"""

import warnings
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sparcl_lite.clustering.ksparse import KSparse
from sparcl_lite.clustering.preprocess import highly_variable

TEST_SHARE = 0.3  # of the cells, drawn within every type
CONSTRAINTS_OF_ALL_PAIRS = 1.0  # scGeneFit's `redundancy`: centres of all pairs of types, not a random few


def k_sparse(X, labels: np.ndarray, n_genes: int, seed: int, **options: Any) -> np.ndarray:
    """K-sparse with its defaults; of the labels only their number is used."""
    return KSparse(len(np.unique(labels)), n_genes=n_genes, random_state=seed, **options).fit(X).selected_features_


def rank_genes_groups(X, labels: np.ndarray, n_genes: int, seed: int, method: str = "wilcoxon") -> np.ndarray:
    """`scanpy.tl.rank_genes_groups`: by turns the next gene of each type against all others. Needs labels."""
    import scanpy as sc

    names = pd.Index(np.arange(len(X)).astype(str))
    cells = sc.AnnData(np.asarray(X), obs=pd.DataFrame({"type": pd.Categorical(labels)}, index=names))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of counts where logarithms are of few counts
        sc.tl.rank_genes_groups(cells, "type", method=method, use_raw=False)
    ranked = np.array(cells.uns["rank_genes_groups"]["names"].tolist(), dtype=int)  # genes by types
    return pd.unique(ranked.ravel())[:n_genes]


def scgenefit(X, labels: np.ndarray, n_genes: int, seed: int) -> np.ndarray:
    """scGeneFit (Dumitrascu and others, 2021): a linear program that keeps the types' centres apart. Needs labels."""
    from scGeneFit.functions import get_markers

    numbers = np.unique(labels, return_inverse=True)[1]  # whose order in a set does not change from run to run
    state = np.random.get_state()  # noqa: NPY002, it draws from numpy's global generator
    try:
        np.random.seed(seed)  # noqa: NPY002
        found = get_markers(np.asarray(X, float), numbers, n_genes, redundancy=CONSTRAINTS_OF_ALL_PAIRS, verbose=False)
    finally:
        np.random.set_state(state)  # noqa: NPY002
    return np.array(found)


def most_variable(X, labels: np.ndarray, n_genes: int, seed: int) -> np.ndarray:
    """Highly variable genes, as scanpy chooses them."""
    return highly_variable(X, n_genes)


def at_random(X, labels: np.ndarray, n_genes: int, seed: int) -> np.ndarray:
    """Any genes."""
    return np.random.RandomState(seed).permutation(X.shape[1])[:n_genes]


Selector = Callable[..., np.ndarray]  # X (m, d), labels (m,), n_genes, seed -> indices (n_genes,)
SELECTORS: dict[str, Selector] = {
    "k-sparse": k_sparse,
    "rank-genes-groups": rank_genes_groups,
    "scgenefit": scgenefit,
    "highly-variable": most_variable,
    "random": at_random,
}


def recovery(X, labels: np.ndarray, genes: Selector, *, seed: int) -> tuple[dict[str, float], np.ndarray]:
    """How well types are told from selected genes on cells that had no part in the selection.

    `genes` takes the training cells (m, d) and their labels, and gives the genes, (n,), which are returned, too. The
    scores of a logistic regression on those genes, standardised: accuracy, and its mean over types (balanced).
    """
    split = StratifiedShuffleSplit(1, test_size=TEST_SHARE, random_state=seed)
    train, test = next(split.split(X, labels))
    chosen = genes(X[train], labels[train])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))
    predicted = model.fit(X[train][:, chosen], labels[train]).predict(X[test][:, chosen])
    right = {"accuracy": float(np.mean(predicted == labels[test]))}
    return right | {"balanced": float(balanced_accuracy_score(labels[test], predicted))}, chosen


def known_markers(genes: np.ndarray) -> np.ndarray:
    """Which of these gene names (d,) are known markers of blood cells; (d,) booleans. See `data/markers.csv`."""
    with files("sparcl_lite.clustering.data").joinpath("markers.csv").open() as file:
        return np.isin(genes, pd.read_csv(file, comment="#")["gene"])
