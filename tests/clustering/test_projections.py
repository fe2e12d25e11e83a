"""The projections are the nearest points, by brute force and by the conditions that only nearest points fulfil."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import minimize

from sparcl_lite.clustering.projections import l1_ball, l1_sphere, simplex_rows

vectors = arrays(float, st.integers(1, 12), elements=st.floats(-50, 50, width=32))
radii = st.floats(0.01, 100)


def sorted_threshold(magnitude, radius):
    """The textbook's way: sort, and take the last r whose value exceeds its threshold."""
    s = np.sort(magnitude)[::-1]
    t = (np.cumsum(s) - radius) / np.arange(1, len(s) + 1)
    return t[np.flatnonzero(s > t)[-1]]


@given(vectors, radii)
@settings(max_examples=200, deadline=None)
def test_the_ball_agrees_with_sorting(z, radius):
    inside = np.abs(z).sum() <= radius
    expected = z if inside else np.sign(z) * np.maximum(np.abs(z) - sorted_threshold(np.abs(z), radius), 0)
    found = l1_ball(z, radius)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert np.abs(found).sum() <= radius * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_no_point_of_the_ball_is_nearer(seed):
    rng = np.random.RandomState(seed)
    z = rng.normal(0, 2, 3)
    signs = np.array([[a, b, c] for a in (1, -1) for b in (1, -1) for c in (1, -1)])
    bound = {"type": "ineq", "fun": lambda w: 1.5 - signs @ w}
    brute = minimize(lambda w: ((w - z) ** 2).sum(), np.zeros(3), constraints=bound, tol=1e-12).x
    np.testing.assert_allclose(l1_ball(z, 1.5), brute, atol=1e-5)


@given(vectors.filter(lambda z: np.all(np.abs(z) > 1e-3)), radii)
@settings(max_examples=100, deadline=None)
def test_the_sphere_is_always_reached(z, radius):
    found = l1_sphere(z, radius)
    assert np.abs(found).sum() == pytest.approx(radius)
    np.testing.assert_allclose(np.abs(found), np.maximum(np.abs(z) - sorted_threshold(np.abs(z), radius), 0), atol=1e-9)


def test_matrices_keep_their_shape_and_precision():
    z = np.random.RandomState(0).normal(size=(5, 4)).astype(np.float32)
    for project in (l1_ball, l1_sphere):
        found = project(z, 2.0)
        assert (found.shape, found.dtype) == (z.shape, z.dtype)
        np.testing.assert_allclose(found.ravel(), project(z.ravel(), 2.0))


def test_whole_numbers_are_not_cut_off():
    for project in (l1_ball, l1_sphere):
        np.testing.assert_allclose(project(np.array([3, -2], np.int8), 2.0), project(np.array([3.0, -2.0]), 2.0))
    np.testing.assert_allclose(l1_sphere(np.array([3, 2], np.uint8), 6.0), [3.5, 2.5])


@pytest.mark.parametrize("seed", range(5))
def test_rows_land_on_the_simplex_at_the_nearest_point(seed):
    rows = np.random.RandomState(seed).normal(size=(4, 6))
    found = simplex_rows(rows)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (found >= 0).all()
    slack = rows - found  # equal wherever the projection is above zero, no larger elsewhere
    level = np.where(found > 0, slack, -np.inf).max(axis=1, keepdims=True)
    assert (np.abs(slack - level)[found > 0] < 1e-9).all()
    assert (slack <= level + 1e-9).all()


@pytest.mark.parametrize("radius", [0, -1.0, float("nan")])
def test_a_radius_without_a_ball_is_refused(radius):
    with pytest.raises(ValueError, match="radius: got"):
        l1_ball(np.ones(2), radius)
