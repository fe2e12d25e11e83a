"""Rules of K-sparse's claims beside those of all papers, over clusterings."""

import numpy as np
import pandas as pd

from sparcl_lite.measure.statistics import CONTRADICTED, INCONCLUSIVE, REPRODUCED, Interval
from sparcl_lite.papers.claims import Claim
from sparcl_lite.papers.experiments import Experiment, runs_of
from sparcl_lite.papers.judge import Rule, nothing_known
from sparcl_lite.papers.verdicts import Evidence
from sparcl_lite.runs.store import Store


def rules(_: Store) -> dict[str, Rule]:
    """Rules by name; none looks at a measurement beside the runs."""
    return {"never_increases": _converges, "slope_between": _slope_between}


def log_slope(sizes: np.ndarray, seconds: np.ndarray) -> float:
    """Slope of the least-squares line of log seconds (n,) over log sizes (n,): the power of the size."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def medians(frame: pd.DataFrame) -> pd.DataFrame:
    """One line a row, in order of appearance: medians over its runs of sizes, times and memory."""
    columns = ["cells", "n_genes", "nonzeros", "seconds", "cpu_seconds", "peak_memory_bytes"]
    return frame.groupby("row", sort=False)[columns].median().reset_index()


def _converges(claim: Claim, experiment: Experiment, frame: pd.DataFrame, a: str, b: str) -> Evidence:
    """In every run no loop raises the criterion, and the last one changes it by a small share of the start.

    The scale-free criterion stands beside it: what it does not show of the fall is the collapse of the centroids.
    """
    runs = frame[frame["row"] == a].dropna(subset="criterion") if len(frame) else frame
    if runs.empty:
        return nothing_known(a, "its start", "no runs of this row that kept the start")
    steps = [np.diff(trace) / trace[0] for trace in runs["criterion"]]
    last, risen = np.abs([step[-1] for step in steps]), sum(int((step > 0).sum()) for step in steps)
    left = max(trace[-1] / trace[0] for trace in runs["criterion"])
    first, final = (np.mean([trace[at] for trace in runs["relative_criterion"]]) for at in (0, -1))
    effect = Interval(float(last.mean()), float(last.min()), float(last.max()), len(last))
    note = (
        f"{risen} increases in {sum(map(len, steps))} steps, last change up to {last.max():.2%} of the start, up to "
        f"{left:.1%} of it left; scale-free {first:.2f} after the first loop, {final:.2f} after the last; n {len(last)}"
    )
    outcome = REPRODUCED if last.max() < claim.margin and not risen else INCONCLUSIVE
    if risen or last.min() >= claim.margin:
        outcome = CONTRADICTED
    return Evidence(a, "its start", effect, note=note, outcome=outcome, runs=runs_of(frame, a))


def _slope_between(claim: Claim, experiment: Experiment, frame: pd.DataFrame, a: str, b: str) -> Evidence:
    """The slope of log CPU time against log size over the rows from a to b, all of which must be there."""
    names = [row.id for row in experiment.rows]
    wanted = names[names.index(a) : names.index(b) + 1]
    known = medians(frame[frame["row"].isin(wanted)]) if len(frame) else frame
    if len(known) < len(wanted):
        return nothing_known(a, b, f"{len(known)} of {len(wanted)} sizes measured")
    slope = log_slope(known["cells"].to_numpy(float), known["cpu_seconds"].to_numpy())
    top = known.loc[known["cells"].idxmax()]
    cost = f"{top['seconds']:.0f} s, {top['peak_memory_bytes'] / 1e9:.1f} GB"
    note = f"slope {slope:.2f} of CPU time; {top['cells']:,.0f} cells in {cost}"
    low, high = claim.between
    outcome = REPRODUCED if low <= slope <= high else CONTRADICTED
    return Evidence(a, b, Interval(slope, slope, slope, 1), note=note, outcome=outcome, runs=runs_of(frame, *wanted))
