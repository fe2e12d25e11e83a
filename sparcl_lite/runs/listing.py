"""Listing a store without reading every result again: `listing.cache` remembers what is said of each.

A line of it is the place of a result, the state of its file, the text and a full stop, between tabs; the last line of a
place counts. Processes append to it. It is no result: what it lacks, or has of another state, is read and appended.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparcl_lite.errors import KitError
from sparcl_lite.paths import replacing
from sparcl_lite.runs import evidence
from sparcl_lite.runs.job import Job, headline, job_of

if TYPE_CHECKING:
    from sparcl_lite.runs.store import Store

NAME, END = "listing.cache", "."
SPARE = 1000  # superseded lines that may stay
Line = tuple[str, str, str]  # place, state and text


def listed(store: Store) -> Iterator[str]:
    """One line per finished run of a store: its key and what came out; of a damaged one a warning."""
    known, length = _remembered(store.root)
    found, new = [], []
    for kind, key, place, state in _places(store):
        line = known.get(place)
        if line is None or line[1] != state:
            if (result := _result(store, kind, key)) is None:
                continue
            line = (place, state, text_of(result))
            new.append(line)
        found.append(line)
        yield f"{key}  {line[2]}"
    if length + len(new) > 2 * len(found) + SPARE:
        with suppress(KitError), replacing(store.root / NAME) as file:
            file.write("".join(map(_written, found)).encode())
    else:
        remember(store.root, [line for line in new if line[1]])


def text_of(result: Any) -> str:
    """What is said of a result, on one line."""
    return " ".join(headline(job_of(result.config), result).split())


def remember(root: Path, lines: Iterable[Line]) -> None:
    """Append lines; where that fails the next listing takes longer, no more."""
    if text := "".join(map(_written, lines)):
        with suppress(OSError), open(root / NAME, "ab", buffering=0) as file:
            file.write(text.encode())


def place_of(kind: type[Job], key: str) -> str:
    """The name of a result in the listing."""
    return f"{kind.kind}/{key}"


def state_of(known: os.stat_result) -> str:
    """The state of a result's own file; one that takes its place has another."""
    return f"{known.st_mtime_ns}-{known.st_size}-{known.st_ino}"


def _written(line: Line) -> str:
    return "\n" + "\t".join((*line, END)) + "\n"  # a line may follow one that a killed process has begun


def _remembered(root: Path) -> tuple[dict[str, Line], int]:
    """The last line of each place, and the number of all."""
    try:
        text = (root / NAME).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}, 0
    lines = [line.split("\t") for line in text.split("\n") if line.endswith(f"\t{END}")]
    return {parts[0]: tuple(parts[:3]) for parts in lines if len(parts) == 4}, len(lines)


def _places(store: Store) -> Iterator[tuple[type[Job], str, str, str]]:
    """Kind, key, place and state of every result of a store, by kind and key; its own file comes before a line."""
    lines = evidence.lines(store.root)
    for kind in store.kinds():
        states = {key: _state_of_line(line) for (name, key), line in lines.items() if name == kind.kind}
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(store.root / kind.folder) as entries:
            for entry in entries:
                if (name := entry.name).endswith(".json"):
                    try:
                        states[name[:-5]] = state_of(entry.stat())
                    except FileNotFoundError:  # packed meanwhile
                        continue
        for key, state in sorted(states.items()):
            yield kind, key, place_of(kind, key), state


def _state_of_line(line: evidence.Line) -> str:
    """Of packed lines their length; others are not remembered: committed folders are left alone."""
    return f"line-{line.length}" if line.path.parent.name == evidence.PACKED else ""


def _result(store: Store, kind: type[Job], key: str) -> Any | None:
    try:
        return store.of_kind(kind, key)
    except KitError as error:
        warnings.warn(str(error), stacklevel=2)
        return None
