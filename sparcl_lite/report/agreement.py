"""Whether this machine's runs agree with the committed ones: the same bits, within the spread of the seeds, or outside.

A cell is a row of a table at one seed; docs/metrics.md says what each outcome means.
"""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from sparcl_lite.papers.registry import ALL_SEEDS, planned, row_of
from sparcl_lite.report.tables import Table
from sparcl_lite.runs.evidence import Address
from sparcl_lite.runs.job import Job, kinds
from sparcl_lite.runs.store import Store

SAME, WITHIN, OUTSIDE = "same bits", "within the spread", "outside"
INCOMPARABLE, UNKNOWN = "not comparable", "not committed"
LEVEL = 0.99  # of the prediction interval: hundreds of values are compared at once
FEWEST = 3  # committed seeds that give a spread
ROUNDING = 1e-9  # relative; of a mean of equal values


@dataclass(frozen=True)
class Cell:
    """One run of this machine beside the committed seeds of its row.

    `values` holds for each metric `here`, `committed` (the same seed's), and `low` and `high` of the prediction
    interval of the row's `seeds` committed seeds; None where there is none.
    """

    name: str
    seed: int
    key: str
    seeds: int
    outcome: str
    values: dict[str, dict[str, float | None]] = field(default_factory=dict)


def compare(store: Store, *, profile: str, dataset: str = "") -> list[Cell]:
    """Every run of a profile in `store.root` beside the runs that the store also reads, the committed ones."""
    rows = planned(profile, dataset)
    return [
        _cell(store, kind, result, rows)
        for kind in kinds()
        if kind.bits
        for result in store.results(kind.kind)
        if result.config.profile == profile
    ]


def prediction_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    """Where one more value of the same kind lies, `mean +- t(level, n-1) * s * sqrt(1 + 1/n)`; `values` is (n,), n > 1.

    >>> prediction_interval([1.0, 2.0, 3.0], level=0.95)  # doctest: +ELLIPSIS
    (-2.968..., 6.968...)
    """
    n, mean, spread = len(values), float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * spread * math.sqrt(1 + 1 / n) + ROUNDING * abs(mean)
    return mean - half, mean + half


def _cell(store: Store, kind: type[Job], result: Any, rows: dict[Address, tuple[str, str]]) -> Cell:
    config, metrics = result.config, kind.headline
    seeds = {seed: store.committed(config.model_copy(update={"seed": seed})) for seed in range(ALL_SEEDS)}
    known = {seed: found for seed, found in seeds.items() if found}
    same_seed = known.get(config.seed)
    values = {
        name: _beside(here, metrics(same_seed)[name] if same_seed else None, [metrics(r)[name] for r in known.values()])
        for name, here in metrics(result).items()
        if here is not None
    }
    if same_seed and _bits(kind, result) == _bits(kind, same_seed):
        outcome = SAME
    elif len(known) < FEWEST:
        outcome = INCOMPARABLE if known else UNKNOWN
    else:
        outcome = WITHIN if all(v["low"] <= v["here"] <= v["high"] for v in values.values()) else OUTSIDE
    row = row_of(config, rows)
    name = "/".join(row) if row else f"{config.method}, {config.dataset}, {config.key}"
    return Cell(name, config.seed, config.key, len(known), outcome, values)


def _bits(kind: type[Job], result: Any) -> str:
    return result.model_dump_json(include=set(kind.bits))


def _beside(here: float, committed: float | None, seeds: list[float]) -> dict[str, float | None]:
    low, high = prediction_interval(seeds) if len(seeds) >= FEWEST else (None, None)
    return {"here": here, "committed": committed, "low": low, "high": high}


def summary(cells: list[Cell]) -> str:
    """`27 of 28 cells as committed (24 same bits, 3 within the spread), 1 outside: ...`, and what was not compared."""
    count = Counter(cell.outcome for cell in cells)
    good, outside = count[SAME] + count[WITHIN], [f"{c.name} seed {c.seed}" for c in cells if c.outcome == OUTSIDE]
    text = f"{good} of {good + len(outside)} cells as committed ({count[SAME]} {SAME}, {count[WITHIN]} {WITHIN})"
    text += f", {len(outside)} outside" + (f": {', '.join(outside)}" if outside else "")
    if count[INCOMPARABLE]:
        text += f"; {count[INCOMPARABLE]} not comparable: fewer than {FEWEST} committed seeds"
    if count[UNKNOWN]:
        text += f"; {count[UNKNOWN]} without a committed run"
    return text


def table(cells: list[Cell]) -> Table:
    """The values of all cells that have not the same bits, with the committed value and spread."""
    lines = [
        {
            "cell": cell.name,
            "seed": cell.seed,
            "metric": name,
            "here": _text(value["here"]),
            "committed": _text(value["committed"]),
            "committed seeds' spread": " to ".join(_text(value[end]) for end in ("low", "high")),
            "seeds": cell.seeds,
            "agreement": cell.outcome,
        }
        for cell in cells
        if cell.outcome != SAME
        for name, value in cell.values.items()
    ]  # fmt: skip
    caption = f"Cells with other bits than the committed run; spread: {LEVEL:.0%} prediction interval of one more seed."
    return Table(pd.DataFrame(lines), caption)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if abs(value) < 1e5 else f"{value:.4g}"


def write(cells: list[Cell], path: Path) -> None:
    """All cells as JSON."""
    content = {"summary": summary(cells), "level": LEVEL, "cells": [asdict(cell) for cell in cells]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
