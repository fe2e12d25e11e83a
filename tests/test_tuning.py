"""The hyper-parameters of `lite` are the best of the committed validation table, and nothing else."""

from pathlib import Path

import pandas as pd
import pytest

from sparcl_lite import RunConfig

TABLE = pd.read_csv(Path(__file__).parent.parent / "results" / "tuning" / "lite.csv")
BEST = TABLE[TABLE["best"]].to_dict("records")


@pytest.mark.parametrize("row", BEST, ids=lambda row: f"{row['method']}-{row['buffer_size']}")
def test_lite_uses_the_best_of_its_grid(row):
    given = {"method": row["method"]}
    if row["buffer_size"] == row["buffer_size"]:
        given["buffer_size"] = int(row["buffer_size"])
    config = RunConfig(profile="lite", **given)
    for name in ("lr", "alpha", "beta", "penalty"):
        if row[name] == row[name]:
            assert getattr(config, name) == row[name], name


def test_every_method_and_buffer_has_one_best_candidate():
    counts = TABLE.groupby(["method", "buffer_size"], dropna=False)["best"].sum()
    assert (counts == 1).all()
    assert len(counts) == 18
