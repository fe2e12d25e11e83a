"""Cells as people have them: every form gives the same clusters, and what cannot be used is said in one line."""

import gzip
import pickle
import warnings

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from scipy import io, sparse
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sparcl_lite.clustering import KSparse, simulate
from sparcl_lite.clustering.files import read_cells
from sparcl_lite.clustering.preprocess import are_counts, highly_variable, log_normalised
from sparcl_lite.clustering.projections import largest_rows
from sparcl_lite.clustering.scanpy import ksparse as scanpy_ksparse
from sparcl_lite.errors import KitError

FAST = {"n_genes": 10, "n_init": 2, "max_iter": 3, "random_state": 0}


def model(**options):
    return KSparse(3, **(FAST | options))


@pytest.fixture(scope="module")
def frame(planted):
    """The planted data with names of genes and cells; gene 0 to 9 matter."""
    X, _ = planted
    return pd.DataFrame(X, index=[f"cell {i}" for i in range(90)], columns=[f"G{i}" for i in range(200)])


FORMS = {
    "fortran": np.asfortranarray,
    "memmap": None,
    "read-only": None,
    "float16": lambda X: X.astype(np.float16),
    "csc": sparse.csc_array,
    "coo": sparse.coo_matrix,
    "csr_matrix": sparse.csr_matrix,
    "dask": lambda X: da.from_array(X, chunks=(40, 60)),
    "frame": pd.DataFrame,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_clusters_and_genes(planted, tmp_path, form):
    X = np.round(planted[0], 2)
    given = X.copy()
    if form == "memmap":
        np.save(tmp_path / "X.npy", X)
        given = np.load(tmp_path / "X.npy", mmap_mode="r")
    elif form == "read-only":
        given.flags.writeable = False
    else:
        given = FORMS[form](X)
    expected, found = (model(init="whitened").fit(values) for values in (X, given))
    np.testing.assert_array_equal(found.predict(X), expected.predict(X))
    assert set(found.selected_features_[:8]) == set(expected.selected_features_[:8])
    assert len(found.selected_features_) == 10


def test_names_of_genes_come_out_ranked(frame, planted):
    fitted = model().fit(frame)
    assert list(fitted.feature_names_in_) == list(frame.columns)
    assert list(fitted.selected_feature_names_) == [f"G{i}" for i in fitted.selected_features_]
    assert sum(name in frame.columns[:10] for name in fitted.selected_feature_names_) >= 8
    assert list(fitted.get_feature_names_out()) == [f"ksparse{i}" for i in range(7)]
    unnamed = model().fit(planted[0])
    assert list(unnamed.selected_feature_names_) == [f"x{i}" for i in unnamed.selected_features_]
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(frame[frame.columns[::-1]])


@pytest.mark.parametrize("wanted", [1, 7, 199, 200])
def test_exactly_as_many_genes_as_asked_for(planted, wanted):
    fitted = model(n_genes=wanted).fit(planted[0])
    assert len(fitted.selected_features_) == wanted
    assert fitted.constraint_active_ == (wanted < 200)


def test_the_default_selects(planted):
    assert len(KSparse(3, n_init=1, random_state=0).fit(planted[0]).selected_features_) == 50
    wide = np.random.RandomState(0).normal(size=(30, 1_000))
    assert len(KSparse(3, n_init=1, random_state=0).fit(wide).selected_features_) == 100
    assert len(KSparse(3, n_genes=None, n_init=1, random_state=0).fit(planted[0]).selected_features_) == 200


def test_of_equal_genes_the_first_is_taken():
    rows = np.array([[3.0, -1.0], [3.0, 0.0], [2.0, 2.0], [0.0, 0.0]])
    np.testing.assert_array_equal(largest_rows(rows, 1), [[1, 0], [0, 0], [0, 0], [0, 0]])
    np.testing.assert_array_equal(largest_rows(rows, 2), [[1, 0], [1, 0], [0, 0], [0, 0]])
    np.testing.assert_array_equal(largest_rows(rows, 3), rows)


def test_the_number_of_clusters_is_found(planted, cells):
    assert KSparse("auto", n_genes=10, random_state=0).fit(planted[0]).n_clusters_ == 3
    auto = KSparse("auto", random_state=0, n_init=2).fit(log_normalised(cells.X))
    assert 3 <= auto.n_clusters_ <= 5
    assert len(np.unique(auto.labels_)) == auto.n_clusters_
    assert KSparse("auto", random_state=0).fit(np.random.RandomState(0).rand(5, 4)).n_clusters_ == 1
    two = np.repeat(planted[0][[0, 40]], 30, axis=0)
    assert KSparse("auto", random_state=0, n_init=1, max_iter=1).fit(two).n_clusters_ == 2
    assert KSparse("auto", random_state=0, n_init=1, max_iter=1).fit(0 * two).n_clusters_ == 1


ANSWERED = {
    "negative": lambda X: X - 100,
    "counts beyond float32": lambda X: (X > 0).astype(np.int64) * (2**53 + np.arange(90)[:, None]),
    "constant genes": lambda X: np.hstack([X, np.ones((90, 20))]),
    "empty cells": lambda X: np.where(np.arange(90)[:, None] < 5, 0, X),
    "duplicate cells": lambda X: np.repeat(X[::3], 3, axis=0),
    "one gene": lambda X: X[:, :1],
    "int64 indices": lambda X: sparse.csr_array((X[X > 0], np.nonzero(X > 0)), shape=X.shape),
    "nothing but one value": lambda X: np.ones((90, 200)),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("init", ["auto", "whitened", "pca", "k-means++"])
@pytest.mark.parametrize("case", ANSWERED)
def test_awkward_cells_are_clustered(planted, case, init):
    X = ANSWERED[case](planted[0])
    fitted = model(init=init, n_genes="auto").fit(X)
    assert np.isfinite(fitted.coef_).all()
    assert set(np.unique(fitted.labels_)) <= {0, 1, 2}
    assert np.isfinite(fitted.transform(X)).all()
    if case == "constant genes":
        assert not {*range(200, 220)} & {*fitted.selected_features_[:40]}


@pytest.mark.parametrize("centroids", ["free", "identity-penalty"])
def test_one_cluster_is_everything(planted, centroids):
    fitted = KSparse(1, centroids=centroids, random_state=0).fit(planted[0])
    assert set(fitted.labels_) == set(fitted.predict(planted[0])) == {0}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda X: np.where(X[3, 5] == X, np.nan, X), "X contains NaN: 1 such values, the first in row 3, column 5"),
        (lambda X: np.where(X[3, 5] == X, -np.inf, X), "X contains infinity: 1 such values, the first in row 3"),
        (lambda X: sparse.csr_array(np.where(X[3, 5] == X, np.nan, X)), "X contains NaN.* row 3, column 5"),
        (lambda X: pd.DataFrame({"G": X[:, 0] * np.nan}), "X contains NaN.* row 0, column 'G'"),
        (lambda X: da.from_array(np.where(X[3, 5] == X, np.nan, X)), "X contains NaN or infinity"),
        (lambda X: pd.DataFrame(X).reset_index(names="Unnamed: 0"), "column 'Unnamed: 0' is an index, not a feature"),
        (lambda X: pd.DataFrame({"cell": ["a"] * 90, "G": X[:, 0]}), "column 'cell' holds .*, allowed are numbers"),
        (lambda X: 1e200 * X, "squares of its values are too large for float64; divide X by a constant"),
        (lambda X: (1e30 * X).astype(np.float32), "squares of its values are too large for float32"),
        (lambda X: da.from_array(1e200 * X), "squares of its values are too large for float64"),
        (lambda X: X[:2], "n_samples=2 should be >= n_clusters=3"),
    ],
)
def test_what_cannot_be_clustered_is_said_in_one_line(planted, spoil, message):
    with pytest.raises(ValueError, match=message) as refusal:
        model().fit(spoil(planted[0]))
    assert "\n" not in str(refusal.value)


