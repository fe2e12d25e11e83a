"""The run store: a directory of finished runs, addressed by content, safe for several processes.

One JSON file per result, in a folder for each kind of job, checkpoints of unfinished runs beside them. Files appear by
atomic rename; a damaged file is reported and set aside, never used. A store may also hold lines of `evidence`.
"""

import os
import shutil
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from filelock import FileLock, Timeout
from pydantic import BaseModel

from sparcl_lite.errors import KitError
from sparcl_lite.locking import locked
from sparcl_lite.paths import delete_unfinished, folder, replacing
from sparcl_lite.runs import evidence, listing
from sparcl_lite.runs.job import Job, kind_of, kinds
from sparcl_lite.runs.ownership import held, lock_path, owner
from sparcl_lite.runs.packing import pack
from sparcl_lite.runs.reading import DamagedResult, from_file, from_sound_line, of_line
from sparcl_lite.runs.states import read_state, write_state

RESERVE_BYTES = 64 * 2**20  # never fill a disk to the last byte


class Store:
    """Results under `root`; `also_read` are further stores, looked into first but never added to.

    Committed evidence goes there: it wins over a run of the same configuration on this machine. Configurations are
    those of any kind of job; each has a `key`.
    """

    def __init__(self, root: Path | str, *also_read: Path | str):
        self.root = folder(root)
        self.also_read = [folder(path) for path in also_read]

    def __repr__(self) -> str:
        return f"Store({', '.join(str(p) for p in (self.root, *self.also_read))})"

    def get(self, config: BaseModel) -> Any | None:
        """The finished run of this configuration, or None. Raises `DamagedResult`; one in `also_read` is a warning."""
        kind = kind_of(config)
        found = self.committed(config) or self._from_file(kind, config.key)
        return found or from_sound_line(self.root, kind, config.key)

    def find(self, config: BaseModel) -> Any | None:
        """As `get`; a damaged result is a warning, too."""
        try:
            return self.get(config)
        except DamagedResult as error:
            warnings.warn(str(error), stacklevel=2)
            return None

    def committed(self, config: BaseModel) -> Any | None:
        """As `get`, from the stores in `also_read` only."""
        kind = kind_of(config)
        for root in self.also_read:
            try:
                found = from_file(root / kind.folder / f"{config.key}.json", kind)
            except KitError as error:  # not ours to set aside
                warnings.warn(f"{error}; not used", stacklevel=3)
                found = None
            if found := found or from_sound_line(root, kind, config.key):
                return found
        return None

    def beginning(self, key: str) -> Iterator[Any]:
        """Finished runs whose key begins so, those of `also_read` first; a damaged one raises `KitError`."""
        for root in (*self.also_read, self.root):
            lines = evidence.lines(root)
            for kind in Store(root).kinds():
                for each in (known for known in Store(root)._keys(kind, lines) if known.startswith(key)):
                    path = root / kind.folder / f"{each}.json"
                    if found := from_file(path, kind) or of_line(lines.get((kind.kind, each)), kind, each):
                        yield found

    def put(self, result: BaseModel) -> Path:
        """Keep a finished run and drop its checkpoint. Raises `KitError` when it cannot be written."""
        path = self.path(result.config)
        with replacing(path) as file:
            file.write((result.model_dump_json(indent=1) + "\n").encode())
            file.flush()
            state = listing.state_of(os.fstat(file.fileno()))
        place = listing.place_of(kind_of(result.config), result.config.key)
        listing.remember(self.root, [(place, state, listing.text_of(result))])
        self.checkpoint_path(result.config).unlink(missing_ok=True)
        return path

    def path(self, config: BaseModel) -> Path:
        """The file of a finished run of this store."""
        return self._home(config) / f"{config.key}.json"

    def results(self, kind: str | None = None) -> Iterator[Any]:
        """All finished runs of `root`, or those of a kind; a damaged or unreadable one is a warning, and skipped."""
        for found in self._everything(kind):
            if isinstance(found, KitError):
                warnings.warn(str(found), stacklevel=2)
            else:
                yield found

    def export(self, to: Path, group_of: Callable[[Any], str]) -> dict[str, int]:
        """Write every finished run of `root` as a line of the evidence in `to`; returns the lines of each group.

        `group_of` names the file that the run of a configuration belongs to. Lines of other runs stay where they are.
        """
        with locked(to / ".lock"):  # what another process writes meanwhile would be lost
            return self._export(to, group_of)

    def _export(self, to: Path, group_of: Callable[[Any], str]) -> dict[str, int]:
        groups: dict[str, dict[evidence.Address, bytes]] = defaultdict(dict)
        for address, line in evidence.lines(to).items():
            groups[line.path.parent.name][address] = line.read()
        for result in self.results():
            address = kind_of(result.config).kind, result.config.key
            try:
                text = self.path(result.config).read_bytes()
            except FileNotFoundError:
                text = evidence.find(self.root, address).read()
            for known in groups.values():
                known.pop(address, None)
            groups[group_of(result.config)][address] = evidence.compact(text)
        groups = {name: known for name, known in sorted(groups.items()) if known}
        evidence.write(to, groups)
        return {name: len(known) for name, known in groups.items()}

    def _everything(self, kind: str | None = None) -> Iterator[Any]:
        """Every result of `root` (of a kind), or the error that stands in its place."""
        lines = evidence.lines(self.root)
        for each in self.kinds():
            for key in self._keys(each, lines) if kind in (None, each.kind) else []:
                try:
                    found = self.of_kind(each, key, lines)
                except KitError as error:
                    found = error
                if found:
                    yield found

    def of_kind(
        self, kind: type[Job], key: str, lines: Mapping[evidence.Address, evidence.Line] = MappingProxyType({})
    ):
        """The result of `root` under a key, or None; `lines` are known ones. Raises `KitError` as `get`."""
        address = kind.kind, key  # another process may have packed it since `lines` were read
        return self._from_file(kind, key) or of_line(lines.get(address) or evidence.find(self.root, address), kind, key)

    def _from_file(self, kind: type[Job], key: str) -> Any | None:
        path = self.root / kind.folder / f"{key}.json"
        try:
            return from_file(path, kind)
        except DamagedResult as error:
            raise DamagedResult(f"{error}; {self._set_aside(path)}; run again to redo it") from None

    def _keys(self, kind: type[Job], lines: Iterable[evidence.Address]) -> list[str]:
        files = {path.stem for path in (self.root / kind.folder).glob("*.json")}
        return sorted(files | {key for name, key in lines if name == kind.kind})

    def kinds(self) -> list[type[Job]]:
        """Every kind of job. Raises `KitError` where `root` is a folder of one: all in it would count as damaged."""
        known = kinds()
        if self.root.name in {kind.folder for kind in known}:
            raise KitError(
                f"store = {self.root}: belongs to a store of runs; allowed: the folder it is in, {self.root.parent}"
            )
        return known

    def _home(self, config: BaseModel) -> Path:
        return self.root / kind_of(config).folder

    def _set_aside(self, path: Path) -> str:
        home = path.parent.parent if path.parent.name == "checkpoints" else path.parent
        target = home / "damaged" / path.name
        try:
            target.parent.mkdir(exist_ok=True)
            os.replace(path, target)
        except OSError as error:
            return f"it could not be moved to {target} ({error.strerror})"
        return f"set aside as {target}"

    # -- unfinished runs

    def checkpoint_path(self, config: BaseModel) -> Path:
        """Where the checkpoint of an unfinished run is."""
        return self._home(config) / "checkpoints" / f"{config.key}.pt"

    def save_checkpoint(self, config: BaseModel, state: dict) -> None:
        """Replace the run's checkpoint. Raises `KitError` when it cannot be written."""
        with replacing(self.checkpoint_path(config)) as file:
            write_state(state, file)

    def load_checkpoint(self, config: BaseModel, device: str = "cpu") -> dict | None:
        """The run's last checkpoint with its tensors on `device`, whichever they were saved on, or None.

        A damaged one is reported, set aside and not used.
        """
        path = self.checkpoint_path(config)
        if not path.exists():
            return None
        try:
            return read_state(path, device)
        except Exception as error:  # torch raises many types for a broken archive
            self.reject_checkpoint(config, error)
            return None

    def reject_checkpoint(self, config: BaseModel, error: Exception) -> None:
        """Set the run's checkpoint aside, with a warning, because it cannot be used."""
        path = self.checkpoint_path(config)
        message = f"{path} is damaged ({type(error).__name__}); {self._set_aside(path)}; the run starts over"
        warnings.warn(message, stacklevel=3)

    @contextmanager
    def lock(self, config: BaseModel, waiting: Callable[[str], None] = lambda who: None) -> Iterator[None]:
        """One process at a time works on a run; a second waits, and `waiting` is told who works on it since when.

        What killed writers of the run left goes first, and with a result in the store the lock goes last.
        """
        home, key = self._home(config), config.key
        path = lock_path(home, key)
        with held(path, waiting) as alone:
            for place in (home, home / "checkpoints") if alone else ():
                delete_unfinished(place, key)
            yield
            if self.path(config).exists():  # which a process that waits finds, whoever else may come
                path.unlink(missing_ok=True)

    def owner(self, config: BaseModel) -> str | None:
        """The process that works on a run now, and since when."""
        return owner(lock_path(self._home(config), config.key))

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

    def pack(self) -> int:
        """Move the results that have files of their own into one file of evidence; returns how many."""
        return pack(self.root, self.kinds())

    def verify(self) -> list[str]:
        """One line per result of `root` that is damaged (a file is set aside) or cannot be read."""
        return [str(found) for found in self._everything() if isinstance(found, KitError)]

    def prune(self) -> int:
        """Delete checkpoints, locks, files set aside and what killed writes left; returns the bytes freed.

        Results and everything of a run that some process is working on stay.
        """
        freed = 0
        for home in (self.root / kind.folder for kind in self.kinds()):
            for pattern in (".*.tmp", "damaged/*", "checkpoints/*", "locks/*"):  # locks last: the others make some
                for path in home.glob(pattern):
                    lock = lock_path(home, path.name.removeprefix(".").partition(".")[0])
                    lock.parent.mkdir(exist_ok=True)
                    with suppress(Timeout), FileLock(lock, timeout=0):
                        freed += path.stat().st_size
                        path.unlink()
        return freed
