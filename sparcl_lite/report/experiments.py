"""The table that shows an experiment, whichever kind of runs it has."""

import pandas as pd

from sparcl_lite.measure.statistics import t_interval
from sparcl_lite.papers.experiments import Experiment
from sparcl_lite.report import clustering
from sparcl_lite.report.tables import Table, comparison, plus_minus
from sparcl_lite.runs.benchmark import Benchmark, in_words
from sparcl_lite.runs.training import Training

CLUSTERINGS = {
    "ksparse_tables": clustering.methods,
    "ksparse_genes": clustering.selection,
    "ksparse_ablation": clustering.gains,
    "ksparse_recovery": clustering.recovered,
    "ksparse_scaling": lambda _, frame: clustering.sizes(frame),
}


def table_of(experiment: Experiment, frame: pd.DataFrame) -> Table:
    """The paper's table beside ours for training runs; else what the experiment is about."""
    if experiment.job is Training:
        return comparison(experiment, frame)
    if experiment.job is Benchmark:
        return _measured(experiment, frame)
    return CLUSTERINGS.get(experiment.name, _means)(experiment, frame)


def _measured(experiment: Experiment, frame: pd.DataFrame) -> Table:
    reports = zip(frame["row"], frame["report"], strict=True)
    words = {row: in_words(experiment.row(row).values["benchmark"], report) for row, report in reports}
    lines = [(row, line) for row, text in words.items() for line in text.splitlines()]
    return Table(pd.DataFrame(lines, columns=["benchmark", "measured"]), "Each on the machine that its report names.")


def _means(experiment: Experiment, frame: pd.DataFrame) -> Table:
    lines = []
    for row, runs in frame.groupby("row", sort=False):
        means = {name: plus_minus(t_interval(runs[name]), 2) for name in experiment.job.columns}
        lines.append({"what": experiment.row(row).label} | means | {"n": len(runs)})
    return Table(pd.DataFrame(lines), "Means ± half of the 95 % interval over n seeds.")
