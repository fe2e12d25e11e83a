"""The sizes of the K-sparse experiments by profile, and the etas that were chosen for them without labels."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

import pandas as pd

from sparcl_lite.clustering.config import SIMULATED
from sparcl_lite.errors import KitError


@cache
def profile_named(name: str) -> dict[str, Any]:
    """The sizes of a profile. Raises `KitError` on an unknown one."""
    known = tomllib.loads(files(__package__).joinpath("profiles.toml").read_text())
    if name not in known:
        raise KitError(f"profile = {name!r} is unknown; allowed: {', '.join(known)}")
    return known[known[name]] if isinstance(known[name], str) else known[name]


@cache
def _etas() -> pd.DataFrame:
    with files(__package__).joinpath("eta.csv").open() as file:
        return pd.read_csv(file, keep_default_na=False)


def chosen_eta(dataset: str, variant: str, by: str) -> float:
    """The eta that `tools/tune_ksparse.py` chose: `by` the best silhouette, or for 10 % of the genes."""
    path = _etas()
    found = path[(path["dataset"] == dataset) & (path["variant"] == variant) & (path["chosen"] == by)]
    return float(found["eta"].item())


def path_etas() -> list[float]:
    """The etas that were tried on simulated cells, as released."""
    path = _etas()
    return sorted(path.loc[(path["dataset"] == SIMULATED) & (path["variant"] == "released"), "eta"])
