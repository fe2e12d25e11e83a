"""Sparse k-means, its gap, SIMLR and spectral clustering do what their papers say."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from sklearn.metrics import euclidean_distances

from sparcl_lite.clustering import SIMLR, SparseKMeans, SpectralNJW, permutation_gap, simlr, simlr_parts
from sparcl_lite.clustering.embedding import spectral_embedding
from sparcl_lite.clustering.gap import grid_of_s
from sparcl_lite.clustering.scores import accuracy
from sparcl_lite.clustering.simlr import _bottom, _similarity
from sparcl_lite.clustering.simlr_parts import (
    diffuse,
    entropic_weights,
    kernel_distances,
    laplacian,
    normalise_rows,
    strongest,
    transition_field,
    tsne,
)
from sparcl_lite.clustering.sparse_kmeans import feature_weights


@pytest.mark.parametrize("s", [1.2, 1.7, 5.0])
def test_weights_are_the_best_that_both_bounds_allow(s):
    gain = np.array([5.0, 3.0, 1.0, 0.5, 0.0])
    weights = feature_weights(gain, s)
    bounds = [
        {"type": "ineq", "fun": lambda w: 1 - w @ w},
        {"type": "ineq", "fun": lambda w: s - w.sum()},
    ]
    best = minimize(lambda w: -w @ gain, np.full(5, 0.2), bounds=[(0, None)] * 5, constraints=bounds, tol=1e-12)
    np.testing.assert_allclose(weights, best.x, atol=1e-4)
    assert weights @ weights == pytest.approx(1)


def test_weights_without_any_gain_are_even():
    np.testing.assert_allclose(feature_weights(np.zeros(4), 1.5), 0.5)


def test_sparse_kmeans_finds_planted_features(planted):
    X, labels = planted
    model = SparseKMeans(3, s=2.5, random_state=0).fit(X)
    assert accuracy(labels, model.labels_) == 1
    assert set(model.selected_features_[:8]) <= set(range(10))
    assert model.feature_weights_.sum() <= 2.5 * (1 + 1e-6)
    np.testing.assert_array_equal(model.predict(X), model.labels_)
    everything = SparseKMeans(3, s=100.0, random_state=0).fit(X)
    assert len(everything.selected_features_) == 200
    with pytest.raises(ValueError, match=r"s: got 1.0, allowed is a number above 1"):
        SparseKMeans(3, s=1.0).fit(X)


def test_the_gap_prefers_few_features_where_few_differ(planted):
    X, _ = planted
    gap = permutation_gap(SparseKMeans(3, n_init=3, random_state=0), X, permutations=4)
    assert gap.best == gap.s[np.argmax(gap.gap)]
    assert len(gap.s) == len(gap.gap) == len(gap.error) == 10
    assert gap.best < 5  # of up to 0.9 sqrt(200) = 12.7
    noise = permutation_gap(SparseKMeans(3, n_init=3, random_state=0), np.random.RandomState(1).normal(size=(60, 30)),
                            permutations=6)  # fmt: skip
    assert np.abs(noise.gap).max() < 0.2 < gap.gap.max()


def test_the_gap_takes_what_estimators_take(planted):
    X = np.round(planted[0][:, :30])
    quick, few = SparseKMeans(3, n_init=2, random_state=0), [1.5, 3.0]
    expected = permutation_gap(quick, X, s=few, permutations=2)
    for given in (pd.DataFrame(X), X.tolist(), X.astype(np.int8), X.astype(np.float16)):
        found = permutation_gap(quick, given, s=few, permutations=2)
        np.testing.assert_allclose(found.gap, expected.gap, rtol=1e-6)
    labels = quick.fit(X).labels_
    frame = pd.DataFrame(X, columns=[f"gene {j}" for j in range(30)])
    model = SparseKMeans(3, random_state=0).refine(frame, labels)
    assert (model.predict(frame) == model.labels_).mean() > 0.95


@pytest.mark.parametrize("features", [30, 500, 10_000])
def test_no_bound_at_all_is_inside_the_grid_of_s(features):
    """Above sqrt(features) s binds nothing, so that the largest gap is never that of the largest s."""
    grid = grid_of_s(features)
    assert grid[0] == pytest.approx(1.2)
    assert len(grid) == 10
    assert (grid >= np.sqrt(features)).sum() >= 2


@pytest.mark.parametrize(("scale", "sigma"), [(1.0, 1.0), (0.01, 150.0)])
def test_eigenvectors_are_those_of_the_laplacian(scale, sigma):
    """With a wide Gaussian eigenvalues differ by 1e-10: shift and deflation must tell them apart as LAPACK does."""
    rng = np.random.RandomState(0)
    X = scale * (rng.normal(size=(60, 3)) * [1, 2, 3] + 2 * (np.arange(60) % 3)[:, None])
    squared = euclidean_distances(X, squared=True)
    S = np.exp(-squared / (2 * sigma**2))
    np.fill_diagonal(S, 0)
    root = 1 / np.sqrt(S.sum(axis=1))
    U = np.linalg.eigh(np.eye(60) - root[:, None] * S * root)[1][:, :4]
    expected = U / np.linalg.norm(U, axis=1, keepdims=True)
    np.testing.assert_allclose(np.abs(spectral_embedding(squared, 4, sigma)), np.abs(expected), atol=1e-5)


def test_spectral_clustering_separates_rings():
    angle = np.linspace(0, 2 * np.pi, 80)
    rings = np.concatenate([r * np.column_stack([np.cos(angle), np.sin(angle)]) for r in (1, 4)])
    model = SpectralNJW(2, sigma=0.3, random_state=0).fit(rings)
    assert accuracy(np.repeat([0, 1], 80), model.labels_) == 1
    with pytest.raises(ValueError, match=r"got 10001, allowed with SpectralNJW are up to 10000; use KSparse"):
        SpectralNJW(2).fit(np.zeros((10_001, 2)))


def test_simlr_separates_clusters_and_states_its_limit(planted):
    X, labels = planted
    model = SIMLR(3, random_state=0).fit(X[:, :20])
    assert accuracy(labels, model.labels_) > 0.95
    same = labels[:, None] == labels[None, :]
    assert model.similarity_[same].mean() > 5 * model.similarity_[~same].mean()
    assert model.kernel_weights_.sum() == pytest.approx(1)
    assert model.embedding_.shape == (90, 3)
    with pytest.raises(ValueError, match=r"got 1501, allowed with SIMLR are up to 1500; use KSparse"):
        SIMLR(2).fit(np.zeros((1_501, 2)))


def test_simlrs_kernels_are_distances():
    X = np.random.RandomState(0).normal(size=(40, 5))
    kernels = kernel_distances(euclidean_distances(X, squared=True))
    assert kernels.shape == (55, 40, 40)
    np.testing.assert_allclose(kernels, kernels.transpose(0, 2, 1))
    assert (kernels[:, range(40), range(40)] == 0).all()


def test_diffusion_keeps_blocks_apart():
    S = np.kron(np.eye(2), np.ones((6, 6))) + 0.01 * np.random.RandomState(0).rand(12, 12)
    spread = diffuse(S, 4)
    np.testing.assert_allclose(spread, spread.T)
    assert (spread.diagonal() == 0).all()
    assert spread[:6, :6].mean() > 20 * np.abs(spread[:6, 6:]).mean()
    values = np.linalg.eigvalsh(transition_field(strongest(S, 4) + np.eye(12)))
    assert -1e-9 < values.min() <= values.max() < 1 + 1e-9
    np.testing.assert_allclose(normalise_rows(S).sum(axis=1), 1)


def test_entropic_weights_have_the_asked_perplexity():
    scores = np.random.RandomState(0).rand(55)
    weights = entropic_weights(scores)
    assert np.exp(-(weights * np.log(weights)).sum()) == pytest.approx(20, rel=1e-3)
    assert weights.argmax() == scores.argmin()
    np.testing.assert_allclose(entropic_weights(np.ones(4)), 0.25)


def test_a_fit_of_simlr_that_ends_on_a_grown_eigengap_starts_the_tsne_from_the_similarity_it_kept(planted):
    """As in the authors' code, which takes the eigenvectors of the Laplacian of the restored similarity."""
    model = SIMLR(2, random_state=0).fit(planted[0][:, :20])
    assert model.n_iter_ < model.max_iter
    start = _bottom(model.similarity_, 2)[1][:, :2]
    np.testing.assert_allclose(model.embedding_, tsne(model.similarity_, start), atol=1e-6)


