"""The hyper-parameters of `lite` are the best of the committed validation table, and nothing else."""

from pathlib import Path

import pandas as pd
import pytest

from sparcl_lite import RunConfig
from sparcl_lite.papers.lightcl.tables import protocol

FOLDER = Path(__file__).parent.parent / "results" / "tuning"
STREAMS = {"lite": {"profile": "lite"}, "lightcl": protocol(profile="lite")}
TABLES = {stream: pd.read_csv(FOLDER / f"{stream}.csv") for stream in STREAMS}
BEST = [(stream, row) for stream, table in TABLES.items() for row in table[table["best"]].to_dict("records")]


@pytest.mark.parametrize(("stream", "row"), BEST, ids=lambda part: part if isinstance(part, str) else part["method"])
def test_lite_uses_the_best_of_its_grid(stream, row):
    given = STREAMS[stream] | {"method": row["method"]}
    if row["buffer_size"] == row["buffer_size"]:
        given["buffer_size"] = int(row["buffer_size"])
    config = RunConfig(**given)
    for name in {"lr", "alpha", "beta", "penalty"} & set(row):
        if row[name] == row[name]:
            assert getattr(config, name) == row[name], name


@pytest.mark.parametrize(("stream", "count"), [("lite", 18), ("lightcl", 7)])
def test_every_method_and_buffer_has_one_best_candidate(stream, count):
    counts = TABLES[stream].groupby(["method", "buffer_size"], dropna=False)["best"].sum()
    assert (counts == 1).all()
    assert len(counts) == count
