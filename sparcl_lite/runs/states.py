"""Files of tensors and plain values, as checkpoints are."""

from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile, ZipFile

from sparcl_lite.late import torch


def write_state(state: dict[str, Any], file: BinaryIO) -> None:
    """Write a state; a full disk raises OSError, as it does elsewhere."""
    try:
        torch.save(state, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # that of a full disk, which torch hides
            raise error.__context__ from None
        raise


def read_state(file: Path | BinaryIO, device: str) -> dict[str, Any]:
    """A state with its tensors on `device`, whichever they were saved on. Raises errors of many types if damaged."""
    with ZipFile(file) as archive:  # torch.load does not compare the checksums
        if archive.testzip():
            raise BadZipFile
    if not isinstance(file, Path):
        file.seek(0)
    return torch.load(file, weights_only=True, map_location=device)
