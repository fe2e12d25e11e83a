"""One look for all figures: style file, colours per method, and saving a figure with the points it draws."""

from importlib.resources import as_file, files
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from sparcl_lite.paths import folder

#: Okabe and Ito's colour-blind-safe colours, fixed per method, per way of sparse training and per removal rule.
PALETTE = {
    "sgd": "#999999",
    "joint": "#000000",
    "er": "#E69F00",
    "der": "#009E73",
    "der++": "#0072B2",
    "random": "#999999",
    "magnitude": "#56B4E9",
    "snip": "#CC79A7",
    "rigl": "#E69F00",
    "sparcl": "#D55E00",
    "stages": "#D55E00",
    "one_shot": "#009E73",
}
OURS, PAPER = PALETTE["der++"], PALETTE["er"]


def use_style() -> None:
    """Draw everything that follows in the kit's style."""
    with as_file(files("sparcl_lite.report").joinpath("kit.mplstyle")) as path:
        plt.style.use(path)


def save(figure: Figure, points: pd.DataFrame, place: str | Path, name: str) -> None:
    """Write `name`.pdf, .png and the points drawn as .csv; the same input gives the same bytes."""
    place = folder(place)
    place.mkdir(parents=True, exist_ok=True)
    figure.savefig(place / f"{name}.pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})
    figure.savefig(place / f"{name}.png", metadata={"Software": None})
    points.to_csv(place / f"{name}.csv", index=False, float_format="%.6g")


def interval_bars(ax, points: pd.DataFrame, value: str, y, **look) -> None:
    """Means with horizontal intervals `low` to `high` (NaN where a single seed gives none)."""
    widths = [points[value] - points["low"], points["high"] - points[value]]
    ax.errorbar(points[value], y, xerr=widths, fmt="o", capsize=2.5, **look)
