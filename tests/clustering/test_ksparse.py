"""K-sparse finds planted clusters and genes, and is what its options say."""

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from sparcl_lite.clustering import (
    SIMLR,
    KSparse,
    SparseKMeans,
    SpectralNJW,
    choose_eta,
    eta_for_genes,
    eta_path,
    load,
    simulate,
)
from sparcl_lite.clustering.inputs import checked
from sparcl_lite.clustering.ksparse import AS_RELEASED
from sparcl_lite.clustering.preprocess import log_normalised
from sparcl_lite.clustering.scores import accuracy, agreement, jaccard, precision_recall, silhouette


@pytest.mark.parametrize("init", ["spectral", "whitened", "pca"])
def test_planted_clusters_and_features_are_found(planted, init):
    X, labels = planted
    model = KSparse(3, eta=4.0, init=init, random_state=0).fit(X)
    assert accuracy(labels, model.labels_) > 0.95
    assert set(model.selected_features_[:5]) <= set(range(10))
    assert (model.predict(X) == model.labels_).mean() > 0.98
    norms = np.linalg.norm(model.coef_, axis=1)
    assert (np.diff(norms[model.selected_features_]) <= 0).all()
    assert np.count_nonzero(norms) == len(model.selected_features_)


def test_the_constraint_and_what_is_said_of_it(planted):
    X, _ = planted
    tight, wide = (KSparse(3, eta=eta, random_state=0).fit(X) for eta in (4.0, 1e6))
    assert tight.l1_norm_ == pytest.approx(4.0)
    assert (tight.constraint_active_, wide.constraint_active_) == (True, False)
    assert len(tight.selected_features_) < len(wide.selected_features_) == 200
    assert wide.l1_norm_ == pytest.approx(KSparse(3, n_genes=None, random_state=0).fit(X).l1_norm_)
    sphere = KSparse(3, eta=1e4, constraint="sphere", random_state=0).fit(X)
    assert sphere.l1_norm_ == pytest.approx(1e4)


def test_as_released_entries_are_zero_or_above_the_threshold(planted):
    model = KSparse(3, eta=5.0, random_state=0, **(AS_RELEASED | {"n_init": 3})).fit(planted[0])
    entries = np.abs(model.coef_[model.coef_ != 0])
    assert entries.min() >= 0.01
    assert model.n_iter_ == 10
    with pytest.raises(ValueError, match=r"threshold: got 10.*every entry"):
        KSparse(3, eta=5.0, threshold=10.0).fit(planted[0])


def test_without_acceleration_the_criterion_never_rises(cells):
    model = KSparse(4, eta=100.0, accelerated=False, w_max_iter=20, tol=0, n_init=1, random_state=0).fit(cells.X)
    assert (np.diff(model.criterion_) <= 1e-4 * model.criterion_[:-1]).all()
    assert len(model.criterion_) - 1 == len(model.relative_criterion_) == model.n_iter_


def test_few_genes_need_centroids_that_stay_apart():
    """Of real cells: free centroids end below the start, penalised ones, the default with `n_genes`, above it."""
    pbmc = load("pbmc")
    options = {"n_genes": 50, "n_init": 3, "random_state": 0}
    auto, free = KSparse(8, **options).fit(pbmc.X), KSparse(8, centroids="free", **options).fit(pbmc.X)
    start, kept, lost = (accuracy(pbmc.labels, x) for x in (auto.initial_labels_, auto.labels_, free.labels_))
    assert kept > start > lost


def test_small_clusters_that_stand_apart_are_kept():
    """18 of 182 cells that the start finds: with a heavy penalty the largest cluster takes them in."""
    cells = simulate(182, 8_989, seed=0, dropout=0.5)
    X, options = log_normalised(cells.X), {"n_init": 2, "random_state": 0}
    default, heavy = KSparse(4, **options).fit(X), KSparse(4, penalty=1.0, **options).fit(X)
    assert accuracy(cells.labels, default.initial_labels_) == 1
    assert accuracy(cells.labels, default.labels_) == 1
    assert accuracy(cells.labels, heavy.labels_) < 0.95


@pytest.mark.slow
def test_the_defaults_cluster_an_ordinary_experiment():
    """20,000 cells with 2,000 genes, raw counts: as a new user would, without a parameter."""
    cells = simulate(20_000, 2_000, seed=0, as_sparse=True)
    model = KSparse(random_state=0).fit(cells.X)
    assert model.labels_.shape == (20_000,)
    assert set(np.unique(model.labels_)) <= set(range(8))
    assert len(model.selected_features_) == 200
    assert np.isfinite(model.coef_).all()
    assert (model.predict(cells.X[:500]) == model.labels_[:500]).mean() > 0.98