def test_scikit_learns_tools_take_it(frame):
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), model()).fit(frame)
    assert pipeline[-1].selected_feature_names_[0].startswith("G")
    search = GridSearchCV(model(), {"n_genes": [5, 20], "n_clusters": [2, 3]}, cv=2).fit(frame)
    assert search.best_params_["n_clusters"] in (2, 3)
    assert -1 <= search.best_score_ <= 1
    copy = pickle.loads(pickle.dumps(clone(model()).fit(frame)))
    np.testing.assert_array_equal(copy.predict(frame), model().fit_predict(frame))
    projected = model().set_output(transform="pandas").fit_transform(frame)
    assert list(projected.columns) == [f"ksparse{i}" for i in range(7)]
    assert list(projected.index) == list(frame.index)


def test_threads_change_no_result(monkeypatch):
    monkeypatch.setattr("sparcl_lite.clustering.gram.MIN_SAMPLES", 1_000)
    X = simulate(6_000, 200, seed=1, as_sparse=True).X
    one, two = (KSparse(4, n_init=2, max_iter=3, n_jobs=jobs, random_state=0).fit(X) for jobs in (1, 2))
    np.testing.assert_array_equal(one.coef_, two.coef_)
    np.testing.assert_array_equal(one.labels_, two.labels_)


