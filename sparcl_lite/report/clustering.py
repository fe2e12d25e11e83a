"""Tables of the K-sparse experiments: what each method reached, from where, and with how many genes."""

import itertools

import numpy as np
import pandas as pd

from sparcl_lite.clustering.scores import jaccard
from sparcl_lite.measure.statistics import Interval, t_interval
from sparcl_lite.papers.differences import difference
from sparcl_lite.papers.experiments import Experiment, Row
from sparcl_lite.papers.ksparse.judge import log_slope, medians
from sparcl_lite.report.tables import Table, plus_minus, signed, tendency

TOP = 100  # genes that are compared between two draws
HALF = "± half of the 95 % interval over n seeds"


def methods(experiment: Experiment, frame: pd.DataFrame) -> Table:
    """One line a data set and method: agreement with the truth, the start's accuracy, genes and CPU time."""
    lines = []
    for row, runs in _by_row(experiment, frame):
        lines.append(
            {
                "data": row.values["dataset"],
                "method": row.label,
                "accuracy %": _cell(runs["accuracy"]),
                "ARI %": _cell(runs["ari"]),
                "NMI %": _cell(runs["nmi"]),
                "start's accuracy %": _cell(runs["initial_accuracy"]),
                "silhouette": _cell(runs["silhouette"], 2),
                "genes": _cell(runs["features"], 0),
                "CPU s": f"{runs['cpu_seconds'].median():.1f}",
                "n": len(runs),
            }
        )
    caption = (
        f"Mean {HALF}. The seed draws the restarts and, for `simulated`, the cells. Silhouettes are those of each "
        "method's own embedding: compare them within a method only. CPU s: median, all threads."
    )
    return Table(pd.DataFrame(lines), caption)


def gains(experiment: Experiment, frame: pd.DataFrame) -> Table:
    """One line a row: accuracy, and the paired difference to the row it is compared with."""
    lines = []
    for row, runs in _by_row(experiment, frame):
        effect = difference(frame, row.id, row.against, "accuracy") if row.against else None
        against = {other.id: other.label for other in experiment.rows}.get(row.against, "-")
        lines.append(
            {
                "data": row.values["dataset"],
                "what": row.label,
                "accuracy %": _cell(runs["accuracy"]),
                "ARI %": _cell(runs["ari"]),
                "against": against,
                "difference": _difference(experiment, row, effect),
                "genes": _cell(runs["features"], 0),
                "truly differential %": _cell(runs["precision"]),
                "left of the criterion %": _left(runs["criterion"]),
                "scale-free %": _left(runs["relative_criterion"]),
                "constraint active": _active(runs["constraint_active"]),
                "n": len(runs),
            }
        )
    caption = (
        f"Mean {HALF}; differences in points of accuracy, paired by seed (tendency: too few seeds for one). Left of "
        "the criterion: its last value over the start; scale-free: the share of the projected cells' sum of squares "
        "that lies within clusters, its last value over that of the first loop."
    )
    return Table(pd.DataFrame(lines), caption)


def w_step(frame: pd.DataFrame) -> Table:
    """What K-sparse's loops add to the clusters they start from: one line a data set and variant."""
    lines = []
    known = frame.dropna(subset="gained")
    for (dataset, method), runs in known.groupby(["dataset", "method"], sort=False):
        effect = t_interval(runs["gained"])
        lines.append(
            {
                "data": dataset,
                "method": method,
                "start's accuracy %": _cell(runs["initial_accuracy"]),
                "after the loops %": _cell(runs["accuracy"]),
                "added, points": signed(effect),
                "genes kept": f"{runs['features'].mean():.0f} of {runs['n_genes'].iloc[0]:,}",
                "n": effect.n,
            }
        )
    return Table(pd.DataFrame(lines), f"Mean {HALF}; the difference is paired: both labels are of the same run.")


