"""Many jobs at once on Dask: a local cluster by default, any scheduler by address. Those that are timed run here."""

import gc
import logging
import math
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
from dask.distributed import Client, LocalCluster, get_worker
from dask.system import CPU_COUNT
from tqdm import tqdm

from sparcl_lite.data.sources import fetch_absent
from sparcl_lite.errors import KitError
from sparcl_lite.registry import adopt, packed_for
from sparcl_lite.runs.cluster import SchedulerLost, finished, quiet, reason
from sparcl_lite.runs.job import Job, OutOfTime, job_of, kind_named
from sparcl_lite.runs.progress import Bar, listening
from sparcl_lite.runs.run import default_store, open_store, run
from sparcl_lite.runs.store import Store

#: A training step allocates and frees the same few megabytes again and again. Dask's default tells glibc to hand
#: them back to the kernel each time, and the page faults cost up to 40 % of a small network's step.
WORKER_ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_ARENA_MAX": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


CONNECT_SECONDS = 10  # after which a scheduler that has not answered is given up
TOPIC = "sparcl-lite-progress"  # of all sweeps on a scheduler: those that ask for one run share its task


class SweepError(KitError):
    """Some runs failed; the others finished and are in the store."""


def sweep(
    jobs: Iterable[Any],
    *,
    store: Store | Path | str | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    minutes: float | None = None,
    progress: bool = True,
) -> list[Any]:
    """Results of all jobs (or configurations), in order; those not in the store are computed.

    With `minutes` no job begins after that time, and training runs stop at the first end of an epoch after it. Their
    results are None; the next call goes on from their checkpoints.

    Jobs that may share the machine run on Dask, one thread per worker. `scheduler` is the address of a running
    scheduler, whose workers may be on other machines: results come back to this process and are kept in its store. A
    run whose worker dies is tried again from its last checkpoint. The other jobs run in this process, one after the
    other. Raises `SweepError` when some jobs failed for good or their scheduler was lost, after the others have
    finished; `progress` also tells each failure when it happens.
    """
    until = {} if minutes is None else {"until": time.time() + 60 * minutes}
    jobs, store = [replace(job_of(job), **until) for job in jobs], open_store(store)
    found = {job.id: store.find(job.config) for job in jobs}
    missing = list({job.id: job for job in jobs if found[job.id] is None}.values())
    shared = [job for job in missing if job.shares_machine]
    if len(shared) == 1 and not scheduler:
        shared = []
    alone = [job for job in missing if job not in shared]
    errors = {}
    for job, outcome in _all(shared, alone, store, scheduler, workers, progress):
        if isinstance(outcome, OutOfTime):
            continue
        if isinstance(outcome, Exception):
            errors[f"{job.name} ({job.config.key})"] = outcome
            if progress and len(missing) > 1 and not isinstance(outcome, SchedulerLost):
                tqdm.write(f"failed: {job.name} ({job.config.key}): {reason(outcome)}", file=sys.stderr)
        else:
            found[job.id] = outcome
    if errors:
        raise SweepError(_told(errors, len(missing), scheduler)) from next(iter(errors.values()))
    return [found[job.id] for job in jobs]


def _told(errors: dict[str, Exception], count: int, scheduler: str | None) -> str:
    """Which of `count` runs failed and why, a reason that several have once, and how many were lost on the way."""
    runs, texts = defaultdict(list), []
    for name, error in errors.items():
        runs[None if isinstance(error, SchedulerLost) else reason(error)].append(name)
    lost = len(runs.pop(None, []))
    if runs:
        told = "; ".join(f"{', '.join(names)}: {why}" for why, names in runs.items())
        texts.append(f"{len(errors) - lost} of {count} runs failed: {told}")
    if lost:
        where = f" at {scheduler}" if scheduler else ""
        texts.append(
            f"{lost} of {count} runs are unfinished: the Dask scheduler{where} has stopped, or cannot be reached any "
            "more; the same call goes on with them"
        )
    return "; ".join(texts)


def _all(
    shared: list[Job], alone: list[Job], store: Store, scheduler: str | None, workers: int | None, progress: bool
) -> Iterator[tuple[Job, Any]]:
    """Each job with its result, or with the error in its place; first those that share the machine."""
    if not scheduler:
        for job, error in _without_data(shared):
            shared = [other for other in shared if other is not job]
            yield job, error
    if shared:
        store.check_usable(needed_bytes=len(shared) * 2**16)
        with _client(scheduler, workers or min(CPU_COUNT, len(shared))) as client:
            yield from _on_workers(client, shared, store, progress)
    yield from _one_by_one(alone, store, progress)


def _without_data(jobs: list[Job]) -> Iterator[tuple[Job, KitError]]:
    """Jobs whose data set cannot be had; the others' is here afterwards: workers would fetch it unseen."""
    for name in {job.dataset: None for job in jobs if job.dataset}:
        try:
            fetch_absent(name)
        except KitError as error:
            yield from ((job, error) for job in jobs if job.dataset == name)


