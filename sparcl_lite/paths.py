"""Folders as a user names them, and files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from sparcl_lite.errors import KitError


def folder(given: Path | str) -> Path:
    """The path with `~` as the home directory. Raises `KitError` where there is no such home."""
    try:
        return Path(given).expanduser()
    except RuntimeError:
        raise KitError(f"{given}: no home directory is known; allowed: a path without ~") from None


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` when the block ends: wholly or not at all, also after a crash."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")  # processes on several machines may share a store
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise KitError(f"{path} cannot be written ({error.strerror})") from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def delete_unfinished(folder: Path, name: str) -> None:
    """Delete what killed writers of files in the folder left whose names begin with `name`; no other may be at work."""
    for left in folder.glob(f".{name}.*.tmp"):
        left.unlink(missing_ok=True)
