"""What takes long to make and follows from inputs and this package's code: kept beside the data sets, and made once."""

import hashlib
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, TypeVar

from sparcl_lite.data.download import data_dir
from sparcl_lite.errors import KitError
from sparcl_lite.paths import replacing

T = TypeVar("T")
FORGOTTEN = 7 * 24 * 3600  # seconds after which what other code made is removed, if nothing new joined it


def kept(name: str, make: Callable[[], T], write: Callable[[T, BinaryIO], object], read: Callable[[BinaryIO], T]) -> T:
    """What `make` makes, or what a process with the same code has kept under the same name.

    `read` raises ValueError on a damaged file, which is then made again. Where nothing can be written, nothing is kept.
    """
    found = find(name, read)
    if found is None:
        found = make()
        keep(name, found, write)
    return found


def find(name: str, read: Callable[[BinaryIO], T]) -> T | None:
    """What is kept under a name; None where nothing is, or a file that `read` finds damaged."""
    with suppress(OSError, ValueError), open(_path(name), "rb") as file:
        return read(file)
    return None


def keep(name: str, made: T, write: Callable[[T, BinaryIO], object]) -> bool:
    """Keep it under a name, in place of what was there; whether that could be done."""
    path = _path(name)
    with suppress(OSError, KitError):
        with replacing(path) as file:
            write(made, file)
        for other in path.parents[1].iterdir():
            if time.time() - other.stat().st_mtime > FORGOTTEN:
                shutil.rmtree(other)
        return True
    return False


def forget(name: str) -> None:
    """Let nothing be kept under a name."""
    with suppress(OSError):
        _path(name).unlink(missing_ok=True)


def _path(name: str) -> Path:
    return data_dir() / "kept" / _code() / name


@lru_cache
def _code() -> str:
    """Hexadecimal digits that change with any line of this package."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
