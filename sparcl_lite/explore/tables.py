"""The view of the papers' tables: filter, switch the metric, click a cell for its runs, run it with another seed."""

from __future__ import annotations

import html

import ipywidgets as widgets
import pandas as pd

from sparcl_lite.explore.background import DONE, FAILED, RUNNING, Background
from sparcl_lite.explore.cells import NAMES, Cell, catalogue, cells, levels, metrics, paper_says
from sparcl_lite.explore.grid import Grid
from sparcl_lite.explore.view import DRAWING, Drawn, Picture, View, heading, message, message_figure
from sparcl_lite.report.tables import Table
from sparcl_lite.runs.store import Store

WIDE = {"layout": {"width": "26em"}, "style": {"description_width": "4em"}}
COLUMNS = ("method", "paper", "ours", "difference", "n")
CAPTION = "Mean ± half of the 95 % interval over n seeds; difference to the row's baseline. Click a cell for its runs."


class Tables(View):
    """Every table and figure of the papers at a profile, from the runs of `store`; at most `seeds` a row."""

    def __init__(self, store: Store, profile: str = "lite", dataset: str = "", seeds: int = 10):
        super().__init__()
        self.store, self.seeds = store, seeds
        self.background = Background(store, self._progressed)
        self.items, self.cell = catalogue(profile, dataset), None
        self.shown: list[Cell] = []  # the rows of the table
        self.frames: dict[str, pd.DataFrame] = {}
        self.item = widgets.Dropdown(description="item", options=list(self.items), **WIDE)
        self.metric = widgets.Dropdown(description="metric", **WIDE)
        self.query = widgets.Text(description="rows", placeholder="sparcl 0.90", continuous_update=False, **WIDE)
        self.grid, self.figure = Grid(), Picture()
        self.behind, self.runs, self.said = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.seed = widgets.BoundedIntText(description="seed", min=0, max=2**31 - 1, layout={"width": "11em"})
        self.again = widgets.Button(description="Run this row", icon="play", disabled=True)
        self.item.observe(lambda _: self._item_chosen(), names="value")
        for chosen in (self.metric, self.query):
            chosen.observe(lambda _: self._fill(), names="value")
        self.grid.on_choice(self._cell_chosen)
        self.again.on_click(lambda _: self.background.start(self.cell.job(self.seed.value)))
        self._item_chosen()
        self.widget = widgets.VBox(
            [widgets.HBox([self.item, self.metric, self.query], layout={"flex_flow": "row wrap"}), self.grid,
             heading("Behind the cell"), self.behind, self.runs, widgets.HBox([self.seed, self.again, self.said]),
             self.figure]
        )  # fmt: skip

    def _item_chosen(self) -> None:
        known = metrics(self.items[self.item.value])
        kept = self.metric.value if self.metric.value in known.values() else next(iter(known.values()))
        with self.together(self._fill):
            self.metric.options, self.metric.value = known, kept

    def _frame(self) -> pd.DataFrame:
        name = self.item.value
        if name not in self.frames:
            self.frames[name] = self.items[name].stored(seeds=self.seeds, store=self.store)
        return self.frames[name]

    def _fill(self) -> None:
        if self.changing:
            return
        self.shown = shown = cells(self.items[self.item.value], self._frame(), self.metric.value, self.query.value)
        self.grid.show(list(COLUMNS), [line(cell) for cell in shown], CAPTION if shown else "no such row with runs")
        self.cell, self.again.disabled = None, True
        self.behind.value, self.runs.value = message("click a cell above"), ""
        with DRAWING:
            self.figure.show(self.still())

    def _cell_chosen(self, row: int, column: int) -> None:
        self.cell = self.shown[row]
        self._tell_cell()
        known = self.cell.runs(self.store)["seed"]
        self.seed.value = next(seed for seed in range(len(known) + 1) if seed not in set(known))
        self.again.disabled = self.background.running

    def _tell_cell(self) -> None:
        cell = self.cell
        ours = f"{cell.texts()['ours']}, {cell.bounds}" if cell.interval else "no runs yet"
        lines = [f"<b>{html.escape(cell.label)}</b> ({html.escape(cell.row.id)}): {NAMES[cell.metric]}"]
        lines += [f"ours: {ours}", html.escape(cell.provenance)]
        lines += [
            f"difference {cell.texts()['difference']} {html.escape(cell.tips()['difference'] + paper_says(cell))}"
        ]
        self.behind.value = "<br>".join(lines)
        self.runs.value = Table(cell.runs(self.store))._repr_html_()

    def _progressed(self) -> None:
        progress = self.background.progress
        self.said.value = message(progress.text, bad=progress.status == FAILED)
        self.again.disabled = progress.status in RUNNING or self.cell is None
        if progress.status == DONE:
            self.frames.pop(self.item.value, None)
            if self.cell:
                self._tell_cell()

    def still(self) -> Drawn:
        """The rows that are shown as a figure: ours beside the paper's."""
        if not self.shown:
            return message_figure("nothing is stored or printed here"), f"{self.item.value}: nothing here"
        words = f"{self.item.value}, {NAMES[self.metric.value]}: " + "; ".join(
            f"{cell.label} {cell.texts()['ours']}" for cell in self.shown[:10]
        )
        return levels(self.shown)[0], words


def line(cell: Cell) -> list[tuple[str, str, str]]:
    """A row of the table: text, what is told of it, and no colour."""
    texts, tips = {"method": cell.label} | cell.texts(), {"method": cell.row.id} | cell.tips()
    return [(texts[name], tips[name], "") for name in COLUMNS]
