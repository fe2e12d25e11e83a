"""From the bytes of a stored result to the result: checked, and told apart from what another version has written."""

import json
import warnings
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sparcl_lite.config.base import STORED
from sparcl_lite.errors import KitError
from sparcl_lite.registry import METHODS
from sparcl_lite.runs import evidence
from sparcl_lite.runs.job import Job

UNKNOWN = "extra_forbidden"  # pydantic's type of error for a field that a model does not have


class DamagedResult(KitError):
    """A stored result could not be read; where it has a file of its own, that has been set aside."""


def from_file(path: Path, kind: type[Job]) -> Any | None:
    """The result in a file, None where there is no file. Raises `DamagedResult`, or `KitError` if unreadable."""
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise KitError(f"{path} cannot be read ({error.strerror})") from None
    return _parse(text, str(path), kind, path.stem)


def of_line(line: evidence.Line | None, kind: type[Job], key: str) -> Any | None:
    """The result in a line of evidence, None where there is none. Raises as `from_file`."""
    return line and _parse(line.read(), str(line), kind, key)


def from_sound_line(root: Path, kind: type[Job], key: str) -> Any | None:
    """The result in the evidence of a folder, or None; a damaged one is a warning, and not used."""
    try:
        return of_line(evidence.find(root, (kind.kind, key)), kind, key)
    except KitError as error:
        warnings.warn(f"{error}; not used", stacklevel=4)
        return None


def _parse(text: bytes, where: str, kind: type[Job], key: str) -> Any:
    try:
        result, dropped = _validated(text, kind)
    except (ValidationError, RecursionError) as error:
        reason = error.errors(include_url=False)[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise DamagedResult(f"{where} is damaged ({' '.join(reason.split())})") from None
    if result.config.key == key:
        return result
    if unknown := [*dropped, *_unknown_fields(text, result)]:
        raise KitError(f"{where} is of another version of this package: {unknown[0]} is not known here; left as it is")
    raise DamagedResult(f"{where} is damaged (holds the run {result.config.key})")


def _validated(text: bytes, kind: type[Job]) -> tuple[Any, list[str]]:
    """A result and the fields that only another version of this package has, at whatever depth: they are left out."""
    try:
        return kind.result_type.model_validate_json(text, context={STORED: True}), []
    except ValidationError as error:
        problems = error.errors(include_url=False)
        if not all(problem["type"] == UNKNOWN for problem in problems):
            raise
    given = json.loads(text)
    for *parents, last in (problem["loc"] for problem in problems):
        place = given
        for parent in parents:
            place = place[parent]
        del place[last]
    result = kind.result_type.model_validate_json(json.dumps(given), context={STORED: True})
    return result, [".".join(map(str, problem["loc"])) for problem in problems]


def _unknown_fields(text: bytes, result: Any) -> list[str]:
    """Fields of a stored configuration that no configuration of this version has."""
    known = set(result.config.model_dump())
    for method in METHODS:  # older versions wrote the fields of all methods for every run
        known.update(METHODS[method].Parameters.model_fields)
    return [f"config.{name}" for name in json.loads(text)["config"] if name not in known]
