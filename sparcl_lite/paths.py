"""Folders as a user names them."""

from pathlib import Path

from sparcl_lite.errors import KitError


def folder(given: Path | str) -> Path:
    """The path with `~` as the home directory. Raises `KitError` where there is no such home."""
    try:
        return Path(given).expanduser()
    except RuntimeError:
        raise KitError(f"{given}: no home directory is known; allowed: a path without ~") from None