def test_simlrs_strength_grows_whatever_the_small_eigenvalues(monkeypatch):
    """Components beyond the asked number make the (c + 1)th eigenvalue 0; the authors look at the largest."""
    strengths = []

    def spy(cost, r):
        strengths.append(r)
        return _similarity(cost, r)

    monkeypatch.setattr(simlr, "_similarity", spy)
    islands = np.repeat(np.eye(6) * 1e3, 12, axis=0) + np.random.RandomState(0).normal(size=(72, 6))
    SIMLR(2, n_neighbors=5, max_iter=4, random_state=0).fit(islands)
    np.testing.assert_allclose(np.divide(strengths[:-1], strengths[1:]), 1.01)


def test_tsne_moves_as_the_authors_and_stays_in_their_box(monkeypatch):
    """Momentum 0.08 at first, and coordinates between -100 and 100."""
    S = np.kron(np.eye(6), np.ones((2, 2)))
    start = np.linalg.eigh(laplacian(S))[1][:, :2]
    assert np.abs(tsne(S, start)).max() == pytest.approx(100)
    P, Y, step, gains = (S - np.eye(12)) / (S.sum() - 12), start, np.zeros((12, 2)), np.ones((12, 2))
    for _ in range(3):
        near = 1 / (1 + euclidean_distances(Y, squared=True))
        np.fill_diagonal(near, 0)
        pull = (P - near / near.sum()) * near
        gradient = np.array([4 * pull[i] @ (Y[i] - Y) for i in range(12)])
        gains = np.where(np.sign(gradient) == np.sign(step), 0.8 * gains, gains + 0.2)
        step = 0.08 * step - 500 * gains * gradient
        Y = Y + step
        Y = Y - Y.mean(axis=0)
    monkeypatch.setattr(simlr_parts, "TSNE_ITERATIONS", 3)
    np.testing.assert_allclose(tsne(S, start), Y, atol=1e-9)


def test_tsne_follows_the_similarity():
    S = np.kron(np.eye(2), np.ones((10, 10)))
    Y = tsne(S, 1e-2 * np.random.RandomState(0).normal(size=(20, 2)))
    assert np.linalg.norm(Y[:10].mean(axis=0) - Y[10:].mean(axis=0)) > 3 * Y[:10].std()
