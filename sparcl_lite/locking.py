"""Locks of files, also where the file system has none: work is then done without, which may cost time but no result."""

import errno
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}  # of network file systems and of FUSE


@contextmanager
def locked(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[bool]:
    """One process at a time is inside; `waiting` is called once where another one is.

    The value is False, after a warning, where the file system has no locks and nobody is kept out.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waiting()
            lock.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        warnings.warn(f"{path.parent} has no locks ({error.strerror}): others may do the same work", stacklevel=3)
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
