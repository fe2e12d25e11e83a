"""The W step of K-sparse: least squares on the l1 ball, by projected gradients with or without acceleration."""

from collections.abc import Callable
from functools import partial

import numpy as np

from sparcl_lite.clustering.design import Design
from sparcl_lite.clustering.projections import l1_ball, l1_sphere, largest_rows

CONSTRAINTS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {"ball": l1_ball, "sphere": l1_sphere}
STEP = 1 / 1.001  # below 1 / (largest eigenvalue of A'A), which is at most 1 as X has unit spectral norm


def solve(
    design: Design,
    labels: np.ndarray,
    centroids: np.ndarray,
    W: np.ndarray,
    *,
    eta: float | None,
    n_features: int | None = None,
    constraint: str = "ball",
    threshold: float = 0.0,
    accelerated: bool = True,
    max_iter: int = 50,
    tol: float = 0.0,
) -> tuple[np.ndarray, int]:
    """Minimise `1/2 ||A W - M||_F^2` over `||W||_1 <= eta`, from W; the solution (d, h) and the iterations made.

    Row i of M is `centroids[labels[i]]`. `eta=None` leaves W free, unless `n_features` bounds its nonzero rows:
    every step then projects on the largest ball that does so; where that settles, W solves the problem of
    `eta = ||W||_1`. Entries below `threshold` are set to zero after every projection. Without acceleration and
    threshold, and with a fixed eta, the criterion never increases. Stops when no entry moves by more than `tol` times
    the largest. Source: the authors' code, which is FISTA with the momentum `i / (i + 5)` of Chambolle and Dossal
    (2015); it returns the extrapolated point, here it is the last projected one (feasible).
    """
    project = _projection(eta, n_features, constraint)
    extrapolated, previous = W, W
    for iteration in range(1, max_iter + 1):
        W = project(extrapolated - STEP * design.gradient(extrapolated, labels, centroids))
        if threshold:
            W = np.where(np.abs(W) < threshold, 0, W)
        change = W - previous
        if np.abs(change).max() <= tol * np.abs(W).max():
            break
        momentum = iteration / (iteration + 5) if accelerated and iteration > 1 else 0.0
        extrapolated, previous = W + momentum * change, W
    return W, iteration


def _projection(eta: float | None, n_features: int | None, constraint: str) -> Callable[[np.ndarray], np.ndarray]:
    if n_features is not None:
        return partial(largest_rows, count=n_features)
    return (lambda W: W) if eta is None else partial(CONSTRAINTS[constraint], radius=eta)