def _one_by_one(jobs: list[Job], store: Store, progress: bool) -> Iterator[tuple[Job, Any]]:
    if jobs:
        gc.freeze()  # measuring peak memory collects garbage before every run: what is imported is none
    with tqdm(total=len(jobs), unit="run", disable=not progress or len(jobs) < 2) as bar:
        for job in jobs:
            bar.set_description(job.name)
            try:
                yield job, run(job, store=store, progress=progress and len(jobs) < 2)
            except Exception as error:  # whatever is wrong with this one, the others can do without it
                yield job, error
            bar.update()


def _on_workers(client: Client, jobs: list[Job], store: Store, progress: bool) -> Iterator[tuple[Job, Any]]:
    """As they finish; costly jobs start first."""
    root, packed = str(store.root.absolute()), {job.id: packed_for(job.config) for job in jobs}
    for job in jobs if progress else []:
        if who := store.owner(job.config):
            print(f"{job.name}: trained by {who}; its result is awaited", file=sys.stderr)
    # Once, whatever the number of runs; as a task, which is done again where a worker dies with its result.
    sent = {each: client.submit(bytes, each) for each in set(packed.values())}
    futures = {
        client.submit(
            _work,
            job.kind,
            {"config": job.config.model_dump(), "until": job.until, "topic": TOPIC},
            root,
            sent[packed[job.id]],
            key=_task(job),
            pure=False,
        ): job
        for job in sorted(jobs, key=lambda job: -job.cost)
    }
    with Bar(jobs, progress) as bar:
        client.subscribe_topic(TOPIC, lambda event: bar.update(*event[1]))
        for future in finished(client, futures, min(job.until for job in jobs), bar.note):
            job = futures.pop(future)
            outcome = _outcome(future, job, store)
            yield job, outcome
            if not isinstance(outcome, SchedulerLost):
                bar.finish("-".join(job.id))
        left = OutOfTime("no worker came in time") if client.status == "running" else SchedulerLost()
        yield from ((job, left) for job in futures.values())


def _task(job: Job) -> str:
    """The name of a job's task: that of a run, so that two sweeps on a scheduler do it once, and its limit of time."""
    return "-".join([*job.id, *([] if job.until == math.inf else [f"{job.until:.0f}"])])


def _work(kind: str, given: dict, root: str, registered: bytes) -> str:
    """What a worker does; plain values in and out, so that versions of this package may differ a little.

    `registered` is what the run needs of what a user registered in the process that asks (`packed_for`). A worker that
    cannot write to `root`, because it is on another machine, uses its own default store, or else the folder of its
    temporary files. How far it is goes to the topic given.
    """
    adopt(registered)
    worker = get_worker()
    store = _usable(root, default_store(), Path(worker.local_directory, "store"))
    config = kind_named(kind).config_type.model_validate(given["config"])
    job = job_of(config, until=given["until"])
    with listening(lambda share: worker.log_event(given["topic"], ("-".join(job.id), share))):
        return run(job, store=store).model_dump_json()


def _usable(*places: Path | str) -> Store:
    """The store of the first place that can be written to. Raises `KitError` where the last one cannot."""
    *others, last = map(Store, places)
    for store in others:
        with suppress(KitError):
            store.check_usable(needed_bytes=0)
            return store
    last.check_usable(needed_bytes=0)
    return last


def _outcome(future: Any, job: Job, store: Store) -> Any:
    try:
        result = job.result_type.model_validate_json(future.result())
    except Exception as error:  # whatever a worker raised, or the loss of the worker itself
        return SchedulerLost() if future.cancelled() else error
    if not store.path(job.config).exists():
        store.put(result)
    return result


def _connected(scheduler: str) -> Client:
    try:
        return Client(scheduler, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError, ValueError) as error:
        reason = str(error)
    # A client that could not connect closes when it is collected: here, or later in the first thread that collects
    # garbage. If that is the one that starts another client's loop, the other one gives up waiting.
    gc.collect()
    raise KitError(f"scheduler = {scheduler!r}: no Dask scheduler answers there ({reason})")


@contextmanager
def _client(scheduler: str | None, workers: int) -> Iterator[Client]:
    if scheduler:
        with quiet(), _connected(scheduler) as client:
            yield client
        return
    with script_hidden():
        with dask.config.set({"distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT}):
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=0,
                dashboard_address="127.0.0.1:0",  # None would take a fixed port, and warn when it is taken
                silence_logs=logging.CRITICAL,
            )
        try:
            with Client(cluster) as client:
                yield client
        finally:
            with suppress(Exception):  # a worker that died during shutdown is no failure of the runs
                cluster.close()


@contextmanager
def script_hidden() -> Iterator[None]:
    """Processes that start inside do not execute the user's script first, as those of `multiprocessing` do.

    Workers need nothing of it; without `if __name__ == "__main__"` in it, each of them would begin the sweep again.
    """
    main = sys.modules["__main__"]
    kept = {name: value for name in ("__spec__", "__file__") if (value := getattr(main, name, None)) is not None}
    vars(main).update(dict.fromkeys(kept))
    try:
        yield
    finally:
        vars(main).update(kept)
