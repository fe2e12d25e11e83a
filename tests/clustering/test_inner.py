"""The data as an operator, and the W step: right products, right optimum, a criterion that never rises."""

from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
from scipy import sparse

from sparcl_lite.clustering.design import Design, _csr_rows, _row_blocks
from sparcl_lite.clustering.gram import MIN_SAMPLES, GramDesign, design_of
from sparcl_lite.clustering.inner import solve


@pytest.fixture(scope="module")
def problem():
    """X (40, 15), A as a matrix, labels (40,), centroids (3, 5)."""
    rng = np.random.RandomState(0)
    X = rng.poisson(1.0, (40, 15)).astype(float)
    X[:, :5] += 3 * rng.rand(3, 5)[np.arange(40) % 3]
    A = (X - X.mean(axis=0)) / np.linalg.norm(X, 2)
    return X, A, np.arange(40) % 3, rng.normal(size=(3, 5))


FORMS = {
    "dense": lambda X: Design(X),
    "threads": lambda X: Design(X, n_jobs=2),
    "csr": lambda X: Design(sparse.csr_array(X)),
    "dask": lambda X: Design(da.from_array(X, chunks=(7, 4))),
    "dask of csr": lambda X: Design(da.from_array(X, chunks=(9, -1)).map_blocks(sparse.csr_array)),
}


@pytest.mark.parametrize("form", FORMS)
def test_products_are_those_of_the_scaled_and_centred_matrix(problem, form):
    X, A, labels, centroids = problem
    design, rng = FORMS[form](X), np.random.RandomState(1)
    W, Z = rng.normal(size=(15, 5)), rng.normal(size=(40, 5))
    assert design.norm == pytest.approx(np.linalg.norm(X, 2))
    np.testing.assert_allclose(design.project(W), A @ W, atol=1e-10)
    np.testing.assert_allclose(design.back_project(Z), A.T @ Z, atol=1e-10)
    np.testing.assert_allclose(design.gradient(W, labels, centroids), A.T @ (A @ W - centroids[labels]), atol=1e-10)
    left, values = design.svd(4, rng)
    U, s, _ = np.linalg.svd(A)
    np.testing.assert_allclose(values, s[:4], rtol=1e-6)
    np.testing.assert_allclose(np.abs((left * U[:, :4]).sum(axis=0)), 1, rtol=1e-6)


NARROW = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16")


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("form", FORMS)
def test_blocks_of_any_type_are_as_their_float_copy(problem, form, dtype):
    if dtype == "float16" and "csr" in form:
        pytest.skip("scipy has no such matrix")
    X = problem[0].astype(dtype)
    given, copy, rng = FORMS[form](X), Design(X.astype(float)), np.random.RandomState(1)
    W, Z = rng.normal(size=(15, 5)), rng.normal(size=(40, 5))
    assert given.norm == pytest.approx(copy.norm)
    np.testing.assert_allclose(given.back_project(Z), copy.back_project(Z), atol=1e-12)
    np.testing.assert_allclose(given.gradient(W, *problem[2:]), copy.gradient(W, *problem[2:]), atol=1e-12)
    np.testing.assert_allclose(given.project(W), copy.project(W), atol=1e-12)


def test_blocks_that_are_not_of_the_type_they_claim_are_as_their_float_copy(problem):
    counts = problem[0].astype(np.int8)
    X = da.from_array(counts, chunks=(7, -1)).map_blocks(np.asarray, dtype=float)
    Z = np.random.RandomState(1).normal(size=(40, 5))
    copy = Design(counts.astype(float))
    np.testing.assert_allclose(Design(X).back_project(Z), copy.back_project(Z), atol=1e-12)


def test_rows_beyond_2_31_values_are_found():
    """A first row of 2^31 values, none of which takes memory, and two short ones after it."""
    long = 2**31
    values, columns = (np.broadcast_to(np.array(v, t), long + 3) for v, t in ((2.0, float), (1, np.int64)))
    X = SimpleNamespace(shape=(3, 4), data=values, indices=columns, indptr=np.array([0, long, long + 1, long + 3]))
    rows = _csr_rows(X, 1, 3)
    np.testing.assert_array_equal(rows.toarray(), [[0, 2, 0, 0], [0, 4, 0, 0]])
    assert np.shares_memory(rows.data, values)


def test_blocks_of_a_csr_array_share_its_memory():
    X = sparse.random_array((20_000, 30), density=0.1, format="csr", rng=np.random.default_rng(0))
    for start, stop, rows in _row_blocks(X):
        assert np.shares_memory(rows.data, X.data)
        assert np.shares_memory(rows.indices, X.indices)
        np.testing.assert_array_equal(rows.toarray(), X[start:stop].toarray())


