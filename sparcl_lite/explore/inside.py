"""The view that looks inside a run: slide over its tasks and epochs."""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as widgets
import pandas as pd
from matplotlib.figure import Figure

from sparcl_lite.explore import inside_figures as draw
from sparcl_lite.explore.background import RUNNING
from sparcl_lite.explore.choices import name_of
from sparcl_lite.explore.moments import Moment
from sparcl_lite.explore.train import Train
from sparcl_lite.explore.view import DRAWING, Drawn, Picture, View, message, message_figure
from sparcl_lite.registry import METHODS
from sparcl_lite.runs.recording import Recording
from sparcl_lite.runs.result import RunResult

RECORD = "is seen only in a recorded run: press Record, which trains it once more"
WIDE = {"layout": {"width": "36em"}, "style": {"description_width": "6em"}}

Draw = Callable[[Moment, int], tuple[Figure, pd.DataFrame]]


def _no_masks(moment: Moment) -> str:
    return "" if len(moment.layers(-1)) else "this run is dense: all weights exist"


def _none_removed(moment: Moment) -> str:
    sparse = moment.config.sparse
    if not getattr(sparse, "ddr", False):
        return "no data removal (DDR) in this run"
    return "" if moment.removed else f"nothing is removed up to {moment.words}"


def _not_counted(moment: Moment) -> str:
    return "" if moment.misclassified is not None else "misclassifications are counted by SparCL's data removal only"


def _no_buffer(moment: Moment) -> str:
    if not METHODS[moment.config.method].uses_buffer:
        return f"{moment.config.method} has no buffer"
    if moment.held is None:
        return f"the buffer {RECORD}"
    return "" if len(moment.held) else f"the buffer is empty at {moment.words}"


def _no_confusion(moment: Moment) -> str:
    if moment.number is not None and moment.confusion is None:
        return f"{moment.config.method} was not evaluated after this epoch"
    return "" if moment.confusion is not None else f"confusion {RECORD}"


#: By the title of its tab: why there is nothing to draw at a moment (empty: there is), and what draws it.
PANELS: dict[str, tuple[Callable[[Moment], str], Draw]] = {
    "masks": (_no_masks, draw.masks),
    "removed": (_none_removed, lambda moment, _: draw.removed(moment)),
    "easiest, hardest": (_not_counted, lambda moment, _: draw.extremes(moment)),
    "buffer": (_no_buffer, lambda moment, _: draw.buffer(moment)),
    "confusion": (_no_confusion, lambda moment, _: draw.confusion(moment)),
    "accuracy": (lambda _: "", lambda moment, _: draw.accuracy(moment)),
}


def panel(title: str, moment: Moment, earlier: int = -1) -> Drawn:
    """A panel's picture, or a line that says why there is none."""
    missing, make = PANELS[title]
    where = f"{title} of {name_of(moment.config)} after {moment.words}"
    reason = missing(moment)
    if reason:
        return message_figure(reason), f"{where}: {reason}"
    return make(moment, earlier)[0], where


class Inside(View):
    """Looks into the runs that are pinned in `train`, and into the one that it trains or has stopped."""

    def __init__(self, train: Train):
        super().__init__()
        self.train, self.store = train, train.store
        self.result: RunResult | None = None
        self.recording: Recording | None = None
        self.run = widgets.Dropdown(description="run", **WIDE)
        self.task, self.epoch = (
            widgets.IntSlider(description=name, min=1, max=1, continuous_update=False, **WIDE)
            for name in ("task", "epoch")
        )
        self.earlier = widgets.Dropdown(description="mask of", **WIDE)
        self.record = widgets.Button(description="Record", icon="circle", tooltip="train it once more, recorded")
        self.said, self.pictures = widgets.HTML(), {title: Picture() for title in PANELS}
        pages = dict(self.pictures) | {"masks": widgets.VBox([self.earlier, self.pictures["masks"]])}
        self.tabs = widgets.Tab(list(pages.values()), titles=tuple(pages))
        self._observe()
        self.widget = widgets.VBox([widgets.HBox([self.run, self.record]), self.said, self.task, self.epoch, self.tabs])
        self._runs_changed()

    def _observe(self) -> None:
        self.run.observe(lambda _: self._run_chosen(), names="value")
        self.task.observe(lambda _: self._task_chosen(), names="value")
        for chosen, name in ((self.epoch, "value"), (self.earlier, "value"), (self.tabs, "selected_index")):
            chosen.observe(lambda _: self._draw(), names=name)
        self.record.on_click(lambda _: self.train.background.start(self.run.value))
        self.train.listeners.append(self._runs_changed)
        self.train.background.listeners.append(self._progressed)

    def _runs_changed(self) -> None:
        """Offer the runs that there are now; the one that was shown stays."""
        runs = {name: result.config for name, result in self.train.runs.items()}
        progress = self.train.background.progress
        if progress is not None and progress.rows and progress.config not in runs.values():
            runs[f"{name_of(progress.config)} (unfinished)"] = progress.config
        if dict(self.run.options) == runs:
            return
        shown = self.run.value
        with self.together(self._run_chosen):
            self.run.options = runs
            self.run.value = shown if shown in runs.values() else list(runs.values())[-1]

    def _progressed(self) -> None:
        progress = self.train.background.progress
        self._runs_changed()
        if progress.config == self.run.value and progress.status not in RUNNING:
            self._run_chosen()
        self.record.disabled = self.recording is not None or progress.status in RUNNING

    def _run_chosen(self) -> None:
        config = self.run.value
        if config is None or self.changing:
            return
        self.result, self.recording = self.store.find(config), Recording.of(self.store, config)
        tasks = 1 if METHODS[config.method].all_at_once else config.task_count
        with self.together(self._task_chosen):
            for slider, count in ((self.task, tasks), (self.epoch, config.epochs)):
                slider.max = slider.value = count
        known = (
            "recorded after every epoch"
            if self.recording
            else f"known by its result alone: what else there is {RECORD}"
        )
        self.said.value = message(known)
        self.record.disabled = self.recording is not None or self.train.background.running

    def _task_chosen(self) -> None:
        if self.changing:
            return
        start = {} if self.recording else {"before the first task": -1}
        with self.together(self._draw):
            self.earlier.options = start | {f"the end of task {task + 1}": task for task in range(self.task.value - 1)}

    @property
    def moment(self) -> Moment:
        """What the sliders say."""
        return Moment(self.run.value, self.result, self.recording, self.task.value - 1, self.epoch.value - 1)

    def _drawn(self, title: str) -> Drawn:
        return panel(title, self.moment, -1 if self.earlier.value is None else self.earlier.value)

    def _draw(self) -> None:
        if self.run.value is not None and not self.changing:
            title = list(PANELS)[self.tabs.selected_index or 0]
            with DRAWING:
                self.pictures[title].show(self._drawn(title))

    def still(self) -> Drawn:
        """The panel that is open."""
        if self.run.value is None:
            return message_figure("no run yet"), "Inside: no run yet"
        return self._drawn(list(PANELS)[self.tabs.selected_index or 0])