def test_centroids_are_penalised_where_a_number_of_genes_decides(planted):
    def weights(**options):
        return KSparse(3, n_init=2, random_state=0, **options).fit(planted[0]).coef_

    np.testing.assert_array_equal(weights(), weights(centroids="identity-penalty", n_genes=50))
    np.testing.assert_array_equal(weights(eta=4.0), weights(eta=4.0, centroids="free", n_genes=None))
    np.testing.assert_array_equal(weights(n_genes=None), weights(n_genes=None, centroids="free"))


@pytest.mark.parametrize("centroids", ["free", "identity-penalty"])
def test_the_criterion_begins_with_what_the_loops_start_from(planted, centroids):
    X, _ = planted
    model = KSparse(3, eta=4.0, centroids=centroids, max_iter=3, tol=0, random_state=0).fit(X)
    A = (X - X.mean(axis=0)) / np.linalg.norm(X, 2)
    labels, h = model.initial_labels_, 3 + 4
    members = np.eye(3)[labels]
    centres = np.eye(3, h) - members.mean(axis=0) @ np.eye(3, h)
    if centroids == "free":
        centres = (members.T @ model.initial_embedding_) / members.sum(axis=0)[:, None]
    flat = np.full((200, h), 1 / (200 * h))
    assert model.criterion_[0] == pytest.approx(0.5 * np.square(centres[labels] - A @ flat).sum(), rel=1e-6)
    final = 0.5 * np.square(model.centroids_[model.labels_] - A @ model.coef_).sum()
    assert model.criterion_[-1] == pytest.approx(final, rel=1e-6)
    total = 0.5 * np.square(A @ model.coef_).sum()
    assert model.relative_criterion_[-1] == pytest.approx(final / total, rel=1e-6)


def test_free_centroids_shrink_and_penalised_ones_do_not(cells):
    free, held = (
        KSparse(4, eta=300.0, centroids=name, n_init=3, random_state=0).fit(cells.X)
        for name in ("free", "identity-penalty")
    )
    assert np.linalg.norm(free.centroids_) < 0.8 * np.linalg.norm(held.centroids_)
    assert len(np.unique(held.labels_)) == 4
    assert np.linalg.norm(held.centroids_[:, 4:]) < np.linalg.norm(held.centroids_[:, :4])


def test_dense_sparse_and_dask_agree(cells):
    options = {"eta": 50.0, "init": "whitened", "n_init": 3, "max_iter": 2, "w_max_iter": 20, "random_state": 0}
    X = cells.X.astype(float)
    dense = KSparse(4, **options).fit(X)
    lazy = da.from_array(X, chunks=(70, 400))
    for given in (sparse.csr_array(X), lazy, lazy.rechunk((50, -1)).map_blocks(sparse.csr_array)):
        model = KSparse(4, **options).fit(given)
        assert adjusted_rand_score(model.labels_, dense.labels_) == 1
        np.testing.assert_allclose(np.abs(model.coef_).sum(), np.abs(dense.coef_).sum(), rtol=1e-6)
        assert jaccard(model.selected_features_, dense.selected_features_) > 0.98
    np.testing.assert_allclose(dense.transform(lazy), dense.transform(X), atol=1e-8)
    np.testing.assert_array_equal(dense.predict(lazy), dense.predict(X))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "bool"])
@pytest.mark.parametrize("block", [np.asarray, sparse.csr_array])
def test_counts_in_blocks_are_clustered_as_their_float_copy(dtype, block):
    rng = np.random.RandomState(0)
    X = rng.poisson(1.0, (100, 40))
    X[:50, :20] += rng.poisson(3.0, (50, 20))
    X = (X > 2 if dtype == "bool" else X).astype(dtype)
    model = KSparse(2, init="whitened", random_state=0)
    lazy = da.from_array(X, chunks=(25, -1)).map_blocks(block)
    labels, copy = model.fit_predict(lazy), KSparse(2, init="whitened", random_state=0).fit(X.astype(float))
    assert adjusted_rand_score(labels, copy.labels_) == 1
    assert adjusted_rand_score(labels, np.arange(100) < 50) > 0.8
    np.testing.assert_allclose(model.transform(lazy), model.transform(X.astype(float)), atol=1e-9)
    np.testing.assert_array_equal(model.predict(lazy), labels)


