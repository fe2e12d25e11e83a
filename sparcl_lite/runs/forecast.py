"""What a sweep finds in its store and where that came from, and how long the rest will take."""

from collections.abc import Iterable
from statistics import fmean

from dask.system import CPU_COUNT

from sparcl_lite.runs.job import Job
from sparcl_lite.runs.store import Store

SEEDS = 10  # of which some run may tell how long a row takes


def forecast(jobs: Iterable[Job], store: Store, timed: Store | None = None, workers: int = CPU_COUNT) -> str:
    """`15 runs: 10 committed (2026-11-20), 2 made here (2026-11-27), 3 to make in about 2 minutes here`.

    Times are those of other seeds of a row, in the store or else in `timed`, and by cost where it has none.
    """
    jobs = list({job.id: job for job in jobs}.values())
    committed, here, missing = [], [], []
    for job in jobs:
        if found := store.committed(job.config):
            committed.append(found)
        elif found := store.find(job.config):
            here.append(found)
        else:
            missing.append(job)
    stored = {"committed": committed, "made here": here}
    parts = [f"{len(found)} {where}{_dates(found)}" for where, found in stored.items() if found]
    parts += [f"{len(missing)} to make{_duration(missing, store, timed or store, workers)}"] * bool(missing)
    return f"{len(jobs)} run{'s' * (len(jobs) != 1)}: {', '.join(parts)}"


def _dates(results: Iterable) -> str:
    days = sorted(day for result in results if (day := getattr(result, "finished", "")[:10]))
    return f" ({' to '.join(dict.fromkeys([days[0], days[-1]]))})" if days else ""


def _duration(jobs: list[Job], store: Store, timed: Store, workers: int) -> str:
    """` in about 2 minutes here`; empty where no run tells."""
    known = {job.id: found for job in jobs if (found := _seconds(job, store, timed))}
    if not known:
        return ""
    rate = fmean(known[job.id][0] / job.cost for job in jobs if job.id in known)
    seconds = {job.id: known[job.id][0] if job.id in known else rate * job.cost for job in jobs}
    shared = [seconds[job.id] for job in jobs if job.shares_machine]
    alone = sum(seconds.values()) - sum(shared)
    minutes = (alone + max([sum(shared) / min(workers, len(shared) or 1), *shared])) / 60
    here = all(measured_here for _, measured_here in known.values())
    about = f"about {minutes:.0f} minutes" if minutes >= 1.5 else "a minute or less"
    return f" in {about}{' here' if here else ', as fast as the committed ones'}"


def _seconds(job: Job, store: Store, timed: Store) -> tuple[float, bool] | None:
    """Mean seconds of the row's other seeds, and whether they were measured here."""
    seeds = [job.config.model_copy(update={"seed": seed}) for seed in range(SEEDS)]
    for place, here in ((Store(store.root), True), (timed, False)):
        lines = [job.line(found) for config in seeds if (found := place.find(config))]
        times = [line["seconds"] for line in lines if line.get("seconds")]
        if times:
            return fmean(times), here
    return None
