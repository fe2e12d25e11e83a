"""Packing a store: results with files of their own become lines of `packed/runs.jsonl`, so that files do not add up."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from sparcl_lite.errors import KitError
from sparcl_lite.locking import locked
from sparcl_lite.paths import delete_unfinished, replacing
from sparcl_lite.runs import evidence, listing
from sparcl_lite.runs.job import Job
from sparcl_lite.runs.reading import from_file


def pack(root: Path, kinds: Iterable[type[Job]]) -> int:
    """Move every sound result of a store into its packed file; returns how many. Damaged ones stay where they are.

    The file appears whole before any result's own file goes, so that a process which is killed leaves both, of which
    the own one counts. One process packs at a time; raises `KitError` where that cannot be made sure.
    """
    with locked(root / "locks" / "pack.lock") as alone:
        if not alone:  # of two that pack at once one would undo what the other has done
            raise KitError(f"store = {root}: cannot be packed on a file system without locks; pack it on another one")
        moved, said = {}, []
        delete_unfinished(root / evidence.PACKED, evidence.NAME)
        place = root / evidence.PACKED / evidence.NAME
        packed = {address: line for address, line in evidence.lines(root).items() if line.path == place}
        with replacing(place) as file:
            for kind in kinds:
                for path, state, result in _sound(root, kind):
                    text = evidence.compact(result.model_dump_json().encode())
                    file.write(evidence.entry((kind.kind, path.stem), text))
                    packed.pop((kind.kind, path.stem), None)
                    moved[path] = state
                    said.append((listing.place_of(kind, path.stem), f"line-{len(text)}", listing.text_of(result)))
            for address, line in packed.items():
                file.write(evidence.entry(address, line.read()))
        listing.remember(root, said)
        for path, state in moved.items():
            with suppress(FileNotFoundError):
                if os.path.samestat(path.stat(), state):  # else it was written anew meanwhile
                    checkpoint = path.parent / "checkpoints" / f"{path.stem}.pt"
                    checkpoint.unlink(missing_ok=True)  # of a process that was killed before it could
                    path.unlink()
    return len(moved)


def _sound(root: Path, kind: type[Job]) -> Iterator[tuple[Path, os.stat_result, Any]]:
    for path in (root / kind.folder).glob("*.json"):
        with suppress(KitError, FileNotFoundError):
            state = path.stat()
            if (result := from_file(path, kind)) is not None:
                yield path, state, result
