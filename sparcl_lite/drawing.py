"""One look for all figures: style file, colours per method, and saving a figure with the points it draws."""

import sys
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.legend import Legend

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
    """Draw everything that follows in the kit's style; a notebook's figures carry an alternative text."""
    with as_file(files("sparcl_lite").joinpath("kit.mplstyle")) as path:
        plt.style.use(path)
    if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()):
        plt.switch_backend(matplotlib.get_backend())  # which registers how figures are shown
        formatter = shell.display_formatter.formatters["image/png"]
        drawn = formatter.for_type(Figure)
        if drawn and not hasattr(drawn, "described"):
            formatter.for_type(Figure, _described(drawn))


def _described(drawn: Callable[[Figure], Any]) -> Callable[[Figure], tuple[Any, dict[str, str]]]:
    def described(figure: Figure) -> tuple[Any, dict[str, str]]:
        return drawn(figure), {"alt": described_in_words(figure)}

    described.described = True
    return described


def described_in_words(figure: Figure) -> str:
    """What a figure shows: its panels with their axes, and what the legend names; the numbers are in its CSV."""
    panels = []
    for ax in figure.axes:
        parts = [
            ax.get_title(),
            *(f"{n}: {text}" for n, text in (("x", ax.get_xlabel()), ("y", ax.get_ylabel())) if text),
        ]
        panels.append(", ".join(part for part in parts if part))
    legends = [legend for holder in (figure, *figure.axes) for legend in holder.findobj(Legend)]
    names = dict.fromkeys(text.get_text() for legend in legends for text in legend.get_texts())
    shared = [text.get_text() for text in (figure._supxlabel, figure._supylabel, figure._suptitle) if text]
    what = [*dict.fromkeys(filter(None, panels)), *shared]
    return " ".join(f"Figure. {'; '.join(what)}{'. Shown: ' + ', '.join(names) if names else ''}.".split())


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
