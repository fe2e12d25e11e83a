"""Runs on a Dask cluster: waiting for them while workers and the scheduler come and go, and why one of them failed."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from dask.distributed import Client, Future, KilledWorker, as_completed

from sparcl_lite.errors import KitError

LOOK_SECONDS = 5  # between two looks whether there is any worker
POLL_SECONDS = 0.1
NO_WORKER = "waiting: the scheduler has no worker"
OTHER_PACKAGES = (
    "the scheduler or a worker there lacks sparcl_lite, or has other versions of it, of Python or of Dask than here; "
    "install the same on all of them"
)


class SchedulerLost(KitError):
    """The connection to the scheduler broke, and with it every task there; a later call goes on with them."""


def finished(client: Client, futures: Iterable[Future], until: float, note: Callable[[str], None]) -> Iterator[Future]:
    """Futures as they end. Those that cannot end any more are left out.

    That is so after the scheduler is lost for good, and where it has no worker after `until` (seconds since 1970).
    `note` is told while there is none, and gets an empty text afterwards.
    """
    ready, looked = as_completed(futures), 0.0
    while ready.count():
        if ready.has_ready():
            yield next(ready)
        elif client.status == "closed":
            return
        elif time.monotonic() - looked < LOOK_SECONDS:
            time.sleep(POLL_SECONDS)
        else:
            alone, looked = not _workers(client), time.monotonic()
            note(NO_WORKER if alone else "")
            if alone and time.time() >= until:
                return


def _workers(client: Client) -> int:
    """How many workers the scheduler has; 1 where it does not say, because it is just being lost."""
    try:
        return len(client.scheduler_info()["workers"])
    except (OSError, TimeoutError, ValueError):
        return 1


def reason(error: Exception) -> str:
    """Why a run failed, in one line."""
    text = (str(error).splitlines() or [""])[0]
    if isinstance(error, KitError):
        return text
    if isinstance(error, KilledWorker):
        times = error.allowed_failures + 1
        return (
            f"{times} workers died while they ran it (out of memory, at their job's limit of time, or for want of "
            "sparcl_lite: see their logs); the same call tries again"
        )
    if "deserializ" in text or getattr(error, "name", None) == "sparcl_lite":
        return OTHER_PACKAGES
    return f"{type(error).__name__}: {text}".removesuffix(": ")


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, the client of Dask does not log with calls and all what is told in one line: a lost scheduler."""
    logger = logging.getLogger("distributed.client")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