@pytest.mark.parametrize("kind", ["dense", "csr", "denser csr", "dask", "dask of csr"])
def test_products_that_are_kept_are_those_of_the_data(kind):
    rng = np.random.RandomState(0)
    X = rng.poisson(0.03 if kind == "csr" else 0.5, (300, 25)).astype(float)
    given = {"dense": X, "dask": da.from_array(X, chunks=(37, 10))}.get(kind, sparse.csr_array(X))
    if kind == "dask of csr":
        given = da.from_array(X, chunks=(50, -1)).map_blocks(sparse.csr_array)
    kept, read = GramDesign(given), Design(X)
    W, labels, centroids = rng.normal(size=(25, 5)), rng.randint(3, size=300), rng.normal(size=(3, 5))
    assert kept.norm == pytest.approx(read.norm, rel=1e-6)
    for _ in range(2):
        np.testing.assert_allclose(
            kept.gradient(W, labels, centroids), read.gradient(W, labels, centroids), atol=1e-8 * np.abs(W).max()
        )
        labels = rng.randint(3, size=300)
    left, values = kept.svd(4, rng)
    U, known, _ = np.linalg.svd((X - X.mean(axis=0)) / kept.norm)
    np.testing.assert_allclose(values, known[:4], rtol=1e-6)
    np.testing.assert_allclose(np.abs((left * U[:, :4]).sum(axis=0)), 1, rtol=1e-6)
    assert np.isfinite(kept.svd(25, rng)[0]).all()


def test_many_samples_of_few_features_are_read_once():
    assert type(design_of(np.ones((MIN_SAMPLES, 3)))) is Design
    assert type(design_of(np.ones((MIN_SAMPLES + 1, 3)))) is GramDesign


def test_threads_change_no_bit():
    X = sparse.random_array((12_000, 40), density=0.2, format="csr", rng=np.random.default_rng(0), dtype=np.float32)
    for kind in (Design, GramDesign):
        one, two = kind(X, 1), kind(X, 2)
        W, labels = np.random.RandomState(0).normal(size=(40, 3)), np.arange(12_000) % 2
        np.testing.assert_array_equal(one.gradient(W, labels, np.eye(2, 3)), two.gradient(W, labels, np.eye(2, 3)))
        np.testing.assert_array_equal(one.project(W), two.project(W))


def test_inner_products_of_samples(problem):
    X, A, *_ = problem
    for form in ("dense", "csr"):
        np.testing.assert_allclose(FORMS[form](X).gram(), A @ A.T, atol=1e-12)


def test_single_precision_is_kept_and_good_enough(problem):
    X, A, labels, centroids = problem
    W = np.random.RandomState(1).normal(size=(15, 5))
    for given in (X.astype(np.float32), sparse.csr_array(X.astype(np.float32))):
        design = Design(given)
        assert design.project(W).dtype == np.float32
        expected = A.T @ (A @ W - centroids[labels])
        np.testing.assert_allclose(design.gradient(W, labels, centroids), expected, atol=1e-5)


@pytest.mark.parametrize("wanted", [3, 6, 9, 12])
def test_asking_for_rows_solves_the_problem_of_their_norm(problem, wanted):
    X, _, labels, centroids = problem
    how = {"accelerated": False, "max_iter": 50_000, "tol": 1e-12}
    W, _ = solve(Design(X), labels, centroids, np.zeros((15, 5)), eta=None, n_features=wanted, **how)
    assert np.count_nonzero(np.abs(W).sum(axis=1)) == wanted
    same, _ = solve(Design(X), labels, centroids, np.zeros((15, 5)), eta=np.abs(W).sum(), **how)
    np.testing.assert_allclose(W, same, atol=1e-4 * np.abs(W).max())


@pytest.mark.parametrize("eta", [0.5, 5.0, 50.0])
@pytest.mark.parametrize("accelerated", [True, False])
def test_the_solution_fulfils_the_kkt_conditions(problem, eta, accelerated):
    X, A, labels, centroids = problem
    W, _ = solve(Design(X), labels, centroids, np.zeros((15, 5)), eta=eta, max_iter=200_000, tol=1e-12,
                 accelerated=accelerated)  # fmt: skip
    gradient = A.T @ (A @ W - centroids[labels])
    multiplier = np.abs(gradient).max()
    support = np.abs(W) > 1e-8
    assert np.abs(W).sum() == pytest.approx(eta, rel=1e-6)
    np.testing.assert_allclose(gradient[support], -multiplier * np.sign(W[support]), atol=1e-5 * multiplier + 1e-8)


def test_an_inactive_constraint_changes_nothing(problem):
    X, _, labels, centroids = problem
    start = np.zeros((15, 5))
    free, _ = solve(Design(X), labels, centroids, start, eta=None)
    wide, _ = solve(Design(X), labels, centroids, start, eta=1e9)
    np.testing.assert_array_equal(free, wide)


def test_plain_projected_gradients_never_raise_the_criterion(problem):
    X, A, labels, centroids = problem
    design, W, values = Design(X), np.full((15, 5), 1.0), []
    for _ in range(100):
        W, _ = solve(design, labels, centroids, W, eta=3.0, accelerated=False, max_iter=1)
        values.append(0.5 * np.square(A @ W - centroids[labels]).sum())
    assert (np.diff(values) <= 1e-12).all()
    accelerated, _ = solve(design, labels, centroids, np.full((15, 5), 1.0), eta=3.0, max_iter=100)
    assert 0.5 * np.square(A @ accelerated - centroids[labels]).sum() < values[-1] + 1e-9


def test_the_threshold_clears_small_entries(problem):
    X, _, labels, centroids = problem
    W, _ = solve(Design(X), labels, centroids, np.zeros((15, 5)), eta=5.0, threshold=0.05, max_iter=30)
    assert 0 < np.count_nonzero(W) < W.size
    assert (np.abs(W[W != 0]) >= 0.05).all()
