"""One look for all figures: style file, colours per method, and saving a figure with the points it draws."""

from importlib.resources import as_file, files
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from sparcl_lite.paths import folder
from sparcl_lite.registry import METHODS, STRATEGIES

#: Okabe and Ito's colour-blind-safe colours. A method or strategy has one of them in all figures.
BLACK, GREY, ORANGE, SKY, GREEN = "#000000", "#999999", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
FURTHER = (PURPLE, SKY, "#F0E442", GREEN)  # of names that were registered without one, in turn
OURS, PAPER = BLUE, ORANGE


def colour_of(name: str) -> str:
    """The colour of a method or a strategy: its registration's, or one that follows from its name."""
    for registry in (METHODS, STRATEGIES):
        if name in registry and (known := registry.entry(name).facts.get("colour")):
            return known
    return FURTHER[sum(name.encode()) % len(FURTHER)]


def use_style() -> None:
    """Draw everything that follows in the kit's style."""
    with as_file(files("sparcl_lite").joinpath("kit.mplstyle")) as path:
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
