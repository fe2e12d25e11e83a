"""What this kit's benchmarks have measured: the JSON files in `bench/` beside a store's runs."""

import json
from typing import Any

from sparcl_lite.runs.store import Store


def measurement(store: Store, name: str) -> dict[str, Any] | None:
    """What `bench/<name>.json` holds, from the first folder of runs that has it; None where nothing was measured."""
    for root in (*store.also_read, store.root):
        path = root / "bench" / f"{name}.json"
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
    return None


def made_by(found: dict[str, Any]) -> frozenset[tuple[str, str]]:
    """(time, commit) of a measurement, as claims carry it of their runs."""
    return frozenset({("", found.get("environment", {}).get("commit") or "unknown")})
