"""Profiles: numbers that fill what the user of a configuration left open, as rules in `profiles.toml`."""

import tomllib
from functools import cache
from importlib import resources
from typing import Any

from sparcl_lite.config.sparse import Sparse
from sparcl_lite.data.specs import SPECS

PROFILES = ("smoke", "lite", "paper")
INNER = "sparse."  # how a rule names a field of `sparse`


@cache
def _rules() -> dict[str, list[dict]]:
    return tomllib.loads(resources.files("sparcl_lite").joinpath("profiles.toml").read_text())


def _lookup(values: dict[str, Any], dotted: str) -> Any:
    for part in dotted.split("."):
        values = values.get(part) if isinstance(values, dict) else getattr(values, part, None)
    return list(values) if isinstance(values, tuple) else values


def resolve(profile: str, given: dict[str, Any]) -> dict[str, Any]:
    """What was given, and the profile's values for the rest, those of the fields of `sparse` among them."""
    defaults: dict[str, Any] = {"method": "der++"}
    rules = _rules()
    for rule in rules[profile] + rules["every"]:
        known = defaults | given
        if all(_lookup(known, key) == value for key, value in rule.get("when", {}).items()):
            defaults |= rule["set"]
    inner = {name.removeprefix(INNER): defaults.pop(name) for name in list(defaults) if name.startswith(INNER)}
    filled = defaults | given
    if inner and isinstance(sparse := filled.get("sparse"), Sparse):
        filled["sparse"] = inner | sparse.model_dump(include=sparse.model_fields_set | {"kind"})
    return _split_of_classes(filled) | filled


def _split_of_classes(filled: dict[str, Any]) -> dict[str, int]:
    """The data set's usual tasks; with disjoint pre-training half of them (rounded down) are kept for that."""
    spec = SPECS.get(filled["dataset"]) if isinstance(filled["dataset"], str) else None
    if spec is None:
        return {"tasks": 1}
    if filled.get("pretraining") != "disjoint":
        return {"tasks": spec.tasks}
    size = len(spec.classes) // spec.tasks
    kept = filled.get("pretraining_classes", size * (spec.tasks // 2))
    rest = len(spec.classes) - kept if isinstance(kept, int) else size
    return {"pretraining_classes": kept, "tasks": max(1, rest // size)}
