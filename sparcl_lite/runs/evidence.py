"""Evidence: the results of many runs in files `<experiment>/runs.jsonl` of a folder, one sorted line a run.

A line is `{"kind":"training","key":"0123...","result":{...}}`. To find a result no line is parsed but its own.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from sparcl_lite.errors import KitError
from sparcl_lite.paths import replacing

NAME = "runs.jsonl"
PACKED = "packed"  # the group of results that were packed in the store where they were made
HEAD = re.compile(rb'\{"kind":"([\w-]+)","key":"(\w+)","result":')
Address = tuple[str, str]  # kind and key
State = tuple[int, int, int]  # of a file: one that has taken its place has another


class Line(NamedTuple):
    """Where a result is: its JSON begins at byte `start` of the file in that `state`, and has `length` bytes."""

    path: Path
    number: int
    start: int
    length: int
    address: Address
    state: State

    def __str__(self) -> str:
        return f"{self.path}, line {self.number},"

    def read(self) -> bytes:
        """The result as JSON, wherever it is in the file now. Raises `KitError` when it cannot be read."""
        try:
            with open(self.path, "rb") as file:
                if _state(os.fstat(file.fileno())) == self.state:
                    file.seek(self.start)
                    return file.read(self.length)
        except OSError as error:
            raise KitError(f"{self.path} cannot be read ({error.strerror})") from None
        if again := _lines(self.path).get(self.address):  # another process has written the file anew
            return again.read()
        raise KitError(f"{self} is no longer there")


def find(folder: Path, address: Address) -> Line | None:
    """The line of a run in the evidence of a folder, or None."""
    return next((lines[address] for lines in map(_lines, _files(folder)) if address in lines), None)


def lines(folder: Path) -> dict[Address, Line]:
    """All lines of a folder's evidence."""
    return {address: line for path in reversed(_files(folder)) for address, line in _lines(path).items()}


def write(folder: Path, groups: Mapping[str, Mapping[Address, bytes]]) -> None:
    """Make the evidence of a folder that of `groups`, results as JSON by experiment; nothing else stays."""
    for name, results in groups.items():
        with replacing(folder / name / NAME) as file:
            for address, text in sorted(results.items()):
                file.write(entry(address, text))
    for path in _files(folder):
        if path.parent.name not in groups:
            path.unlink()


def entry(address: Address, text: bytes) -> bytes:
    """The line of a result, which is JSON on one line."""
    return b'{"kind":"%s","key":"%s","result":%s}\n' % (*(part.encode() for part in address), text)


def compact(text: bytes) -> bytes:
    """The same JSON on one line."""
    return json.dumps(json.loads(text), separators=(",", ":")).encode()


def _files(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:  # there may be very many results beside the folders
            places = [folder / entry.name / NAME for entry in entries if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(place for place in places if place.exists())


def _lines(path: Path) -> dict[Address, Line]:
    try:
        return _scanned(path, _state(path.stat()))
    except OSError as error:
        raise KitError(f"{path} cannot be read ({error.strerror})") from None


@lru_cache(maxsize=256)
def _scanned(path: Path, state: State) -> dict[Address, Line]:
    """Lines of a file in that state; a line of another state is looked for anew when it is read."""
    return dict(_scan(path))


def _state(known: os.stat_result) -> State:
    return known.st_mtime_ns, known.st_size, known.st_ino


def _scan(path: Path) -> Iterator[tuple[Address, Line]]:
    start = 0
    with open(path, "rb") as file:
        state = _state(os.fstat(file.fileno()))
        for number, text in enumerate(file, start=1):
            if head := HEAD.match(text):
                length = len(text.rstrip()) - head.end() - 1
                address = head[1].decode(), head[2].decode()
                yield address, Line(path, number, start + head.end(), length, address, state)
            start += len(text)
