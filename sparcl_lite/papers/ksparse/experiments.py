"""K-sparse's comparisons as experiments: tables, genes, ablation, recovery and scaling."""

from dataclasses import replace
from typing import Any

from sparcl_lite.clustering.config import SIMULATED
from sparcl_lite.papers.experiments import Experiment, Row
from sparcl_lite.papers.ksparse.rows import DECIDING, OTHERS, SELECTORS, VARIANTS, Rows
from sparcl_lite.papers.ksparse.sizes import path_etas, profile_named
from sparcl_lite.runs.clustering import Clustering
from sparcl_lite.runs.recovery import Recovery

STABILITY_SHARE, STABILITY_SEEDS = 0.8, 5  # of the cells, a new draw with every seed
SCALING_DROPOUT = 0.95  # zeros of the large simulated counts: the highly variable genes of a 10x experiment
SCALING_GENES = 2_000  # held fixed while cells grow; the profile says the cells while genes grow
SCALING_ETA = 100.0


def tables(*, profile: str = "lite", datasets: list[str] | None = None) -> Experiment:
    """Every method on every data set, with the same preprocessing, embedding size and restarts."""
    size = profile_named(profile)
    rows = [row for dataset in datasets or size["datasets"] for row in Rows(dataset, size).methods().values()]
    return _experiment("tables", rows, profile)


def ablation(*, profile: str = "lite") -> Experiment:
    """Where the gain comes from: rivals as the authors' scripts run them and as K-sparse is run, and its own parts."""
    size, rows = profile_named(profile), []
    for dataset in size["ablation"]:
        make = Rows(dataset, size)
        fair = make.methods()
        rows += [make.scripted("pca"), make.scripted("spectral")]
        rows += [fair[name] for name in ("pca", "spectral", "k-sparse", "k-sparse-genes", "k-sparse-described")]
        changed = VARIANTS.keys() - {"free"} if dataset == SIMULATED else {"identity", "whitened"}
        rows += [make.variant(name) for name in VARIANTS if name in changed]
        if dataset == SIMULATED:
            rows += [_on_logs(fair[name]) for name in ("pca", "spectral", "sparse-kmeans", "k-sparse-genes")]
    compared = [replace(row, against=_baseline(row)) for row in rows]
    return _experiment("ablation", compared, profile)


def genes(*, profile: str = "lite") -> Experiment:
    """Which genes are selected: on random 80 % of the cells, on simulated truth, and along eta."""
    size, rows = profile_named(profile), []
    for dataset in size["stability"]:
        make = Rows(dataset, size)
        fair = make.methods()
        rows += [_on_share(fair[name]) for name in ("sparse-kmeans", "k-sparse-genes", "k-sparse")]
        rows.append(_on_share(make.variant("identity")))
    make = Rows(SIMULATED, size)
    fair = make.methods()
    rows += [fair[name] for name in ("sparse-kmeans", "k-sparse", "k-sparse-genes", "k-sparse-described")]
    rows += [make.variant("identity"), make.variant("free")]
    rows += [make.at_eta(eta) for eta in path_etas()]
    return _experiment("genes", rows, profile)


def recovery(*, profile: str = "lite") -> Experiment:
    """Cell types told from few genes on held-out cells: K-sparse, rivals that are given the labels, and controls."""
    size, rows = profile_named(profile), []
    for dataset in size["recovery"]:
        given = Rows(dataset, size).given() | ({"logs": True} if dataset == SIMULATED else {})
        for count in size["panels"]:
            for name, (label, needs) in SELECTORS.items():
                values = {"dataset": dataset, "selector": name, "n_genes": count} | given
                against = None if name == "random" else f"{dataset}/random-{count}"
                rows.append(Row(f"{dataset}/{name}-{count}", label, values, DECIDING, against, needs=needs))
    return Experiment("ksparse_recovery", "ksparse", None, tuple(rows), {"profile": profile}, job=Recovery)


def scaling(*, profile: str = "lite") -> Experiment:
    """Time and memory against cells and against genes, on sparse simulated counts with a linear-time start.

    All sizes of `paper` are rows at every profile but `smoke`; those beyond the profile's own are large.
    """
    size = profile_named(profile)
    everything = profile_named(profile if profile == "smoke" else "paper")
    rows = [
        _scaling_row(along, count, fixed, size["scaling_options"], large=count not in size[f"scaling_{along}"])
        for along, fixed in (("cells", SCALING_GENES), ("genes", size["scaling_fixed_cells"]))
        for count in everything[f"scaling_{along}"]
    ]
    return _experiment("scaling", rows, profile, threads=2)


def _experiment(name: str, rows: list[Row], profile: str, threads: int = 1) -> Experiment:
    """Clusterings beside which the paper has no numbers: only its abstract could be had."""
    shared = {"profile": profile}
    return Experiment(f"ksparse_{name}", "ksparse", None, tuple(rows), shared, job=Clustering, threads=threads)


def _scaling_row(along: str, count: int, fixed: int, given: dict[str, Any], *, large: bool) -> Row:
    shape = {"cells": count, "genes": fixed} if along == "cells" else {"cells": fixed, "genes": count}
    options = {"init": "whitened", "eta": SCALING_ETA, "n_init": 1, "tol": 0.0} | given
    values = {"dataset": SIMULATED, "method": "k-sparse", "options": options, "sparse": True} | shape
    values["dropout"] = SCALING_DROPOUT
    return Row(f"{along}/{count}", f"{count:,} {along}", values, seeds=1 if large else OTHERS, large=large)


def _on_logs(row: Row) -> Row:
    return Row(f"{row.id}-logs", f"{row.label}, on logs", row.values | {"logs": True}, OTHERS)


def _on_share(row: Row) -> Row:
    values = row.values | {"share": STABILITY_SHARE}
    return Row(f"{row.id}-share", f"{row.label}, on {STABILITY_SHARE:.0%}", values, STABILITY_SEEDS)


def _baseline(row: Row) -> str | None:
    """K-sparse itself is compared with its start, its parts and its rivals with it at 10 % of the genes."""
    dataset, name = row.id.split("/")
    if name == "spectral" or name.endswith("-logs"):
        return None
    return f"{dataset}/spectral" if name in ("k-sparse", "k-sparse-genes") else f"{dataset}/k-sparse-genes"


EXPERIMENTS = {
    "ksparse_tables": tables,
    "ksparse_genes": genes,
    "ksparse_ablation": ablation,
    "ksparse_recovery": recovery,
    "ksparse_scaling": scaling,
}