def test_indices_of_64_bits_are_taken_and_kept(planted):
    X, _ = planted
    X = np.where(np.abs(X) > 1, X, 0)
    rows, columns = np.nonzero(X)  # int64
    wide = sparse.csr_array((X[rows, columns], (rows, columns)), shape=X.shape)
    assert wide.indices.dtype == wide.indptr.dtype == np.int64
    model, narrow = KSparse(3, eta=4.0, random_state=0), KSparse(3, eta=4.0, random_state=0).fit(X)
    np.testing.assert_array_equal(model.fit_predict(wide), narrow.labels_)
    np.testing.assert_allclose(model.transform(wide), narrow.transform(X), atol=1e-9)
    np.testing.assert_array_equal(model.predict(wide), narrow.predict(X))
    assert checked(model, wide, reset=False).indptr.dtype == np.int64  # more than 2^31 values need it
    assert SpectralNJW(3, random_state=0).fit_predict(wide).shape == (90,)


def test_a_dask_array_is_read_block_by_block():
    """The blocks are made when asked for, and never put together."""
    made = []

    @dask.delayed
    def block(seed):
        made.append(seed)
        return np.random.RandomState(seed).poisson(1.0, (50, 60)).astype(np.float32)

    X = da.concatenate([da.from_delayed(block(seed), (50, 60), np.float32) for seed in range(8)])
    model = KSparse(3, init="whitened", max_iter=1, w_max_iter=2, n_init=1, random_state=0).fit(X)
    assert model.labels_.shape == (400,)
    assert len(made) > 2 * 8  # every gradient reads them anew


def test_the_order_of_samples_and_the_names_of_clusters_do_not_matter(planted, cells):
    options = {"eta": 4.0, "n_init": 10, "random_state": 0}
    X, _ = planted
    reordered = np.random.RandomState(0).permutation(len(X))
    first, second = KSparse(3, **options).fit(X), KSparse(3, **options).fit(X[reordered])
    assert adjusted_rand_score(first.labels_[reordered], second.labels_) == 1
    np.testing.assert_allclose(first.l1_norm_, second.l1_norm_, rtol=1e-3)
    first = KSparse(4, eta=100.0, n_init=2, max_iter=2, random_state=0).fit(cells.X)
    renamed = np.array([2, 0, 3, 1])[first.labels_]
    assert agreement(cells.labels, renamed) == pytest.approx(agreement(cells.labels, first.labels_))
    assert silhouette(first.transform(cells.X), renamed) == pytest.approx(
        silhouette(first.transform(cells.X), first.labels_)
    )


def test_it_starts_from_the_spectral_clustering_it_is_compared_with(cells):
    start = KSparse(4, eta=100.0, max_iter=1, w_max_iter=1, random_state=0).fit(cells.X)
    spectral = SpectralNJW(4, n_components=8, scale=True, random_state=0).fit(cells.X)
    np.testing.assert_allclose(np.abs(start.initial_embedding_), np.abs(spectral.embedding_), atol=1e-6)
    assert adjusted_rand_score(start.initial_labels_, spectral.labels_) == 1


@pytest.mark.slow
def test_reference_values_on_the_simulators_full_shape():
    """600 x 10,000 cells as in the authors' own file, which gave the values in the comments."""
    cells = simulate(seed=0)
    spectral = SpectralNJW(4, random_state=0).fit(cells.X)
    model = KSparse(4, eta=2000.0, threshold=0.01, tol=0, random_state=0).fit(cells.X)
    raw, start, final = (accuracy(cells.labels, given) for given in
                         (spectral.labels_, model.initial_labels_, model.labels_))  # fmt: skip
    precision, _ = precision_recall(model.selected_features_, cells.truth)
    assert raw == pytest.approx(0.745, abs=0.05)  # .745
    assert start > raw + 0.1  # .978: the gain is the start's
    assert final == pytest.approx(start, abs=0.03)  # .975 after .978
    assert precision == pytest.approx(0.84, abs=0.06)  # .84, at a base rate of .36
    assert len(model.selected_features_) == pytest.approx(846, rel=0.25)  # 846


def test_the_number_of_genes_can_be_asked_for(cells):
    estimator = KSparse(4, n_init=2, max_iter=3, random_state=0)
    model = eta_for_genes(estimator, cells.X, 100, tolerance=0.1)
    assert len(model.selected_features_) == pytest.approx(100, abs=10)
    with pytest.raises(ValueError, match="wanted: got 1001, allowed are 1 to 1000"):
        eta_for_genes(estimator, cells.X, 1_001)


