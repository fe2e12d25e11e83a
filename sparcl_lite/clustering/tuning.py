"""Choosing eta without labels: by the silhouette of the projection, or by the number of features wanted."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from sparcl_lite.clustering.ksparse import KSparse
from sparcl_lite.clustering.scores import silhouette

#: Of the l1 norm of an unconstrained W. Beyond 1 the ball binds nothing; the sphere, as released, inflates W.
FRACTIONS = tuple(2.0**power for power in range(-6, 4))
SAME = 0.01  # silhouettes this near to each other are taken as equal


def eta_path(estimator: KSparse, X: Any, etas: Iterable[float] | None = None) -> pd.DataFrame:
    """Fits along a grid of eta: columns eta, features, silhouette, relative_criterion, l1_norm, active, one line a fit.

    Without `etas` the grid is `FRACTIONS` of the l1 norm of an unconstrained W: a given eta means something else on
    other data. The silhouette is that of the projected samples; it tends to favour many features.
    """
    if etas is None:
        free = clone(estimator).set_params(eta=None, n_genes=None).fit(X)
        etas = np.array(FRACTIONS) * free.l1_norm_
    return pd.DataFrame(_line(clone(estimator).set_params(eta=float(eta), n_genes=None).fit(X), X) for eta in etas)


def choose_eta(path: pd.DataFrame) -> float:
    """The smallest eta of a path, thus the fewest features, whose silhouette is within 0.01 of the best.

    A handful of features makes tight groups that mean nothing, so the silhouette is also high with very few features.
    Values before its first rise are therefore left out. Raises ValueError when it never rises.
    """
    path = path.sort_values("eta")
    rising = path[(path["silhouette"].diff() > 0).cummax()]
    if rising.empty:
        raise ValueError(f"path: got silhouettes that fall from eta {path.eta.iloc[0]:g} on, allowed is a longer path")
    return float(rising.loc[rising["silhouette"] >= rising["silhouette"].max() - SAME, "eta"].iloc[0])


def eta_for_genes(estimator: KSparse, X: Any, wanted: int, *, tolerance: float = 0.05, max_fits: int = 20) -> KSparse:
    """A fit that selects `wanted` features within a relative `tolerance`, or the nearest found: bisection of log eta.

    The number of features grows with eta, if not strictly: about 10 fits. Raises ValueError on `wanted` outside 1 to d.
    """
    if not 1 <= wanted <= X.shape[1]:
        raise ValueError(f"wanted: got {wanted}, allowed are 1 to {X.shape[1]}, the features of X")
    best = clone(estimator).set_params(eta=None, n_genes=None).fit(X)
    high, low = np.log(best.l1_norm_), np.log(best.l1_norm_ * 1e-4)
    for _ in range(max_fits):
        if _miss(best, wanted) <= tolerance * wanted:
            break
        middle = (low + high) / 2
        model = clone(estimator).set_params(eta=float(np.exp(middle)), n_genes=None).fit(X)
        low, high = (middle, high) if len(model.selected_features_) < wanted else (low, middle)
        best = min(best, model, key=lambda fitted: _miss(fitted, wanted))
    return best


def _miss(model: KSparse, wanted: int) -> int:
    return abs(len(model.selected_features_) - wanted)


def _line(model: KSparse, X: Any) -> dict[str, Any]:
    return {
        "eta": model.eta,
        "features": len(model.selected_features_),
        "silhouette": silhouette(model.transform(X), model.labels_),
        "relative_criterion": float(model.relative_criterion_[-1]),
        "l1_norm": model.l1_norm_,
        "active": model.constraint_active_,
    }
