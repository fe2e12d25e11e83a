"""The view that trains: choose a run, watch it, stop it, go on, pin and compare."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable
from typing import Any

import ipywidgets as widgets
import pandas as pd
from matplotlib.figure import Figure

from sparcl_lite.config import RunConfig
from sparcl_lite.errors import KitError
from sparcl_lite.explore import figures
from sparcl_lite.explore.background import DONE, FAILED, RUNNING, STOPPED, Background
from sparcl_lite.explore.choices import Choice, known_of, name_of
from sparcl_lite.explore.view import DRAWING, Drawn, Picture, View, heading, message, message_figure
from sparcl_lite.report.tables import METRIC_NAMES, Table
from sparcl_lite.runs.recording import Recording
from sparcl_lite.runs.result import RunResult
from sparcl_lite.runs.store import Store

DESCRIBED = {"style": {"description_width": "6.5em"}, "layout": {"width": "24em"}}


class Train(View):
    """Widgets for a run and its training in the background; `pinned` runs that `store` holds are compared at once.

    `runs` holds the results by name, those of `pinned` and what was trained here; `profile` and `dataset` are chosen at
    first, everything else is as in `RunConfig`.
    """

    def __init__(self, store: Store, pinned: Iterable[RunConfig] = (), profile: str = "lite", dataset: str = ""):
        super().__init__()
        self.store, self.runs = store, dict[str, RunResult]()
        self.listeners: list[Callable[[], None]] = []  # called when a run was added
        self.background = Background(store, self._progressed)
        self._drawn: tuple | None = None
        self._rows: tuple[list[dict[str, Any]], RunConfig | None] = [], None  # of the run that is shown
        self._make_choices(Choice(profile=profile, **({"dataset": dataset} if dataset else {})))
        self._make_outcome()
        for result in filter(None, map(store.find, pinned)):
            self.pin(result)
        self._chosen()
        form = widgets.VBox([*self.fields.values(), self.buttons, self.said], layout={"flex": "0 0 25em"})
        outcome = [self.bar, self.told, self.metric, self.curve]
        outcome = widgets.VBox(outcome, layout={"flex": "1 1 25em", "min_width": "0"})
        self.widget = widgets.VBox(
            [widgets.HBox([form, outcome], layout={"flex_flow": "row wrap"}), self.code, heading("Pinned runs"),
             self.ticks, self.compared, self.table]
        )  # fmt: skip

    def _make_choices(self, first: Choice) -> None:
        allowed = Choice.allowed()
        self.fields: dict[str, Any] = {
            name: widgets.Dropdown(description=name, options=options, value=getattr(first, name), **DESCRIBED)
            for name, options in allowed.items()
        } | {
            "sparsity": widgets.BoundedFloatText(
                description="sparsity", min=0, max=0.999, step=0.05, value=first.sparsity, **DESCRIBED
            ),
            "buffer_size": widgets.BoundedIntText(
                description="buffer", min=0, max=10**6, step=100, value=first.buffer_size, **DESCRIBED
            ),
            "seed": widgets.BoundedIntText(description="seed", min=0, max=2**31 - 1, value=0, **DESCRIBED),
            "further": widgets.Text(
                description="more fields", placeholder="lr=0.05, tasks=4,3,3", continuous_update=False, **DESCRIBED
            ),
        }
        for field in self.fields.values():
            field.observe(lambda _: (self.background.warm_up(), self._chosen()), names="value")
        self.train = widgets.Button(description="Train", button_style="primary", icon="play")
        self.stop = widgets.Button(description="Stop", icon="stop", disabled=True)
        self.train.on_click(lambda _: self._start())
        self.stop.on_click(lambda _: self.background.stop())
        self.buttons, self.said = widgets.HBox([self.train, self.stop]), widgets.HTML()
        self.lines = widgets.HTML()
        self.code = widgets.Accordion([self.lines], titles=("as code",), selected_index=None)

    def _make_outcome(self) -> None:
        self.bar = widgets.FloatProgress(max=1, layout={"width": "100%"})
        self.bar.aria_label = "progress of training"
        self.told, self.curve = widgets.HTML(), Picture()
        names = [(text, name) for name, text in METRIC_NAMES.items()]
        self.metric = widgets.ToggleButtons(options=names, tooltips=["asked for the class among all", "told the task"])
        self.metric.style.button_width = "7em"
        self.metric.observe(lambda _: (self._draw(), self._compare()), names="value")
        self.ticks, self.compared, self.table = widgets.VBox(), Picture(), widgets.HTML()

    # -- what the user does

    @property
    def choice(self) -> Choice:
        """What the widgets say."""
        return Choice(**{name: field.value for name, field in self.fields.items()})

    def _chosen(self) -> None:
        """Something else was chosen."""
        choice = self.choice
        self.fields["sparsity"].disabled = choice.strategy == "dense"
        self.fields["buffer_size"].disabled = not choice.uses_buffer
        try:
            config = choice.config
            self.said.value = message(known_of(self.store, config))
            code = f"{choice.python(self.store)}\n\n{choice.shell(self.store)}"
            self.lines.value = f'<pre style="white-space:pre-wrap">{html.escape(code)}</pre>'
        except KitError as error:
            self.said.value = message(str(error), bad=True)
            self.lines.value = ""
        self.train.disabled = self.background.running or not self.lines.value

    def _start(self) -> None:
        config = self.choice.config
        found = self.store.find(config)
        if found:
            self._show(found)
            return
        self.background.start(config)

    def _show(self, result: RunResult) -> None:
        """Show a stored run as if it had just been trained."""
        self.pin(result)
        self.bar.value, self.bar.max, self.bar.bar_style = 1, 1, "success"
        self.told.value = message(f"{name_of(result.config)}: from the store")
        recording = Recording.of(self.store, result.config)
        self._rows = (rows_recorded(recording) if recording else figures.rows_of(result)), result.config
        self._draw(again=True)

    # -- what training tells, from its own thread

    def _progressed(self) -> None:
        progress = self.background.progress
        self.bar.max, self.bar.value = progress.steps or 1, progress.done
        self.bar.bar_style = {DONE: "success", STOPPED: "warning", FAILED: "danger"}.get(progress.status, "info")
        text = progress.text if progress.status == FAILED else f"{name_of(progress.config)}: {progress.text}"
        self.told.value = message(text, bad=progress.status == FAILED)
        self.stop.disabled = progress.status not in RUNNING
        self._rows = progress.rows, progress.config
        self._draw()
        if progress.status == DONE:
            self.pin(self.store.get(progress.config))
        if progress.status not in RUNNING or not self.train.disabled:
            self._chosen()
            self.said.value = "" if progress.status in RUNNING else self.said.value

    def _draw(self, again: bool = False) -> None:
        rows, config = self._rows
        state = config and (config.key, len(rows), self.metric.value)
        if rows and (again or state != self._drawn):
            self._drawn = state
            with DRAWING:
                self.curve.show(curve(rows, config, self.metric.value))

    # -- pinned runs

    def pin(self, result: RunResult) -> None:
        """Add a run to those that are compared."""
        name = name_of(result.config)
        if name in self.runs and self.runs[name].config.key != result.config.key:
            name += f", {result.config.key[:6]}"
        if name not in self.runs:
            tick = widgets.Checkbox(value=True, description=name, indent=False, layout={"width": "auto"})
            tick.observe(lambda _: self._compare(), names="value")
            self.ticks.children += (tick,)
        self.runs[name] = result
        self._compare()
        for listener in self.listeners:
            listener()

    @property
    def ticked(self) -> dict[str, RunResult]:
        """The runs that are compared, by name."""
        return {tick.description: self.runs[tick.description] for tick in self.ticks.children if tick.value}

    def _compare(self) -> None:
        runs = self.ticked
        if runs:
            with DRAWING:
                self.compared.show(compared(runs, self.metric.value))
        self.table.value = self.summary()._repr_html_() if runs else message("no run is ticked")

    def comparison(self) -> tuple[Figure, pd.DataFrame]:
        """The figure of the ticked runs and its points."""
        return figures.comparison(self.ticked, self.metric.value)

    def summary(self) -> Table:
        """The ticked runs as a table."""
        return Table(table_of(self.ticked), "Runs that are ticked; docs/metrics.md defines the columns.")

    def still(self) -> Drawn:
        """The pinned runs, compared."""
        if not self.ticked:
            return message_figure("no run is pinned yet"), "Train: no run is pinned yet"
        return compared(self.ticked, self.metric.value)


def rows_recorded(recording: Recording) -> list[dict[str, Any]]:
    """Accuracies after every recorded epoch, as the `rows` of a run in progress."""

    def plain(row: Any) -> list[float | None]:
        return [None if value != value else float(value) for value in row]

    return [
        {"task": int(task), "epoch": int(epoch), "class_il": plain(seen), "task_il": plain(told)}
        for task, epoch, seen, told in zip(
            recording.task, recording.epoch, recording.class_il, recording.task_il, strict=True
        )
    ]  # fmt: skip


def curve(rows: list[dict[str, Any]], config: RunConfig, metric: str) -> Drawn:
    """Accuracy of a run over its epochs."""
    figure, points = figures.accuracy_over_time(rows, config.task_count, config.epochs, metric)
    last = points[points["epoch"] == points["epoch"].max()]
    values = ", ".join(f"task {line.task}: {line.accuracy:.0f} %" for line in last.itertuples())
    return figure, f"{METRIC_NAMES[metric]} accuracy of {name_of(config)} by epoch and task; at last {values or '-'}"


def compared(runs: dict[str, RunResult], metric: str) -> Drawn:
    """Several runs side by side."""
    figure, _ = figures.comparison(runs, metric)
    values = "; ".join(f"{name}: {_text(getattr(result, metric))} %" for name, result in runs.items())
    return figure, f"{METRIC_NAMES[metric]} accuracy and training FLOPs of {len(runs)} runs. At the end {values}"


def table_of(runs: dict[str, RunResult]) -> pd.DataFrame:
    """One line a run: what a reader compares, and the key of the run in its store."""
    lines = [
        {
            "run": name,
            "Class-IL (%)": _text(result.class_il),
            "Task-IL (%)": _text(result.task_il),
            "forgetting (points)": _text(result.forgetting),
            "FLOPs, honest": f"{result.flops.honest:.2e}",
            "nonzero weights (%)": _text(100 * result.weight_density),
            "training (s)": f"{result.seconds.train:.0f}",
            "key": result.config.key,
        }
        for name, result in runs.items()
    ]
    return pd.DataFrame(lines)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
