"""What an estimator is given, as a matrix: AnnData, data frames, SciPy's formats, dask and memory-mapped arrays."""

from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data

from sparcl_lite.clustering.design import is_dask

FLOATS = [np.float64, np.float32]  # single precision stays; whole numbers and half precision become double


def checked(estimator: BaseEstimator, given: Any, *, reset: bool) -> Any:
    """The (m, d) matrix of what was given: a dense or CSR array of floats, or a dask array.

    With `reset` the number of features and, where `given` has any, their names are kept as `n_features_in_` and
    `feature_names_in_`; else they are compared. Raises ValueError with one line on NaN, infinity, text, a column that
    is an index, and on features that are not those of the fit.
    """
    X, names = matrix_and_names(given)
    if is_dask(X):
        _check_dask(X)
    elif names is None:
        X = validate_data(estimator, X, reset=reset, accept_sparse="csr", dtype=FLOATS, ensure_all_finite=False)
    else:
        X = check_array(X, accept_sparse="csr", dtype=FLOATS, estimator=estimator, ensure_all_finite=False)
    if is_dask(X) or names is not None:
        _keep_or_compare(estimator, X.shape[1], names, reset)
    if not is_dask(X):
        _check_finite(X, getattr(estimator, "feature_names_in_", None))
    return X


def matrix_and_names(given: Any) -> tuple[Any, np.ndarray | None]:
    """The matrix inside of an AnnData object or a data frame, and the names (d,) of its features, or None."""
    if hasattr(given, "var_names") and hasattr(given, "X"):  # AnnData, or its `raw`
        X = given.X
        if X is None:
            raise ValueError("X: this AnnData object has none; give one of its layers, as adata.layers[name]")
        X = X.to_memory() if hasattr(X, "to_memory") else X  # of a file that is read where needed
        return (X if sparse.issparse(X) or is_dask(X) else np.asarray(X)), np.asarray(given.var_names, dtype=object)
    if hasattr(given, "to_dask_array"):
        return given.to_dask_array(lengths=True), np.asarray(given.columns, dtype=object)
    if isinstance(given, pd.DataFrame):
        _check_columns(given)  # the names are scikit-learn's to keep
    return given, None


def _check_columns(frame: pd.DataFrame) -> None:
    """Refuse an index that was read as a column: it would be a feature of enormous variance."""
    for name in frame.columns[:1]:
        if str(name).startswith("Unnamed: "):
            raise ValueError(f"X: column {name!r} is an index, not a feature; read the file with index_col=0")
    text = [name for name, kind in frame.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]
    if text:
        raise ValueError(f"X: column {text[0]!r} holds {frame[text[0]].dtype}, allowed are numbers; is it an index?")


def _check_dask(X: Any) -> None:
    if X.ndim != 2 or np.isnan(X.shape[0]):
        raise ValueError(f"X: got a dask array of shape {X.shape}, allowed is (m, d) with m known")


def _keep_or_compare(estimator: BaseEstimator, features: int, names: np.ndarray | None, reset: bool) -> None:
    if reset:
        estimator.n_features_in_ = features
        if names is not None:
            estimator.feature_names_in_ = names
        elif hasattr(estimator, "feature_names_in_"):
            del estimator.feature_names_in_
        return
    expected = estimator.n_features_in_
    if features != expected:
        name = type(estimator).__name__
        raise ValueError(f"X has {features} features, but {name} is expecting {expected} features as input.")
    known = getattr(estimator, "feature_names_in_", None)
    if names is not None and known is not None and not np.array_equal(names, known):
        first = np.flatnonzero(names != known)[0]
        raise ValueError(
            "The feature names should match those that were passed during fit. "
            f"Column {first} is {names[first]!r}, and was {known[first]!r}"
        )


def _check_finite(X: Any, names: np.ndarray | None) -> None:
    values = X.data if sparse.issparse(X) else X
    if np.isfinite(values.sum(dtype=float)):
        return
    wrong = ~np.isfinite(values)
    if not wrong.any():  # the sum alone is too large
        raise ValueError("X: the sum of its values is too large for double precision; divide X by a constant")
    at = tuple(int(axis[0]) for axis in np.nonzero(wrong))
    row, column = (np.searchsorted(X.indptr, at[0], "right") - 1, X.indices[at[0]]) if sparse.issparse(X) else at
    value = "NaN" if np.isnan(values[at]) else "infinity"
    where = repr(str(names[column])) if names is not None else column
    raise ValueError(f"X contains {value}: {wrong.sum()} such values, the first in row {row}, column {where}")
