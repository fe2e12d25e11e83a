"""From somebody's cells to clusters and named genes: preprocessing, a fit, and what came out as tables."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import clone

from sparcl_lite.clustering.data.cells import Cells
from sparcl_lite.clustering.ksparse import KSparse
from sparcl_lite.clustering.preprocess import PER_CELL, TOP_GENES, are_counts, highly_variable, log_normalised
from sparcl_lite.clustering.resampling import PAIRS, selection_frequencies
from sparcl_lite.errors import KitError

NORMALISE = ("auto", "yes", "no")


@dataclass(frozen=True)
class Analysis:
    """K-sparse on somebody's cells.

    Attributes
    ----------
    cells : as they were clustered: genes left out, counts normalised; `labels` are true classes where they are known
    model : the fitted `KSparse`
    steps : what was done to the data, one sentence each
    clusters : (m,) whole numbers, 0 the largest cluster
    """

    cells: Cells
    model: KSparse
    steps: list[str]

    @cached_property
    def clusters(self) -> np.ndarray:
        """The model's labels, renumbered by size as Leiden's are."""
        sizes = np.bincount(self.model.labels_, minlength=self.model.n_clusters_)
        return np.argsort(np.argsort(-sizes, kind="stable"))[self.model.labels_]

    def labels(self) -> pd.DataFrame:
        """One line a cell: cell, cluster."""
        return pd.DataFrame({"cell": self._names(), "cluster": self.clusters})

    def embedding(self) -> pd.DataFrame:
        """One line a cell: cell, cluster, and its coordinates in the projection that was learned."""
        Z = self.model.transform(self.cells.X)
        return self.labels().join(pd.DataFrame(Z, columns=self.model.get_feature_names_out()))

    def genes(self) -> pd.DataFrame:
        """One line a selected gene, the largest weight first: where it is highest, and its mean there and elsewhere."""
        kept = self.model.selected_features_
        means, elsewhere = self._means(kept)
        highest = means.argmax(axis=0)
        at = highest, np.arange(len(kept))
        return pd.DataFrame(
            {
                "rank": np.arange(1, len(kept) + 1),
                "gene": self.cells.genes[kept],
                "weight": np.linalg.norm(self.model.coef_[kept], axis=1),
                "highest_in_cluster": highest,
                "mean_there": means[at],
                "mean_elsewhere": elsewhere[at],
            }
        )

    def stability(self, pairs: int = PAIRS) -> pd.DataFrame:
        """One line a gene: gene, frequency, false_bound: see `resampling.selection_frequencies`."""
        same = clone(self.model).set_params(
            n_clusters=self.model.n_clusters_, n_genes=len(self.model.selected_features_), verbose=False
        )
        found = selection_frequencies(same, self.cells.X, pairs=pairs)
        return found.assign(gene=self.cells.genes[found["feature"]])[["gene", "frequency", "false_bound"]]

    def _means(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of these features, (k, n): the mean in each cluster, and in all other clusters together."""
        m, clusters = len(self.clusters), self.clusters
        members = sparse.csr_array((np.ones(m), (clusters, np.arange(m))), shape=(clusters.max() + 1, m))
        X = self.cells.X[:, features]
        sums = members @ X
        sums = sums.toarray() if sparse.issparse(sums) else sums
        sizes = members.sum(axis=1)[:, None]
        return sums / sizes, (sums.sum(axis=0) - sums) / np.maximum(m - sizes, 1)

    def _names(self) -> np.ndarray:
        return np.arange(self.cells.X.shape[0]) if self.cells.names is None else self.cells.names


def analyse(
    cells: Cells, *, n_clusters: int | str = "auto", n_genes: int | str = "auto", normalise: str = "auto",
    top_genes: int = TOP_GENES, **options: Any,
) -> Analysis:  # fmt: skip
    """Normalise where needed, keep the most variable genes, and fit.

    Counts are normalised with `normalise="auto"` when they look like counts. `top_genes` highly variable ones are
    clustered, all with 0; only of logarithms of counts can they be told. `options` are those of `KSparse`. Raises
    `KitError` on cells that cannot be clustered so.
    """
    if normalise not in NORMALISE:
        raise KitError(f"normalise = {normalise!r}: allowed: {', '.join(NORMALISE)}")
    try:
        prepared, steps = _prepared(cells, normalise, top_genes)
        model = KSparse(n_clusters, n_genes=n_genes, **options).fit(prepared.X)
    except ValueError as error:
        raise KitError(str(error).partition("\n")[0]) from None
    return Analysis(prepared, model, steps)


def _prepared(cells: Cells, normalise: str, top_genes: int) -> tuple[Cells, list[str]]:
    X, counts = cells.X, are_counts(cells.X)
    if normalise == "yes" or (normalise == "auto" and counts):
        X, logs = log_normalised(X), True
        steps = [f"Counts were scaled to {PER_CELL:,} per cell, and log(1 + x) was taken."]
    else:
        logs = not counts and X.min() >= 0
        told = "look like counts that were not normalised" if counts else "are no counts"
        steps = [f"The values {told}; they were taken as they are."]
    kept = highly_variable(X, top_genes) if logs and top_genes else np.arange(X.shape[1])
    if len(kept) < X.shape[1]:
        X = X[:, kept]
        steps.append(f"The {len(kept):,} most variable of {len(cells.genes):,} genes were kept.")
    return Cells(cells.name, X, cells.labels, cells.genes[kept], names=cells.names), steps
