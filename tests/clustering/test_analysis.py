"""From somebody's file to clusters and genes: the command, the analysis behind it, scanpy's habits, stability."""

import sys

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from sparcl_lite import cli
from sparcl_lite.clustering import KSparse, analyse, load, selection_frequencies, simulate
from sparcl_lite.clustering.data.cells import Cells
from sparcl_lite.clustering.methods import fit
from sparcl_lite.clustering.scores import agreement
from sparcl_lite.errors import KitError

MARKERS = {"LYZ", "CST3", "FCER1A", "FCGR3A", "CD79A", "NKG7"}  # monocytes, dendritic, B, and natural killer cells


@pytest.fixture(scope="module")
def pbmc():
    return load("pbmc")


@pytest.fixture(scope="module")
def found(pbmc):
    return analyse(pbmc, n_clusters=8, n_genes=50, n_init=5, random_state=0)


def test_markers_of_known_types_are_among_the_genes(found):
    assert set(found.genes()["gene"]) >= MARKERS
    assert list(found.genes()["rank"]) == list(range(1, 51))
    assert (found.genes()["weight"].diff()[1:] <= 0).all()


def test_selected_genes_tell_the_types_of_cells_that_were_not_seen(pbmc):
    """A classifier on 30 genes chosen without labels comes near to one on all 765, and beats 30 random ones."""
    train, test = train_test_split(np.arange(700), test_size=0.3, random_state=0, stratify=pbmc.labels)
    kept = KSparse(8, n_genes=30, n_init=5, random_state=0).fit(pbmc.X[train]).selected_features_
    blind = np.random.RandomState(0).permutation(765)[:30]

    def share(genes):
        model = LogisticRegression(max_iter=2_000).fit(pbmc.X[train][:, genes], pbmc.labels[train])
        return model.score(pbmc.X[test][:, genes], pbmc.labels[test])

    assert share(kept) > share(blind) + 0.1
    assert share(kept) > share(np.arange(765)) - 0.12


def test_clusters_are_numbered_by_size_and_genes_by_where_they_are_high(found, pbmc):
    sizes = np.bincount(found.clusters)
    assert (np.diff(sizes) <= 0).all()
    assert agreement(found.model.labels_, found.clusters)["ari"] == 1
    line = found.genes().iloc[0]
    values = pbmc.X[:, pbmc.genes == line["gene"]].ravel()
    means = [values[found.clusters == c].mean() for c in range(len(sizes))]
    assert line["highest_in_cluster"] == np.argmax(means)
    assert line["mean_there"] == pytest.approx(max(means), rel=1e-5)
    assert line["mean_elsewhere"] == pytest.approx(values[found.clusters != np.argmax(means)].mean(), rel=1e-5)


def test_counts_are_normalised_and_others_are_not():
    counts = simulate(120, 300, seed=0).X
    names = np.array([f"G{i}" for i in range(300)])
    options = {"n_clusters": 3, "n_genes": 20, "top_genes": 100, "n_init": 2, "random_state": 0}
    for form in (np.asarray, sparse.csr_array):
        found = analyse(Cells("mine", form(counts), None, names), **options)
        assert found.steps == [
            "Counts were scaled to 10,000 per cell, and log(1 + x) was taken.",
            "The 100 most variable of 300 genes were kept.",
        ]
        assert set(found.genes()["gene"]) <= set(found.cells.genes)
    raw = analyse(Cells("mine", counts, None, names), **options, normalise="no")
    assert raw.steps == ["The values look like counts that were not normalised; they were taken as they are."]
    assert raw.cells.X.shape == (120, 300)
    with pytest.raises(KitError, match="normalise = 'maybe': allowed: auto, yes, no"):
        analyse(Cells("mine", counts, None, names), normalise="maybe")
    with pytest.raises(KitError, match="allowed are numbers from 0 on"):
        analyse(Cells("mine", counts - 5, None, names), normalise="yes")
    with pytest.raises(KitError, match="n_genes: got 500, allowed are 1 to 100"):
        analyse(Cells("mine", counts, None, names), **(options | {"n_genes": 500}))


