"""`run(config)`: a finished result from the store, or one computed now."""

import os
import sys
import threading
from pathlib import Path
from typing import Any

from sparcl_lite.runs.job import job_of
from sparcl_lite.runs.store import Store
from sparcl_lite.threads import using_threads

#: Numbers of threads, PyTorch's seeding and peak memory belong to a whole process: its threads compute one at a time.
_COMPUTING = threading.Lock()


def default_store() -> Path:
    """Where runs are kept unless told otherwise: $SPARCL_LITE_STORE, else build/store in the working directory."""
    return Path(os.environ.get("SPARCL_LITE_STORE", "build/store"))


def open_store(given: Store | Path | str | None) -> Store:
    """The store that is meant: itself, that of a folder, or the default one."""
    return given if isinstance(given, Store) else Store(given or default_store())


def run(
    what: Any,
    *,
    store: Store | Path | str | None = None,
    device: str = "auto",
    threads: int = 1,
    progress: bool = False,
) -> Any:
    """The result of a configuration: from the store when it is there, else computed (from a checkpoint, if any).

    `what` is the configuration of any kind of job, or a `Job`, which has its own device and threads. The same
    configuration, device and number of threads give the same bits. A training run that was interrupted on another kind
    of device goes on here from its checkpoint, with bits that neither device alone would give. Raises `KitError` for
    anything the user can mend: missing data, an unusable store, a full disk, a damaged stored result (set aside).
    A job with a limit of time raises `OutOfTime` when that has passed, and goes on in a later call.
    """
    job, store = job_of(what, device=device, threads=threads), open_store(store)
    found = store.get(job.config)
    if found:
        if progress:
            where = "committed" if store.committed(job.config) else f"made here, in {store.root}"
            print(f"{job.name}: {where}, {getattr(found, 'finished', '')[:10]}", file=sys.stderr)
        return found
    job.check_time()
    store.check_usable(job.disk_bytes)
    with store.lock(job.config, lambda who: print(f"{job.name}: trained by {who}; waiting", file=sys.stderr)):
        found = store.get(job.config)  # another process may have finished it meanwhile
        if found is None:
            with _COMPUTING, using_threads(job.threads):
                found = job.compute(store, progress)
            store.put(found)
    return found