def test_progress_is_shown_when_asked_for(planted, capsys):
    model(verbose=True).fit(planted[0])
    assert "loop 3 of up to 3" in capsys.readouterr().err
    model().fit(planted[0])
    assert capsys.readouterr() == ("", "")


# -- preprocessing


@pytest.fixture(scope="module")
def counts():
    return simulate(200, 300, seed=2).X


def test_counts_are_told_from_logarithms(counts):
    assert are_counts(counts)
    assert are_counts(sparse.csr_array(counts.astype(int)))
    assert not are_counts(log_normalised(counts))
    assert not are_counts(np.where(counts > 0, -1, counts))
    for form in (np.asarray, sparse.csr_array):  # of a dask array the first block tells
        assert are_counts(da.from_array(counts, chunks=(50, 100)).map_blocks(form))
        assert not are_counts(da.from_array(log_normalised(counts), chunks=(50, 100)).map_blocks(form))
    with pytest.raises(ValueError, match="counts: got -1, allowed are numbers from 0 on"):
        log_normalised(counts - 1)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, lambda X: X.astype(np.int32)])
@pytest.mark.parametrize("genes", [1, 50, 300])
def test_preprocessing_is_scanpys(counts, form, genes):
    sc = pytest.importorskip("scanpy")
    X = counts.copy()
    X[0], X[:, 0] = 0, 0  # an empty cell and an empty gene
    logs = log_normalised(form(X))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = sc.AnnData(X.copy())
        sc.pp.normalize_total(data, target_sum=1e4)
        sc.pp.log1p(data)
        sc.pp.highly_variable_genes(data, n_top_genes=genes)
    np.testing.assert_allclose(logs.toarray() if sparse.issparse(logs) else logs, data.X, rtol=1e-5)
    kept = highly_variable(logs, genes)
    if genes < 300:
        np.testing.assert_array_equal(kept, np.flatnonzero(data.var["highly_variable"]))
    assert len(kept) == genes


# -- files


def tables(frame, folder):
    """The same cells as files of every kind, and how each is read."""
    frame.to_csv(folder / "named.csv")
    frame.rename_axis("barcode").to_csv(folder / "barcodes.tsv.gz", sep="\t")
    frame.reset_index(drop=True).to_csv(folder / "numbered.csv.gz")
    frame.reset_index(drop=True).to_csv(folder / "plain.csv", index=False)
    frame.T.to_csv(folder / "genes.csv")
    tenx = folder / "tenx"
    tenx.mkdir()
    with gzip.open(tenx / "matrix.mtx.gz", "wb") as file:
        io.mmwrite(file, sparse.coo_array(frame.to_numpy().T))
    pd.DataFrame({"id": "ENSG", "symbol": frame.columns, "kind": "Gene Expression"}).to_csv(
        tenx / "features.tsv.gz", sep="\t", header=False, index=False
    )
    pd.Series(frame.index).to_csv(tenx / "barcodes.tsv", header=False, index=False)
    names = ["named.csv", "barcodes.tsv.gz", "numbered.csv.gz", "plain.csv", "tenx", "tenx/matrix.mtx.gz"]
    return {name: {} for name in names} | {"genes.csv": {"transpose": True}}


