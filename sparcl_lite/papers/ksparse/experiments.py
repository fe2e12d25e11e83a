"""K-sparse's comparisons as experiments: tables, genes, ablation and scaling."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

import pandas as pd

from sparcl_lite.clustering.config import SIMULATED
from sparcl_lite.clustering.data.loaders import BUNDLES
from sparcl_lite.clustering.ksparse import AS_RELEASED, EXTRA_COMPONENTS
from sparcl_lite.clustering.simlr import MAX_SAMPLES as SIMLR_SAMPLES
from sparcl_lite.errors import KitError
from sparcl_lite.papers.ksparse.experiment import ClusteringExperiment, Row

SIMULATED_CLASSES, SIMULATED_CELLS, SIMULATED_GENES = 4, 600, 10_000
STABILITY_SHARE = 0.8  # of the cells, a new draw with every seed
SCALING_DROPOUT = 0.95  # zeros of the large simulated counts: the highly variable genes of a 10x experiment
SCALING_GENES = 2_000  # held fixed while cells grow; the profile says the cells while genes grow
SCALING_ETA = 100.0
DECIDING, OTHERS = 5, 3  # seeds of rows that decide a claim, and of the others
LABELS = {
    "pca": "PCA + k-means",
    "spectral": "spectral",
    "simlr": "SIMLR",
    "sparse-kmeans": "sparse k-means",
    "k-sparse": "K-sparse",
    "k-sparse-genes": "K-sparse, 10 % of genes",
    "k-sparse-described": "K-sparse, as described",
}


@cache
def profile_named(name: str) -> dict[str, Any]:
    """The sizes of a profile. Raises `KitError` on an unknown one."""
    known = tomllib.loads(files(__package__).joinpath("profiles.toml").read_text())
    if name not in known:
        raise KitError(f"profile = {name!r} is unknown; allowed: {', '.join(known)}")
    return known[name]


@cache
def chosen_eta(dataset: str, variant: str, by: str) -> float:
    """The eta that `tools/tune_ksparse.py` chose without labels: `by` silhouette, or 10 % of the genes."""
    with files(__package__).joinpath("eta.csv").open() as file:
        path = pd.read_csv(file, keep_default_na=False)
    found = path[(path["dataset"] == dataset) & (path["variant"] == variant) & (path["chosen"] == by)]
    return float(found["eta"].item())


def tables(*, profile: str = "lite", datasets: list[str] | None = None) -> ClusteringExperiment:
    """Every method on every data set, with the same preprocessing, embedding size and restarts."""
    size = profile_named(profile)
    rows = [row for dataset in datasets or size["datasets"] for row in _table_rows(dataset, size)]
    return ClusteringExperiment("ksparse_tables", "abstract", "Accuracy, time and genes", tuple(rows), profile)


def _table_rows(dataset: str, size: dict[str, Any]) -> list[Row]:
    cells, classes = _shape(dataset, size)
    embedding, restarts = classes + EXTRA_COMPONENTS, size["n_init"]
    options = {
        "pca": {"n_components": embedding, "n_init": restarts},
        "spectral": {"n_components": embedding, "scale": True, "n_init": restarts},
        "simlr": {},
        "sparse-kmeans": {"n_init": restarts},
        "k-sparse": _released(dataset, "silhouette", size),
        "k-sparse-genes": _released(dataset, "genes", size),
        "k-sparse-described": _described(dataset, size),
    }
    if cells > SIMLR_SAMPLES:
        del options["simlr"]
    return [
        Row(
            f"{dataset}/{name}",
            LABELS[name],
            _of(dataset, size) | {"method": _method(name), "options": given},
            seeds=OTHERS if name.startswith("k-sparse-") and dataset != SIMULATED else DECIDING,
            against=None if name == "k-sparse" else f"{dataset}/k-sparse",
        )
        for name, given in options.items()
    ]


def ablation(*, profile: str = "lite") -> ClusteringExperiment:
    """Where the gain comes from: rivals as the authors' scripts run them and as K-sparse is run, and its own parts."""
    size = profile_named(profile)
    rows = []
    for dataset in size["ablation"]:
        fair = {row.id.split("/")[1]: row for row in _table_rows(dataset, size)}
        rows += [_scripted(dataset, size, name) for name in ("pca", "spectral")]
        rows += [fair[name] for name in ("pca", "spectral", "k-sparse", "k-sparse-genes", "k-sparse-described")]
        changed = VARIANTS if dataset == SIMULATED else {name: VARIANTS[name] for name in ("identity", "whitened")}
        rows += [_variant(dataset, size, name, changes) for name, changes in changed.items()]
        if dataset == SIMULATED:
            rows += [_on_logs(fair[name]) for name in ("pca", "spectral", "sparse-kmeans", "k-sparse-genes")]
    rows = [Row(row.id, row.label, row.values, row.seeds, _baseline(row)) for row in rows]
    return ClusteringExperiment("ksparse_ablation", "ablation", "Where the gain comes from", tuple(rows), profile)