def selection(experiment: Experiment, frame: pd.DataFrame) -> Table:
    """Of methods that select genes: how many truly differ, and how alike two draws of the cells are."""
    lines = []
    for row, runs in _by_row(experiment, frame):
        if "eta-" in row.id:
            continue
        lines.append(
            {
                "data": row.values["dataset"],
                "method": row.label,
                "genes": _cell(runs["features"], 0),
                "precision %": _cell(runs["precision"]),
                "recall %": _cell(runs["recall"]),
                f"overlap of the top {TOP}": _overlap(runs["ranking"]) if row.id.endswith("-share") else "-",
                "accuracy %": _cell(runs["accuracy"]),
                "n": len(runs),
            }
        )
    caption = (
        f"Mean {HALF}. Precision: share of the selected genes that differ between the simulated clusters (36 % of all "
        f"do); recall: share of those that are selected. Overlap: mean Jaccard index of the {TOP} highest ranked genes "
        "of two random 80 % of the same cells; simulated cells are new with every seed, the genes that differ too."
    )
    return Table(pd.DataFrame(lines), caption)


def recovered(experiment: Experiment, frame: pd.DataFrame) -> Table:
    """How well cell types are told from selected genes on held-out cells: one line a data set, number and selector."""
    lines = []
    for row, runs in _by_row(experiment, frame):
        effect = difference(frame, row.id, row.against, "recovered") if row.against else None
        lines.append(
            {
                "data": row.values["dataset"],
                "genes": row.values["n_genes"],
                "selected by": row.label,
                "accuracy %": _cell(runs["recovered"]),
                "mean over types %": _cell(runs["balanced"]),
                "above random": _difference(experiment, row, effect),
                "known markers found %": _cell(runs["markers"]),
                "truly differential %": _cell(runs["precision"]),
                "n": len(runs),
            }
        )
    caption = (
        f"Mean {HALF}. Genes are selected on 70 % of the cells, a new split with every seed; a logistic regression on "
        "them then tells the types of the other 30 %. K-sparse, highly variable and random genes are chosen without "
        "labels; what is given the types has them of the training cells."
    )
    return Table(pd.DataFrame(lines).loc[:, lambda table: (table != "-").any()], caption)


def sizes(frame: pd.DataFrame) -> Table:
    """Time and peak memory of one fit by size."""
    lines = [
        {
            "cells": f"{run['cells']:,.0f}",
            "genes": f"{run['n_genes']:,.0f}",
            "counts that are not zero": f"{run['nonzeros']:,.0f}",
            "wall s": f"{run['seconds']:.1f}",
            "CPU s": f"{run['cpu_seconds']:.1f}",
            "peak memory, GB": f"{run['peak_memory_bytes'] / 1e9:.2f}",
        }
        for run in medians(frame).to_dict("records")
    ]
    caption = "Medians over up to 3 fits; the large sizes one. Memory: the counts and what the fit adds to them."
    return Table(pd.DataFrame(lines), caption)


def slopes(frame: pd.DataFrame) -> dict[str, float]:
    """Slopes of log CPU time, log wall time and log memory against log cells and log genes."""
    found, frame = {}, medians(frame)
    for along, size in (("cells", "cells"), ("genes", "n_genes")):
        runs = frame[frame["row"].str.startswith(along)]
        for value, name in (("cpu_seconds", "CPU time"), ("seconds", "wall time"), ("peak_memory_bytes", "memory")):
            found[f"{name} against {along}"] = log_slope(runs[size].to_numpy(float), runs[value].to_numpy(float))
    return found


def _by_row(experiment: Experiment, frame: pd.DataFrame):
    """(row, its runs) in the experiment's order, rows without runs left out."""
    for row in experiment.rows:
        runs = frame[frame["row"] == row.id]
        if len(runs):
            yield row, runs


def _difference(experiment: Experiment, row: Row, effect: Interval | None) -> str:
    if effect is None:
        return "-"
    if seeds := tendency(experiment, row):
        return f"tendency, {seeds} seeds"
    return signed(effect)


def _cell(values: pd.Series, digits: int = 1) -> str:
    known = values.dropna().astype(float)
    return plus_minus(t_interval(known), digits) if len(known) else "-"


def _left(traces: pd.Series) -> str:
    shares = [100 * trace[-1] / trace[0] for trace in traces.dropna() if len(trace) > 1]
    return f"{np.mean(shares):.1f}" if shares else "-"


def _active(values: pd.Series) -> str:
    known = values.dropna()
    return f"{int(known.sum())} of {len(known)}" if len(known) else "-"


def _overlap(rankings: pd.Series) -> str:
    values = [jaccard(a[:TOP], b[:TOP]) for a, b in itertools.combinations(rankings, 2)]
    return f"{np.mean(values):.2f}" if values else "one seed"