def test_files_of_every_kind_hold_the_same_cells(frame, tmp_path):
    frame = frame.round(2)
    for name, how in tables(frame, tmp_path).items():
        cells = read_cells(tmp_path / name, **how)
        assert list(cells.genes) == list(frame.columns), name
        X = cells.X.toarray() if sparse.issparse(cells.X) else cells.X
        np.testing.assert_allclose(X, frame, err_msg=name)
        if name not in ("numbered.csv.gz", "plain.csv"):
            assert list(cells.names) == list(frame.index), name


def test_files_that_cannot_be_read_are_told(tmp_path):
    (tmp_path / "text.csv").write_text("cell,kind,G1\na,x,1\nb,y,2\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "cells.xlsx").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "cut.tsv.gz").write_bytes(gzip.compress(b"G1\tG2\n" + b"1\t2\n" * 900)[:30])
    for name in ("features", "barcodes"):
        place = tmp_path / f"no {name}"
        place.mkdir()
        (place / "matrix.mtx").write_text("%%MatrixMarket matrix coordinate integer general\n1 1 1\n1 1 1\n")
        for each in ("features", "barcodes"):
            (place / f"{each}.tsv").write_text("" if each == name else "x\n")
    for name, message in {
        "text.csv": "column 'kind' holds text; allowed: numbers, after one first column of names",
        "empty.csv": "cannot be read",
        "cells.xlsx": r"ends with '.xlsx'; allowed: .h5ad, .csv",
        "folder": r"has no matrix.mtx\[.gz\]",
        "lost.csv": "no such file",
        "cut.tsv.gz": "cannot be read",
        "no features": r"features.tsv cannot be read",
        "no barcodes": r"barcodes.tsv cannot be read",
    }.items():
        with pytest.raises(KitError, match=message):
            read_cells(tmp_path / name)
    with pytest.raises(KitError, match=r"layer = 'counts': only \.h5ad files have layers"):
        read_cells(tmp_path / "text.csv", layer="counts")


@pytest.fixture
def adata(frame):
    ad = pytest.importorskip("anndata")
    with ad.settings.override(allow_write_nullable_strings=True):
        data = ad.AnnData(sparse.csr_matrix(np.maximum(frame.to_numpy(), 0)))
        data.obs_names, data.var_names = list(frame.index), list(frame.columns)
        data.layers["double"] = 2 * data.X
        data.raw = data[:, :50]
        yield data


def test_anndata_is_taken_and_read(adata, tmp_path):
    fitted, plain = model().fit(adata), model().fit(adata.X)
    np.testing.assert_array_equal(fitted.labels_, plain.labels_)
    np.testing.assert_array_equal(fitted.predict(adata), fitted.labels_)
    assert fitted.selected_feature_names_[0].startswith("G")
    assert model().fit(adata.raw).n_features_in_ == 50
    with pytest.raises(ValueError, match="expecting 200 features"):
        fitted.predict(adata.raw)
    path = tmp_path / "cells.h5ad"
    adata.write_h5ad(path)
    for layer, factor, genes in ((None, 1, 200), ("double", 2, 200), ("raw", 1, 50)):
        cells = read_cells(path, layer=layer)
        np.testing.assert_allclose(cells.X.toarray(), factor * adata.X.toarray()[:, :genes])
        assert list(cells.genes) == list(adata.var_names[:genes])
    with pytest.raises(KitError, match=r"layer = 'counts': unknown; cells.h5ad has: double, raw"):
        read_cells(path, layer="counts")


def test_anndata_on_disk_is_taken(adata, tmp_path):
    import anndata

    adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    np.testing.assert_array_equal(model().fit(backed).labels_, model().fit(adata).labels_)
    scanpy_ksparse(backed, 3, **FAST)
    assert list(backed.obs["ksparse"].cat.categories) == ["0", "1", "2"]
    with pytest.raises(KeyError, match="layer: got 'raw counts', allowed are double"):
        scanpy_ksparse(adata, 3, layer="raw counts")
    with pytest.raises(ValueError, match="this AnnData object has none; give one of its layers"):
        model().fit(anndata.AnnData(obs=adata.obs))
