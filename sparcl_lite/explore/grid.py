"""A table of text whose cells can be clicked, and whose rows can be sorted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anywidget
import traitlets

HERE = Path(__file__).parent


class Grid(anywidget.AnyWidget):
    """Rows of cells, each a text, what is told when the pointer rests on it, and a colour or an empty string.

    `chosen` is the row and the column (from 0) of the cell clicked last; empty before. The order in which the user has
    sorted the rows changes neither.
    """

    _esm = HERE / "grid.js"
    _css = HERE / "grid.css"
    columns = traitlets.List(traitlets.Unicode()).tag(sync=True)
    rows = traitlets.List(traitlets.List()).tag(sync=True)
    chosen = traitlets.List(traitlets.Int()).tag(sync=True)
    caption = traitlets.Unicode("").tag(sync=True)

    def on_choice(self, call: Callable[[int, int], None]) -> None:
        """Have `call(row, column)` called when a cell is clicked."""
        self.observe(lambda change: change["new"] and call(*change["new"]), names="chosen")

    def show(self, columns: list[str], rows: list[list[tuple[str, str, str]]], caption: str = "") -> None:
        """Replace all cells; none is chosen then."""
        with self.hold_sync():
            self.chosen = []
            self.columns, self.rows, self.caption = columns, [[list(cell) for cell in row] for row in rows], caption
