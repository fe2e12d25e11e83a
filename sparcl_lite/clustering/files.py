"""Counts from files as laboratories have them: AnnData, tables with names, folders of 10x Genomics."""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import io, sparse

from sparcl_lite.clustering.data.cells import Cells
from sparcl_lite.errors import KitError

ENDINGS = ".h5ad, .csv, .csv.gz, .tsv, .tsv.gz, or a folder with matrix.mtx[.gz]"
UNREADABLE = (OSError, EOFError, ValueError, KeyError, MemoryError, zlib.error)  # pandas' own errors are ValueErrors
INSTALL = "install the package with its extra `cells`: pip install 'sparcl-lite[cells]'"


def read_cells(path: Path | str, *, layer: str | None = None, transpose: bool = False) -> Cells:
    """Cells of a file, (m, d) with the genes' and the cells' names; no true classes.

    `layer` names a layer of an `.h5ad` file, or is "raw"; `transpose` is for tables of genes by cells. A first column
    of names or of row numbers is an index. Raises `KitError` on what cannot be read.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise KitError(f"{path}: no such file; allowed: {ENDINGS}")
    if layer and path.suffix != ".h5ad":
        raise KitError(f"layer = {layer!r}: only .h5ad files have layers, and {path.name} is none")
    X, genes, cells = _reader(path)(path, layer)
    if transpose:
        X, genes, cells = X.T, cells, genes
    X = sparse.csr_array(X) if sparse.issparse(X) else np.asarray(X)
    return Cells(path.name, X, None, np.asarray(genes, dtype=str), names=np.asarray(cells, dtype=str))


def _reader(path: Path) -> Callable[[Path, str | None], tuple[Any, Any, Any]]:
    if path.is_dir():
        return _tenx
    name = path.name.removesuffix(".gz")
    if name.endswith(".mtx"):
        return lambda file, layer: _tenx(file.parent, layer)
    if name.endswith((".csv", ".tsv")):
        return _table
    if name.endswith(".h5ad"):
        return _anndata
    raise KitError(f"{path}: ends with {path.suffix!r}; allowed: {ENDINGS}")


def _anndata(path: Path, layer: str | None) -> tuple[Any, Any, Any]:
    try:
        from anndata import read_h5ad
    except ImportError:
        raise KitError(f"{path}: reading .h5ad needs anndata; {INSTALL}") from None
    try:
        data = read_h5ad(path)
    except UNREADABLE as error:
        raise KitError(f"{path} cannot be read ({error})") from None
    if layer == "raw" and data.raw is not None:
        return data.raw.X, data.raw.var_names, data.obs_names
    if layer and layer not in data.layers:
        known = [*data.layers, *(["raw"] if data.raw is not None else [])]
        raise KitError(f"layer = {layer!r}: unknown; {path.name} has: {', '.join(known) or 'none'}")
    return (data.layers[layer] if layer else data.X), data.var_names, data.obs_names


def _table(path: Path, layer: str | None) -> tuple[Any, Any, Any]:
    try:
        frame = pd.read_csv(path, sep="\t" if ".tsv" in path.name else ",")
    except UNREADABLE as error:
        raise KitError(f"{path} cannot be read ({error})") from None
    if len(frame.columns) > 1 and _is_index(frame.iloc[:, 0]):
        frame = frame.set_index(frame.columns[0])
    text = [name for name, kind in frame.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]
    if text:
        raise KitError(f"{path}: column {text[0]!r} holds text; allowed: numbers, after one first column of names")
    return frame.to_numpy(), frame.columns.astype(str), frame.index.astype(str)


def _is_index(column: pd.Series) -> bool:
    """Names, or the rows' numbers from 0 or 1 on."""
    if not pd.api.types.is_numeric_dtype(column) or str(column.name).startswith("Unnamed: "):
        return True
    return any(np.array_equal(column, np.arange(first, first + len(column))) for first in (0, 1)) and len(column) > 2


def _tenx(path: Path, layer: str | None) -> tuple[Any, Any, Any]:
    """`matrix.mtx` (genes by cells), `features.tsv` or `genes.tsv` (id, symbol, ...) and `barcodes.tsv`."""
    matrix, features = _one_of(path, "matrix.mtx"), _one_of(path, "features.tsv", "genes.tsv")
    barcodes, genes = _names(_one_of(path, "barcodes.tsv"))[0], _names(features)
    try:
        X = sparse.csr_array(io.mmread(matrix).T)
    except (*UNREADABLE, OverflowError) as error:
        raise KitError(f"{matrix} cannot be read ({error})") from None
    if X.shape != (len(barcodes), len(genes)):
        raise KitError(f"{path}: {X.shape[1]} genes by {X.shape[0]} cells, but {len(genes)} and {len(barcodes)} names")
    return X, genes[min(1, genes.shape[1] - 1)], barcodes


def _names(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, sep="\t", header=None)
    except UNREADABLE as error:
        raise KitError(f"{path} cannot be read ({error})") from None


def _one_of(path: Path, *names: str) -> Path:
    for name in names:
        for found in (path / name, path / f"{name}.gz"):
            if found.exists():
                return found
    raise KitError(f"{path}: has no {' or '.join(names)}[.gz]; allowed: {ENDINGS}")
