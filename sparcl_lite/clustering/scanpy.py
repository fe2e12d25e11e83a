"""K-sparse with scanpy's habits: results go into the AnnData object, where scanpy's plots find them."""

import logging
from typing import Any

import numpy as np
import pandas as pd

from sparcl_lite.clustering.ksparse import KSparse
from sparcl_lite.clustering.preprocess import are_counts

log = logging.getLogger(__name__)


def ksparse(
    adata: Any, n_clusters: int | str = "auto", *, n_genes: int | str = "auto", layer: str | None = None,
    key_added: str = "ksparse", copy: bool = False, **options: Any,
) -> Any | None:  # fmt: skip
    """Cluster the cells of an AnnData object and select genes; `options` are those of `KSparse`.

    Takes `adata.X`, or a layer, as it is: `sc.pp.normalize_total`, `sc.pp.log1p` and the choice of highly variable
    genes come first; the log says where they seem to be missing. Writes, with `key_added="ksparse"`:

    - `obs["ksparse"]`: the clusters, categories "0", "1", ...
    - `var["ksparse"]`, `var["ksparse_weight"]`: which genes were selected, and the norm of every gene's weights
    - `obsm["X_ksparse"]`: the cells in the projection, for `sc.pl.embedding(adata, "ksparse", color="ksparse")`
    - `uns["ksparse"]`: `params`, and `genes`, the names of the selected ones by weight

    Returns None, or with `copy` an object of its own. Raises KeyError on an unknown layer, ValueError as `KSparse.fit`.
    """
    adata = adata.copy() if copy else adata
    if layer is not None and layer not in adata.layers:
        raise KeyError(f"layer: got {layer!r}, allowed are {', '.join(adata.layers) or 'none: there are no layers'}")
    X = adata.X if layer is None else adata.layers[layer]
    X = X.to_memory() if hasattr(X, "to_memory") else X  # of a file that is read where needed
    if are_counts(X):
        log.warning("X holds counts: scanpy.pp.normalize_total and scanpy.pp.log1p come before K-sparse")
    model = KSparse(n_clusters, n_genes=n_genes, **options).fit(X)
    order = np.arange(model.n_clusters_).astype(str)
    adata.obs[key_added] = pd.Categorical(model.labels_.astype(str), categories=order)
    adata.var[key_added] = np.isin(np.arange(adata.n_vars), model.selected_features_)
    adata.var[f"{key_added}_weight"] = np.linalg.norm(model.coef_, axis=1)
    adata.obsm[f"X_{key_added}"] = model.transform(X)
    params = {"n_clusters": model.n_clusters_, "n_genes": len(model.selected_features_), "layer": layer or ""}
    genes = np.asarray(adata.var_names)[model.selected_features_].astype(str)
    adata.uns[key_added] = {"params": params, "genes": genes}
    return adata if copy else None
