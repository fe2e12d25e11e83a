"""Which process works on a run: a lock, and beside it a note that says who holds it and since when."""

import json
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from sparcl_lite.locking import locked
from sparcl_lite.runs.result import now


def lock_path(home: Path, key: str) -> Path:
    """The lock of a run in the folder of its kind."""
    return home / "locks" / f"{key}.lock"


@contextmanager
def held(path: Path, waiting: Callable[[str], None]) -> Iterator[bool]:
    """One process at a time is inside; a second one is told once who is, and waits. See `locked` for the value."""
    note = path.with_suffix(".owner")
    with locked(path, lambda: waiting(owner(path) or "another process")) as alone:
        try:
            with suppress(OSError):  # a note is no reason to stop
                note.write_text(json.dumps({"process": os.getpid(), "host": platform.node(), "since": now()}))
            yield alone
        finally:
            with suppress(OSError):
                note.unlink()


def owner(path: Path) -> str | None:
    """`process 123 on host, since 12:03:04`; None where no process holds the lock, or none says that it does."""
    try:
        known = json.loads(path.with_suffix(".owner").read_text())
        with FileLock(path, timeout=0):  # left by one that was killed
            return None
    except Timeout:
        since = datetime.fromisoformat(known["since"]).astimezone()
        return f"process {known['process']} on {known['host']}, since {since:%H:%M:%S}"
    except (OSError, ValueError, KeyError, TypeError):  # no note, or what is left of one
        return None
