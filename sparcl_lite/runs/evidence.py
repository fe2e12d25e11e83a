"""Evidence: the results of many runs in files `<experiment>/runs.jsonl` of a folder, one sorted line a run.

A line is `{"kind":"training","key":"0123...","result":{...}}`. To find a result no line is parsed but its own.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from sparcl_lite.errors import KitError
from sparcl_lite.paths import replacing

NAME = "runs.jsonl"
HEAD = re.compile(rb'\{"kind":"([\w-]+)","key":"(\w+)","result":')
Address = tuple[str, str]  # kind and key


class Line(NamedTuple):
    """Where a result is: its JSON begins at byte `start` of the file and has `length` bytes."""

    path: Path
    number: int
    start: int
    length: int

    def __str__(self) -> str:
        return f"{self.path}, line {self.number},"

    def read(self) -> bytes:
        """The result as JSON. Raises `KitError` when it cannot be read."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self.start)
                return file.read(self.length)
        except OSError as error:
            raise KitError(f"{self.path} cannot be read ({error.strerror})") from None


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
            for (kind, key), text in sorted(results.items()):
                file.write(b'{"kind":"%s","key":"%s","result":%s}\n' % (kind.encode(), key.encode(), text))
    for path in _files(folder):
        if path.parent.name not in groups:
            path.unlink()


def compact(text: bytes) -> bytes:
    """The same JSON on one line."""
    return json.dumps(json.loads(text), separators=(",", ":")).encode()


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*/{NAME}"))


def _lines(path: Path) -> dict[Address, Line]:
    try:
        known = path.stat()
        return _scanned(path, known.st_mtime_ns, known.st_size)
    except OSError as error:
        raise KitError(f"{path} cannot be read ({error.strerror})") from None


@lru_cache(maxsize=256)
def _scanned(path: Path, changed: int, size: int) -> dict[Address, Line]:
    """Lines of a file in the state in which it had that size and was changed at that time."""
    return dict(_scan(path))


def _scan(path: Path) -> Iterator[tuple[Address, Line]]:
    start = 0
    with open(path, "rb") as file:
        for number, text in enumerate(file, start=1):
            if head := HEAD.match(text):
                length = len(text.rstrip()) - head.end() - 1
                yield (head[1].decode(), head[2].decode()), Line(path, number, start + head.end(), length)
            start += len(text)
