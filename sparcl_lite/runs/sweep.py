"""Many jobs at once on Dask: a local cluster by default, any scheduler by address. Those that are timed run here."""

import gc
import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask
from dask.distributed import Client, LocalCluster, as_completed, get_worker
from dask.system import CPU_COUNT
from tqdm import tqdm

from sparcl_lite.errors import KitError
from sparcl_lite.registry import adopt, packed_for
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
    other. Raises `SweepError` when some jobs failed for good, after the others have finished.
    """
    until = {} if minutes is None else {"until": time.time() + 60 * minutes}
    jobs, store = [replace(job_of(job), **until) for job in jobs], open_store(store)
    found = {job.id: store.find(job.config) for job in jobs}
    missing = list({job.id: job for job in jobs if found[job.id] is None}.values())
    shared = [job for job in missing if job.shares_machine]
    if len(shared) == 1 and not scheduler:
        shared = []
    alone = [job for job in missing if job not in shared]
    failures = []
    for job, outcome in _all(shared, alone, store, scheduler, workers, progress):
        if isinstance(outcome, OutOfTime):
            continue
        if isinstance(outcome, Exception):
            failures.append((f"{job.name} ({job.config.key}): {_reason(outcome)}", outcome))
        else:
            found[job.id] = outcome
    if failures:
        reasons = "; ".join(text for text, _ in failures)
        raise SweepError(f"{len(failures)} of {len(missing)} runs failed: {reasons}") from failures[0][1]
    return [found[job.id] for job in jobs]


def _all(
    shared: list[Job], alone: list[Job], store: Store, scheduler: str | None, workers: int | None, progress: bool
) -> Iterator[tuple[Job, Any]]:
    """Each job with its result, or with the error in its place; first those that share the machine."""
    if shared:
        store.check_usable(needed_bytes=len(shared) * 2**16)
        with _client(scheduler, workers or min(CPU_COUNT, len(shared))) as client:
            yield from _on_workers(client, shared, store, progress)
    yield from _one_by_one(alone, store, progress)


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
    topic = f"progress-{uuid4().hex}"
    # Once, whatever the number of runs; as a task, which is done again where a worker dies with its result.
    sent = {each: client.submit(bytes, each) for each in set(packed.values())}
    futures = {
        client.submit(
            _work,
            job.kind,
            {"config": job.config.model_dump(), "until": job.until, "topic": topic},
            root,
            sent[packed[job.id]],
            key="-".join(job.id),
            pure=False,
        ): job
        for job in sorted(jobs, key=lambda job: -job.cost)
    }
    with Bar(jobs, progress) as bar:
        client.subscribe_topic(topic, lambda event: bar.update(*event[1]))
        for future in as_completed(futures):
            yield futures[future], _outcome(future, futures[future], store)
            bar.finish(future.key)
        client.unsubscribe_topic(topic)


def _work(kind: str, given: dict, root: str, registered: bytes) -> str:
    """What a worker does; plain values in and out, so that versions of this package may differ a little.

    `registered` is what the run needs of what a user registered in the process that asks (`packed_for`). A worker that
    cannot write to `root`, because it is on another machine, uses its own default store. How far it is goes to
    the topic given.
    """
    adopt(registered)
    store = Store(root)
    try:
        store.check_usable(needed_bytes=0)
    except KitError:
        store = Store(default_store())
    config = kind_named(kind).config_type.model_validate(given["config"])
    job, worker = job_of(config, until=given["until"]), get_worker()
    with listening(lambda share: worker.log_event(given["topic"], ("-".join(job.id), share))):
        return run(job, store=store).model_dump_json()


def _outcome(future: Any, job: Job, store: Store) -> Any:
    try:
        result = job.result_type.model_validate_json(future.result())
    except Exception as error:  # whatever a worker raised, or the loss of the worker itself
        return error
    if not store.path(job.config).exists():
        store.put(result)
    return result


def _reason(error: Exception) -> str:
    text = (str(error).splitlines() or [""])[0]
    return text if isinstance(error, KitError) else f"{type(error).__name__}: {text}".removesuffix(": ")


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
        with _connected(scheduler) as client:
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
