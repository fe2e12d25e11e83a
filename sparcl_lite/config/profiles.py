"""Profiles: numbers that fill what the user of a configuration left open, as rules in `profiles.toml`."""

import tomllib
from functools import cache
from importlib import resources
from typing import Any

from sparcl_lite.config.base import Sparse
from sparcl_lite.registry import DATASETS

PROFILES = ("smoke", "lite", "desk", "paper")
INNER = "sparse."  # how a rule names a field of `sparse`


@cache
def _rules() -> dict[str, list[tuple[dict, dict]]]:
    return tomllib.loads(resources.files("sparcl_lite").joinpath("profiles.toml").read_text())


def _lookup(values: dict[str, Any], dotted: str) -> Any:
    first, *rest = dotted.split(".") if "." in dotted else (dotted,)  # it is asked for very often
    found = values.get(first)
    for part in rest:
        found = found.get(part) if isinstance(found, dict) else getattr(found, part, None)
    return list(found) if isinstance(found, tuple) else found


def resolve(profile: str, given: dict[str, Any]) -> dict[str, Any]:
    """What was given, and the profile's values for the rest, those of the fields of `sparse` among them.

    Of a registered data set all images are used.
    """
    defaults: dict[str, Any] = {}
    known = dict(given)
    for when, values in _rules()[profile] + _rules()["every"]:
        if all(_lookup(known, key) == value for key, value in when.items()):
            defaults |= values
            known = defaults | given
    inner = {name.removeprefix(INNER): defaults.pop(name) for name in list(defaults) if name.startswith(INNER)}
    filled = defaults | given
    if inner and isinstance(sparse := filled.get("sparse"), Sparse):
        filled["sparse"] = inner | sparse.model_dump(include=sparse.model_fields_set | {"kind"})
    if filled["dataset"] not in DATASETS:
        return {"tasks": 1} | filled
    entry = DATASETS.entry(filled["dataset"])
    if entry.identity:
        filled = filled | {"images_per_class": given.get("images_per_class", 0)}
    return _split_of_classes(entry.value, filled) | filled


def _split_of_classes(spec: Any, filled: dict[str, Any]) -> dict[str, int]:
    """The data set's usual tasks; with disjoint pre-training half of them (rounded down) are kept for that."""
    if filled.get("pretraining") != "disjoint":
        return {"tasks": spec.tasks}
    size = len(spec.classes) // spec.tasks
    kept = filled.get("pretraining_classes", size * (spec.tasks // 2))
    rest = len(spec.classes) - kept if isinstance(kept, int) else size
    return {"pretraining_classes": kept, "tasks": max(1, rest // size)}