#: K-sparse at 10 % of the genes as released, with one thing changed.
VARIANTS: dict[str, dict[str, Any]] = {
    "ball": {"constraint": "ball"},
    "no-threshold": {"threshold": 0.0},
    "identity": {"constraint": "ball", "threshold": 0.0, "centroids": "identity-penalty"},
    "whitened": {"init": "whitened"},
    "pca-start": {"init": "pca"},
    "k-means++": {"init": "k-means++"},
    "plain": {"accelerated": False},
}
#: Without constraint every gene is selected: what chance would give. Its clusters are those of the first loop.
FREE = {"eta": None, "threshold": 0.0, "max_iter": 1}
VARIANT_LABELS = {
    "ball": "true l1 ball",
    "no-threshold": "no threshold",
    "identity": "ball, no threshold, identity penalty",
    "whitened": "start: whitened PCA",
    "pca-start": "start: PCA scores",
    "k-means++": "start: k-means++ seeds",
    "plain": "without acceleration",
    "free": "all genes",
}


def genes(*, profile: str = "lite") -> ClusteringExperiment:
    """Which genes are selected: on simulated truth and on random 80 % of the cells, and along eta."""
    size = profile_named(profile)
    rows = []
    for dataset in size["stability"]:
        fair = {row.id.split("/")[1]: row for row in _table_rows(dataset, size)}
        for name in ("sparse-kmeans", "k-sparse-genes", "k-sparse"):
            rows.append(_on_share(fair[name]))
        rows.append(_on_share(_variant(dataset, size, "identity", VARIANTS["identity"])))
    rows += [row for row in _table_rows(SIMULATED, size) if row.id.split("/")[1] in WITH_GENES]
    rows += [
        _variant(SIMULATED, size, name, changes)
        for name, changes in (("identity", VARIANTS["identity"]), ("free", FREE))
    ]
    rows += [_at_eta(SIMULATED, size, eta) for eta in path_etas()]
    return ClusteringExperiment("ksparse_genes", "genes", "Which genes are selected", tuple(rows), profile)


WITH_GENES = ("sparse-kmeans", "k-sparse", "k-sparse-genes", "k-sparse-described")


def path_etas() -> list[float]:
    """The etas of the simulated data's tuning path."""
    with files(__package__).joinpath("eta.csv").open() as file:
        path = pd.read_csv(file)
    chosen = (path["dataset"] == SIMULATED) & (path["variant"] == "released")
    return sorted(path.loc[chosen, "eta"])


def scaling(*, profile: str = "lite") -> ClusteringExperiment:
    """Time and memory against cells and against genes, on sparse simulated counts with a linear-time start.

    All sizes of `paper` are rows at every profile but `smoke`; those beyond the profile's own are large.
    """
    size = profile_named(profile)
    everything = profile_named(profile if profile == "smoke" else "paper")
    rows = [
        _scaling_row(along, count, fixed, large=count not in size[f"scaling_{along}"])
        for along, fixed in (("cells", SCALING_GENES), ("genes", size["scaling_fixed_cells"]))
        for count in everything[f"scaling_{along}"]
    ]
    title = "Time and memory against cells and genes"
    return ClusteringExperiment("ksparse_scaling", "complexity", title, tuple(rows), profile, threads=2)


def _scaling_row(along: str, count: int, fixed: int, *, large: bool) -> Row:
    shape = {"cells": count, "genes": fixed} if along == "cells" else {"cells": fixed, "genes": count}
    options = {"init": "whitened", "eta": SCALING_ETA, "n_init": 1, "tol": 0.0}
    values = {
        "dataset": SIMULATED,
        "method": "k-sparse",
        "options": options,
        "sparse": True,
        "dropout": SCALING_DROPOUT,
    }
    return Row(f"{along}/{count}", f"{count:,} {along}", values | shape, seeds=1, large=large)


