"""What all views share: pictures with alternative texts, and a still picture where no kernel runs."""

from __future__ import annotations

import base64
import html
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import ipywidgets as widgets
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from sparcl_lite.drawing import use_style

DPI, STILL_DPI, CSS_DPI = 160, 90, 96  # of pictures in a view, in a notebook's file, and of a page
#: One figure is drawn at a time: views are also drawn from the threads that listen to training.
DRAWING = threading.RLock()

Drawn = tuple[Figure, str]  # a figure, and in words what it shows


def png(figure: Figure, dpi: int = DPI) -> str:
    """A figure as base64; it is closed."""
    with DRAWING:
        file = BytesIO()
        figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
        plt.close(figure)
    return base64.b64encode(file.getvalue()).decode()


class Picture(widgets.HTML):
    """A figure as an image with an alternative text."""

    def show(self, drawn: Drawn) -> None:
        """Replace what is shown."""
        figure, words = drawn
        width = round(figure.get_figwidth() * CSS_DPI * 1.15)
        image = f'<img src="data:image/png;base64,{png(figure)}" alt="{html.escape(words)}"'
        self.value = f'{image} style="width:{width}px;max-width:100%">'


class View:
    """A group of widgets in a notebook; without a kernel, or on a page, the picture of `still`."""

    def __init__(self) -> None:
        use_style()
        self.widget: widgets.Widget = widgets.VBox()
        self.changing = False  # several widgets at once

    @contextmanager
    def together(self, after: Callable[[], None]) -> Iterator[None]:
        """What widgets change inside is answered once, afterwards; who answers them looks at `changing`."""
        self.changing = True
        try:
            yield
        finally:
            self.changing = False
        after()

    def still(self) -> Drawn:
        """What the view shows now, as one figure."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **given: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        figure, words = self.still()
        live = self.widget._repr_mimebundle_(**given)
        return live | {"image/png": png(figure, STILL_DPI), "text/plain": words}, {"image/png": {"alt": words}}


def heading(text: str) -> widgets.HTML:
    """A heading within a view."""
    return widgets.HTML(f"<h4 style='margin:.6em 0 .2em'>{html.escape(text)}</h4>")


def message(text: str, bad: bool = False) -> str:
    """One line of HTML that is read out when it changes."""
    colour = "#a11d00" if bad else "inherit"
    return f'<span role="status" style="color:{colour}">{html.escape(text)}</span>'


def message_figure(text: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure = Figure(figsize=(6.6, 1.0))
    figure.text(0.5, 0.5, text, ha="center", va="center", wrap=True)
    return figure
