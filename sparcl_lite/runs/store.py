"""The run store: a directory of finished runs, addressed by content, safe for several processes.

One JSON file per result, checkpoints of unfinished runs beside them. Files appear by atomic rename; a damaged file
is reported and set aside, never used.
"""

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4
from zipfile import BadZipFile, ZipFile

import torch
from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from sparcl_lite.config import RunConfig
from sparcl_lite.config.base import STORED
from sparcl_lite.errors import KitError
from sparcl_lite.paths import folder
from sparcl_lite.runs.result import RunResult

RESERVE_BYTES = 64 * 2**20  # never fill a disk to the last byte


class DamagedResult(KitError):
    """A stored result could not be read; it has been set aside."""


class Store:
    """Results under `root`; `also_read` are further stores, looked into first but never added to.

    Committed evidence goes there: it wins over a run of the same configuration on this machine. `holds` is the model
    of a result; its `config` has a `key`. Results of another model in the same folder count as damaged.
    """

    def __init__(self, root: Path | str, *also_read: Path | str, holds: type[BaseModel] = RunResult):
        self.root, self.holds = folder(root), holds
        self.also_read = [folder(path) for path in also_read]

    def __repr__(self) -> str:
        return f"Store({', '.join(str(p) for p in (self.root, *self.also_read))})"

    def beside(self, name: str, holds: type[BaseModel]) -> "Store":
        """The store of results of another kind that belongs to this one: that folder in each of its places."""
        return Store(self.root / name, *(path / name for path in self.also_read), holds=holds)

    def get(self, config: RunConfig) -> RunResult | None:
        """The finished run of this configuration, or None. Raises `DamagedResult`; one in `also_read` is a warning."""
        return self.committed(config) or self._read(self.root / f"{config.key}.json")

    def committed(self, config: RunConfig) -> RunResult | None:
        """As `get`, from the stores in `also_read` only."""
        for root in self.also_read:
            try:
                if found := _parse(root / f"{config.key}.json", self.holds):
                    return found
            except KitError as error:  # not ours to set aside
                warnings.warn(f"{error}; not used", stacklevel=3)
        return None

    def put(self, result: RunResult) -> Path:
        """Keep a finished run and drop its checkpoint. Raises `KitError` when it cannot be written."""
        path = self.root / f"{result.config.key}.json"
        with _replacing(path) as file:
            file.write((result.model_dump_json(indent=1) + "\n").encode())
        self.checkpoint_path(result.config).unlink(missing_ok=True)
        return path

    def results(self) -> Iterator[RunResult]:
        """All finished runs of `root`; damaged or unreadable ones are reported by a warning and skipped."""
        for path in sorted(self.root.glob("*.json")):
            try:
                result = self._read(path)
            except KitError as error:
                warnings.warn(str(error), stacklevel=2)
                continue
            if result:
                yield result

    def _read(self, path: Path) -> RunResult | None:
        try:
            return _parse(path, self.holds)
        except DamagedResult as error:
            raise DamagedResult(f"{error}; {self._set_aside(path)}; run again to redo it") from None

    def _set_aside(self, path: Path) -> str:
        target = self.root / "damaged" / path.name
        try:
            target.parent.mkdir(exist_ok=True)
            os.replace(path, target)
        except OSError as error:
            return f"it could not be moved to {target} ({error.strerror})"
        return f"set aside as {target}"

    # -- unfinished runs

    def checkpoint_path(self, config: RunConfig) -> Path:
        """Where the checkpoint of an unfinished run is."""
        return self.root / "checkpoints" / f"{config.key}.pt"

    def save_checkpoint(self, config: RunConfig, state: dict) -> None:
        """Replace the run's checkpoint. Raises `KitError` when it cannot be written."""
        with _replacing(self.checkpoint_path(config)) as file:
            try:
                torch.save(state, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):  # that of a full disk, which torch hides
                    raise error.__context__ from None
                raise

    def load_checkpoint(self, config: RunConfig, device: str = "cpu") -> dict | None:
        """The run's last checkpoint with its tensors on `device`, whichever they were saved on, or None.

        A damaged one is reported, set aside and not used.
        """
        path = self.checkpoint_path(config)
        if not path.exists():
            return None
        try:
            with ZipFile(path) as archive:  # torch.load does not compare the checksums
                if archive.testzip():
                    raise BadZipFile
            return torch.load(path, weights_only=True, map_location=device)
        except Exception as error:  # torch raises many types for a broken archive
            self.reject_checkpoint(config, error)
            return None

    def reject_checkpoint(self, config: RunConfig, error: Exception) -> None:
        """Set the run's checkpoint aside, with a warning, because it cannot be used."""
        path = self.checkpoint_path(config)
        message = f"{path} is damaged ({type(error).__name__}); {self._set_aside(path)}; the run starts over"
        warnings.warn(message, stacklevel=3)

    @contextmanager
    def lock(self, config: RunConfig) -> Iterator[None]:
        """One process at a time works on a run; a second waits for the first."""
        path = self._lock_path(config.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path):
            yield

    def _lock_path(self, key: str) -> Path:
        return self.root / "locks" / f"{key}.lock"

    # -- care

    def check_usable(self, needed_bytes: int) -> None:
        """Raise `KitError` when the store cannot be written to or its disk cannot hold `needed_bytes` more."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                free = shutil.disk_usage(self.root).free
        except OSError as error:
            raise KitError(f"store = {self.root}: cannot be written to ({error.strerror})") from None
        if free < needed_bytes + RESERVE_BYTES:
            raise KitError(
                f"store = {self.root}: {free / 2**20:.0f} MiB free, but the run needs "
                f"{(needed_bytes + RESERVE_BYTES) / 2**20:.0f} MiB"
            )

    def verify(self) -> list[str]:
        """One line per result of `root` that is damaged (it is set aside) or cannot be read."""
        problems = []
        for path in sorted(self.root.glob("*.json")):
            try:
                self._read(path)
            except KitError as error:
                problems.append(str(error))
        return problems

    def prune(self) -> int:
        """Delete checkpoints, locks, files set aside and what killed writes left; returns the bytes freed.

        Results and everything of a run that some process is working on stay.
        """
        freed = 0
        for pattern in (".*.tmp", "damaged/*", "checkpoints/*", "locks/*"):  # locks last: the others make some
            for path in self.root.glob(pattern):
                key = path.name.removeprefix(".").partition(".")[0]
                self._lock_path(key).parent.mkdir(exist_ok=True)
                with suppress(Timeout), FileLock(self._lock_path(key), timeout=0):
                    freed += path.stat().st_size
                    path.unlink()
        return freed


def _parse(path: Path, model: type[BaseModel]) -> Any | None:
    """The result in a file, None where there is no file. Raises `DamagedResult`, or `KitError` if unreadable."""
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise KitError(f"{path} cannot be read ({error.strerror})") from None
    try:
        result = model.model_validate_json(text, context={STORED: True})
    except ValidationError as error:
        reason = " ".join(error.errors(include_url=False)[0]["msg"].split())
    else:
        if result.config.key == path.stem:
            return result
        reason = f"holds the run {result.config.key}"
    raise DamagedResult(f"{path} is damaged ({reason})")


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
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