def _of(dataset: str, size: dict[str, Any]) -> dict[str, Any]:
    """What the data set is: all of its cells, the simulator's size, or the share that a profile has of large ones."""
    given = size["simulated"] if dataset == SIMULATED else size["shares"].get(dataset, {})
    return {"dataset": dataset} | given


def _shape(dataset: str, size: dict[str, Any]) -> tuple[int, int]:
    """Cells and classes of a data set."""
    if dataset == SIMULATED:
        return size["simulated"].get("cells", SIMULATED_CELLS), SIMULATED_CLASSES
    share = size["shares"].get(dataset, {}).get("share", 1)
    return round(share * BUNDLES[dataset].cells), BUNDLES[dataset].classes


def _method(name: str) -> str:
    return "k-sparse" if name.startswith("k-sparse") else name


def _released(dataset: str, by: str, size: dict[str, Any]) -> dict[str, Any]:
    """Options of K-sparse as released, but for the restarts, which all methods share."""
    eta = _scaled_eta(dataset, "released", by, size)
    return AS_RELEASED | {"eta": eta, "n_init": size["n_init"], "max_iter": size["loops"]}


def _described(dataset: str, size: dict[str, Any]) -> dict[str, Any]:
    eta = _scaled_eta(dataset, "described", "silhouette", size)
    return {"eta": eta, "n_init": size["n_init"], "max_iter": size["loops"]}


def _scaled_eta(dataset: str, variant: str, by: str, size: dict[str, Any]) -> float:
    """The chosen eta, in proportion to the genes where simulated data has other than those of the choice."""
    genes = size["simulated"].get("genes", SIMULATED_GENES) if dataset == SIMULATED else SIMULATED_GENES
    return chosen_eta(dataset, variant, by) * genes / SIMULATED_GENES


def _scripted(dataset: str, size: dict[str, Any], name: str) -> Row:
    """A rival as the authors' scripts run it: 5 components, or k eigenvectors of unscaled data."""
    options = {"n_init": size["n_init"]} | ({"n_components": 5} if name == "pca" else {})
    values = _of(dataset, size) | {"method": name, "options": options}
    return Row(f"{dataset}/{name}-scripted", f"{LABELS[name]}, as scripted", values)


def _variant(dataset: str, size: dict[str, Any], name: str, changes: dict[str, Any]) -> Row:
    options = _released(dataset, "genes", size) | changes
    values = _of(dataset, size) | {"method": "k-sparse", "options": options}
    return Row(f"{dataset}/k-sparse-{name}", VARIANT_LABELS[name], values, DECIDING if name == "free" else OTHERS)


def _on_logs(row: Row) -> Row:
    return Row(f"{row.id}-logs", f"{row.label}, on logs", row.values | {"logs": True}, OTHERS)


def _on_share(row: Row) -> Row:
    return Row(f"{row.id}-share", f"{row.label}, on {STABILITY_SHARE:.0%}", row.values | {"share": STABILITY_SHARE})


def _at_eta(dataset: str, size: dict[str, Any], eta: float) -> Row:
    genes = size["simulated"].get("genes", SIMULATED_GENES)
    options = _released(dataset, "genes", size) | {"eta": eta * genes / SIMULATED_GENES}
    values = _of(dataset, size) | {"method": "k-sparse", "options": options}
    return Row(f"{dataset}/eta-{eta:g}", f"eta {eta:g}", values, seeds=1)


def _baseline(row: Row) -> str | None:
    """K-sparse's parts are compared with K-sparse at 10 % of the genes, K-sparse itself with its start."""
    dataset, name = row.id.split("/")
    if name in ("spectral", "spectral-logs") or name.endswith("-logs"):
        return None
    return f"{dataset}/spectral" if name in ("k-sparse", "k-sparse-genes") else f"{dataset}/k-sparse-genes"


EXPERIMENTS = {
    "ksparse_tables": tables,
    "ksparse_genes": genes,
    "ksparse_ablation": ablation,
    "ksparse_scaling": scaling,
}
