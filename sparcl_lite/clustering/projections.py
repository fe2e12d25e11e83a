"""Euclidean projections on the l1 ball, the l1 sphere and the simplex: pure functions on arrays."""

import numpy as np

__all__ = ["l1_ball", "l1_sphere", "largest_rows", "simplex_rows"]


def l1_ball(z: np.ndarray, radius: float) -> np.ndarray:
    """The point of `{w : sum |w_i| <= radius}` nearest to `z`; any shape, the norm is over all entries.

    Raises ValueError when `radius` is not above 0.

    >>> l1_ball(np.array([3.0, -1.0]), 2.0)
    array([ 2., -0.])
    """
    z = _checked(z, radius)
    if np.abs(z).sum() <= radius:
        return z
    return l1_sphere(z, radius)


def l1_sphere(z: np.ndarray, radius: float) -> np.ndarray:
    """As `l1_ball`, but a point inside the ball is moved outwards, to `sum |w_i| = radius`.

    Every entry that is not zero gets the same amount added to its magnitude; zeros have no sign and stay. That is what
    the authors' compiled projection does: the one on the simplex, applied to magnitudes, without a test for the inside.

    >>> l1_sphere(np.array([3.0, -1.0]), 6.0)
    array([ 4., -2.])
    """
    z = _checked(z, radius)
    magnitude = np.abs(z)
    return np.sign(z) * np.maximum(magnitude - _threshold(magnitude.ravel(), radius), 0).astype(z.dtype)


def largest_rows(z: np.ndarray, count: int) -> np.ndarray:
    """`z` (d, h) projected on the largest l1 ball in which at most `count` of its rows are not zero.

    All magnitudes lose the same amount, the largest entry of the rows that go. Of equal rows the first ones stay.

    >>> largest_rows(np.array([[3.0, -1.0], [0.0, 2.0]]), 1)
    array([[ 1., -0.],
           [ 0.,  0.]])
    """
    sizes = np.abs(z).max(axis=1)
    order = np.argsort(-sizes, kind="stable")
    lost = sizes[order[count:]]
    threshold = lost[lost < sizes[order[count - 1]]].max(initial=0)
    projected = np.sign(z) * np.maximum(np.abs(z) - threshold, 0)
    projected[order[count:]] = 0
    return projected


def simplex_rows(rows: np.ndarray) -> np.ndarray:
    """Each row of an (n, p) array projected on `{w >= 0, sum w = 1}`.

    >>> simplex_rows(np.array([[0.5, 1.5, -9.0]]))
    array([[0., 1., 0.]])
    """
    descending = -np.sort(-rows, axis=1)
    thresholds = (np.cumsum(descending, axis=1) - 1) / np.arange(1, rows.shape[1] + 1)
    last = (descending > thresholds).sum(axis=1) - 1
    return np.maximum(rows - np.take_along_axis(thresholds, last[:, None], axis=1), 0)


def _threshold(magnitude: np.ndarray, radius: float) -> float:
    """The t with `sum max(magnitude - t, 0) = radius`, by Michelot's algorithm: no sorting, exact in a few passes."""
    active = magnitude
    while True:
        threshold = (active.sum(dtype=float) - radius) / len(active)
        kept = active[active > threshold]
        if len(kept) in (0, len(active)):
            return threshold
        active = kept


def _checked(z: np.ndarray, radius: float) -> np.ndarray:
    """`z` as floats, since the nearest point of whole numbers is not one of them."""
    if not radius > 0:
        raise ValueError(f"radius: got {radius}, allowed is a number above 0")
    return z if np.issubdtype(z.dtype, np.floating) else z.astype(float)