def run(monkeypatch, capsys, *arguments):
    """What the command prints on stdout and stderr, and its exit code."""
    monkeypatch.setattr(sys, "argv", ["sparcl-lite", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return *capsys.readouterr(), end.value.code


def test_the_command_writes_what_it_says(tmp_path, monkeypatch, capsys, pbmc):
    pd.DataFrame(pbmc.X, columns=pbmc.genes).rename(index="cell {}".format).to_csv(tmp_path / "cells.csv.gz")
    out = tmp_path / "result"
    options = ["--clusters", 4, "--genes", 20, "--out", out]
    printed, progress, code = run(monkeypatch, capsys, "cluster", tmp_path / "cells.csv.gz", *options)
    assert code in (0, None)
    assert "700 cells, 765 genes: 4 clusters" in printed
    assert "; 20 genes, first " in printed
    assert "loop 1" in progress
    labels, genes = pd.read_csv(out / "labels.csv"), pd.read_csv(out / "genes.csv")
    assert list(labels["cell"][:2]) == ["cell 0", "cell 1"]
    assert sorted(labels["cluster"].unique()) == [0, 1, 2, 3]
    assert len(genes) == 20
    assert set(genes["gene"]) <= set(pbmc.genes)
    assert pd.read_csv(out / "embedding.csv").shape == (700, 2 + 4 + 4)
    assert len(pd.read_csv(out / "figure.csv")) == 700
    page = (out / "report.html").read_text()
    assert genes["gene"][0] in page
    assert "data:image/png;base64," in page
    assert {"figure.png", "figure.pdf"} <= {path.name for path in out.iterdir()}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["lost.csv"], "lost.csv: no such file; allowed: .h5ad, .csv"),
        (["cells.csv", "--clusters", "few"], "clusters = 'few': allowed: a number, or \"auto\""),
        (["cells.csv", "--genes", "9"], "n_genes: got 9, allowed are 1 to 2"),
    ],
)
def test_the_command_refuses_in_one_line(tmp_path, monkeypatch, capsys, options, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cells.csv").write_text("cell,A,B\n" + "".join(f"c{i},{i % 3}.5,{i % 2}.5\n" for i in range(9)))
    printed, error, code = run(monkeypatch, capsys, "cluster", *options)
    assert (printed, code) == ("", 2)
    assert said in error.splitlines()[-1]


def test_genes_that_other_cells_give_again_are_told_from_chance():
    labels = np.arange(150) % 3
    X = np.random.RandomState(0).normal(size=(150, 200))
    X[:, :10] += 2 * np.random.RandomState(1).normal(size=(3, 10))[labels]
    estimator = KSparse(3, n_genes=10, n_init=2, max_iter=4, random_state=0)
    found = selection_frequencies(estimator, X, pairs=4)
    assert sorted(found["feature"]) == list(range(200))
    assert found["frequency"].sum() == pytest.approx(10)
    assert (found["frequency"].diff()[1:] <= 0).all()
    top = found[found["frequency"] == 1]
    assert len(top) >= 4
    assert set(top["feature"]) <= set(range(10))
    np.testing.assert_allclose(top["false_bound"], 10**2 / 200)
    assert found.loc[found["frequency"] <= 0.5, "false_bound"].isna().all()
    pd.testing.assert_frame_equal(found, selection_frequencies(estimator, sparse.csr_array(X), pairs=4))


def test_of_noise_few_genes_are_stable():
    noise = np.random.RandomState(0).normal(size=(120, 200))
    found = selection_frequencies(KSparse(3, n_genes=10, n_init=2, max_iter=3, random_state=0), noise, pairs=6)
    often = found[found["frequency"] >= 0.75]
    assert len(often) <= 10**2 / (200 * 0.5)


# -- scanpy


@pytest.fixture
def adata(pbmc):
    ad = pytest.importorskip("anndata")
    data = ad.AnnData(sparse.csr_matrix(pbmc.X))
    data.var_names, data.obs_names = list(pbmc.genes), [f"c{i}" for i in range(700)]
    return data


def test_results_lie_where_scanpy_looks_for_them(adata, caplog):
    from sparcl_lite.clustering.scanpy import ksparse

    options = {"n_clusters": 5, "n_genes": 25, "n_init": 2, "random_state": 0}
    assert ksparse(adata, **options) is None
    model = KSparse(5, n_genes=25, n_init=2, random_state=0).fit(adata.X)
    assert list(adata.obs["ksparse"]) == [str(label) for label in model.labels_]
    assert adata.obs["ksparse"].cat.categories.tolist() == list("01234")
    assert adata.var["ksparse"].sum() == 25
    assert adata.var["ksparse_weight"].idxmax() == adata.uns["ksparse"]["genes"][0]
    assert adata.obsm["X_ksparse"].shape == (700, 9)
    assert caplog.text == ""
    adata.layers["counts"] = adata.X.copy()
    adata.layers["counts"].data = np.ceil(adata.layers["counts"].data)
    other = ksparse(adata, **options, layer="counts", key_added="raw", copy=True)
    assert "raw" in other.obs
    assert "raw" not in adata.obs
    assert "X holds counts" in caplog.text


def test_scanpys_plots_work_on_it(adata, tmp_path):
    sc = pytest.importorskip("scanpy")
    import matplotlib

    from sparcl_lite.clustering.scanpy import ksparse

    matplotlib.use("agg")
    ksparse(adata, n_clusters=4, n_genes=10, n_init=2, random_state=0)
    sc.pl.embedding(adata, "ksparse", color=["ksparse", adata.uns["ksparse"]["genes"][0]], show=False)
    sc.pl.dotplot(adata, list(adata.uns["ksparse"]["genes"][:5]), groupby="ksparse", show=False)
    matplotlib.pyplot.close("all")


def test_leiden_finds_as_many_communities_as_asked_for(pbmc):
    pytest.importorskip("scanpy")
    found = fit("leiden", pbmc.X, 8, seed=0, threads=1)
    assert len(np.unique(found.labels)) == 8
    assert agreement(pbmc.labels, found.labels)["ari"] > 0.4
    assert found.embedding.shape == (700, 50)


def test_without_scanpy_leiden_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "igraph", None)
    with pytest.raises(KitError, match=r"method = 'leiden': needs igraph: pip install 'sparcl-lite\[cells\]'"):
        fit("leiden", np.eye(5), 2, seed=0, threads=1)
