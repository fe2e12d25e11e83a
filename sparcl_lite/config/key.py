"""The key of a run: a hash of everything that decides its numbers, the same in every version of this package."""

import hashlib
import json
from typing import Any

from sparcl_lite.config.profiles import resolve
from sparcl_lite.registry import METHODS, STRATEGIES

SCHEMA_VERSION = 2  # raise it when the same configuration, or a default, would give other numbers
#: Fields of some methods that version 2 hashes for every run, at what the profile has for them, and their defaults.
FLAT = {"alpha": None, "beta": None, "merge_batches": True}


def key_of(config: Any) -> str:
    """20 hexadecimal digits for a `RunConfig`.

    A built-in method or strategy whose numbers have changed has a version of its own (`schema` where it registers).
    """
    parts = [(METHODS, config.method), (STRATEGIES, config.sparse and config.sparse.kind)]
    known = [registry.entry(name).facts for registry, name in parts if name in registry]
    version = max(facts.get("schema", SCHEMA_VERSION) for facts in known) if known else SCHEMA_VERSION
    text = json.dumps([version, canonical(config)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def canonical(config: Any) -> dict[str, Any]:
    """What decides the numbers of a run, as plain JSON values.

    Fields at their default are left out, so that a field added later leaves the keys of old results alone; not those
    of registered code, whose defaults may be unknown where a result is read.
    """
    own = config.own
    values = config.model_dump(mode="json", exclude={"profile", *own}, exclude_defaults=True)
    if config.sparse:
        fixed = "sparse" not in config.registered
        values["sparse"] = config.sparse.model_dump(mode="json", exclude_defaults=fixed) | {"kind": config.sparse.kind}
    if "method" in config.registered:
        return values | config.model_dump(mode="json", include=set(own))
    parameters = METHODS[config.method].Parameters.model_construct(**own)
    return values | parameters.model_dump(mode="json", exclude_defaults=True, exclude=set(FLAT)) | _flat(config)


def _flat(config: Any) -> dict[str, Any]:
    """The fields of `FLAT`: the run's own, else as the profile has them."""
    given = {name: getattr(config, name) for name in type(config).model_fields} | config.own
    filled = resolve(config.profile, {name: value for name, value in given.items() if name not in FLAT}) | config.own
    return {name: filled[name] for name, default in FLAT.items() if filled.get(name, default) != default}
