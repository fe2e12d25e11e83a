"""The bundled data are what shipped, and the simulator plants what it says."""

import numpy as np
import pytest
from scipy import sparse

from sparcl_lite.clustering import DATASETS, load, simulate
from sparcl_lite.clustering.data import loaders
from sparcl_lite.clustering.data.loaders import BUNDLES
from sparcl_lite.errors import KitError

LARGEST_CLASS = {
    "zeisel": ("pyramidal CA1", 939),
    "cbmc": ("CD4 T", 3086),
    "pbmc": ("Dendritic", 240),
    "khan": ("EWS", 29),
    "nci60": ("NSCLC", 9),
}


@pytest.mark.parametrize("name", DATASETS)
def test_data_sets_are_whole(name):
    cells, size = load(name), BUNDLES[name]
    assert cells.X.shape == (size.cells, size.genes) == (len(cells.labels), len(cells.genes))
    assert cells.n_classes == size.classes
    assert cells.X.dtype == np.float32
    assert np.isfinite(cells.X).all()
    names, counts = np.unique(cells.labels, return_counts=True)
    assert dict(zip(names, counts, strict=True))[LARGEST_CLASS[name][0]] == LARGEST_CLASS[name][1]


def test_counts_come_back_whole():
    counts = np.expm1(load("cbmc").X)
    assert np.round(counts).max() == 5367
    np.testing.assert_allclose(counts, np.round(counts), rtol=1e-4, atol=1e-6)


def test_bundles_are_small():
    assert sum(loaders.FOLDER.joinpath(f"{name}.npz").stat().st_size for name in DATASETS) < 10_000_000


def test_what_is_missing_or_changed_is_said(tmp_path, monkeypatch):
    with pytest.raises(KitError, match="dataset = 'patel': unknown; allowed: zeisel, cbmc, pbmc, khan, nci60"):
        load("patel")
    monkeypatch.setattr(loaders, "FOLDER", tmp_path)
    with pytest.raises(KitError, match=r"khan\.npz cannot be read .* install the package again"):
        load("khan")
    (tmp_path / "khan.npz").write_bytes(b"x")
    with pytest.raises(KitError, match=r"khan\.npz is not the file that shipped"):
        load("khan")


def test_the_simulator_keeps_the_recipes_shares():
    cells = simulate(600, 2_000, seed=1)
    assert cells.truth.mean() == pytest.approx(0.36, abs=0.001)
    assert sorted(np.unique(cells.labels, return_counts=True)[1]) == [60, 120, 180, 240]
    assert (cells.X == 0).mean() == pytest.approx(0.80, abs=0.02)
    assert (cells.X == 0).mean(axis=1).std() == pytest.approx(0.05, abs=0.02)
    assert (np.round(cells.X) == cells.X).all()


def test_only_differential_genes_differ():
    cells = simulate(2_000, 400, seed=2, dropout=0.0)
    size = cells.X[:, ~cells.truth].sum(axis=1, keepdims=True)
    means = np.array([(cells.X / size)[cells.labels == c].mean(axis=0) for c in "0123"])
    spread = np.log2(means.max(axis=0) / np.maximum(means.min(axis=0), 1e-9))
    assert np.median(spread[cells.truth]) > 4 * np.median(spread[~cells.truth])


def test_what_is_captured_has_the_zeros_of_low_counts():
    whole, part = (simulate(2_000, 400, seed=2, dropout=0.0, captured=share).X for share in (1.0, 0.03))
    assert part.mean() == pytest.approx(0.03 * whole.mean(), rel=0.05)
    assert 0.9 < (part == 0).mean() < 0.95
    np.testing.assert_allclose(part.mean(axis=0), 0.03 * whole.mean(axis=0), atol=0.05)
    with pytest.raises(ValueError, match=r"captured: got 100, 200, 0\.8, 0; allowed"):
        simulate(100, 200, captured=0)


def test_sparse_and_dense_cells_are_the_same():
    dense, csr = simulate(100, 200, seed=4), simulate(100, 200, seed=4, as_sparse=True)
    assert sparse.issparse(csr.X)
    np.testing.assert_array_equal(csr.X.toarray(), dense.X)
    np.testing.assert_array_equal(simulate(100, 200, seed=4).X, dense.X)
    assert (simulate(100, 200, seed=5).X != dense.X).any()
    with pytest.raises(ValueError, match="allowed are from 20, from 50, 0 to 1"):
        simulate(10, 200)