def test_eta_by_silhouette(cells):
    estimator = KSparse(4, n_init=2, max_iter=3, random_state=0)
    path = eta_path(estimator, cells.X)
    assert (path["eta"].diff()[1:] > 0).all()
    assert path["features"].iloc[0] < path["features"].iloc[-1]
    assert path["eta"].iloc[0] < choose_eta(path) < path["eta"].iloc[-1]
    assert path.set_index("eta").loc[choose_eta(path), "silhouette"] >= path["silhouette"].max() - 0.01
    assert list(eta_path(estimator, cells.X, [7.0])["eta"]) == [7.0]


@pytest.mark.parametrize(
    ("silhouettes", "chosen"),
    [
        ([0.9, 0.5, 0.6, 0.8, 0.7], 8),  # the first is that of a handful of genes
        ([0.2, 0.5, 0.9, 0.905, 0.9], 4),  # of equals the one of the fewest genes
        ([0.5, 0.4, 0.4, 0.41, 0.4], 8),
    ],
)
def test_eta_is_the_smallest_of_the_best_after_the_first_rise(silhouettes, chosen):
    path = pd.DataFrame({"eta": [1.0, 2, 4, 8, 16], "silhouette": silhouettes})
    assert choose_eta(path) == choose_eta(path[::-1]) == chosen
    with pytest.raises(ValueError, match="path: got silhouettes that fall from eta 1 on"):
        choose_eta(path.assign(silhouette=[0.9, 0.8, 0.7, 0.6, 0.5]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"constraint": "box"}, "constraint: got 'box', allowed are ball, sphere"),
        ({"centroids": "fixed"}, "centroids: got 'fixed', allowed are auto, free, identity-penalty"),
        ({"init": "random"}, "init: got 'random', allowed are auto, spectral, pca, whitened, k-means"),
        ({"eta": 0.0}, "eta: got 0.0, allowed is a number above 0"),
        ({"n_init": 0}, "n_init: got 0, allowed is 1 or more"),
        ({"threshold": -0.1}, "threshold: got -0.1, allowed is 0 or more"),
        ({"max_iter": 2.0}, "max_iter: got 2.0, allowed is a whole number"),
        ({"eta": "a"}, "eta: got 'a', allowed is a number above 0$"),
        ({"n_jobs": "a"}, "n_jobs: got 'a', allowed is a whole number but 0, or None"),
        ({"n_jobs": 0}, "n_jobs: got 0, allowed is a whole number but 0"),
        ({"tol": "small"}, "tol: got 'small', allowed is 0 or more"),
        ({"n_genes": 0}, 'n_genes: got 0, allowed is 1 or more, or "auto"'),
        ({"n_genes": 1.5}, 'n_genes: got 1.5, allowed is a whole number of 1 or more, or "auto"'),
        ({"n_genes": 201}, "n_genes: got 201, allowed are 1 to 200, the features of X"),
        ({"n_genes": 5, "eta": 1.0}, "n_genes: got 5 beside eta=1.0, allowed is one of the two"),
        ({"n_clusters": "many"}, "n_clusters: got 'many', allowed is a whole number"),
        ({"n_clusters": None}, "n_clusters: got None, allowed is a whole number"),
        ({"n_components": 0}, "n_components: got 0, allowed is 1 or more"),
    ],
)
def test_wrong_parameters_are_named(planted, values, message):
    with pytest.raises(ValueError, match=message):
        KSparse(**({"n_clusters": 3} | values)).fit(planted[0])


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [KSparse, SpectralNJW, SparseKMeans, SIMLR])
@pytest.mark.parametrize("value", [3.0, np.float32(3), True, "3"])
def test_a_number_of_clusters_is_whole(planted, estimator, value):
    with pytest.raises(ValueError, match=r"n_clusters: got .*, allowed is a whole number") as refusal:
        estimator(value).fit(planted[0])
    assert "\n" not in str(refusal.value)
    assert len(estimator(np.int64(3)).fit(planted[0]).labels_) == 90


def test_limits_are_said_before_memory_runs_out():
    with pytest.raises(ValueError, match=r"n_samples: got 10001, allowed with init='spectral' are up to 10000"):
        KSparse(2, init="spectral").fit(np.zeros((10_001, 2)))
    X = da.zeros((30, 4), chunks=(10, 4))
    with pytest.raises(ValueError, match="init='spectral' needs all pairs"):
        KSparse(2, init="spectral").fit(X)
    with pytest.raises(ValueError, match="NaN or infinity"):
        KSparse(2, init="pca").fit(X * np.nan)
    model = KSparse(2, init="pca", n_init=1).fit(da.from_array(np.random.RandomState(0).rand(30, 4), chunks=(10, 4)))
    with pytest.raises(ValueError, match="X has 3 features, but KSparse is expecting 4"):
        model.predict(da.zeros((5, 3)))
