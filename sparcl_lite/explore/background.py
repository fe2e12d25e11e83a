"""Training in a process of its own: it is asked for one run at a time, and tells how far that is.

The process stays between runs, so that only the first waits for imports. It ends with the process that started it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sparcl_lite.config import RunConfig
from sparcl_lite.errors import KitError
from sparcl_lite.registry import adopt, packed_for
from sparcl_lite.runs.job import OutOfTime, job_of, kind_named
from sparcl_lite.runs.recording import Recorder
from sparcl_lite.runs.store import Store

TELLING = 0.2  # seconds between two messages within an epoch
WAITING, TRAINING, STOPPING = "waiting", "training", "stopping"
DONE, STOPPED, FAILED = "done", "stopped", "failed"
RUNNING = (WAITING, TRAINING, STOPPING)


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    `done` of `steps` training steps, `at_start` of them by an earlier process; `task` and `epoch` count from 1. `rows`
    are the accuracies in percent after every epoch so far: task, epoch, Class-IL and Task-IL by task (None: not known).
    A job that does not train has none of these.
    """

    config: Any
    status: str = WAITING
    done: int = 0
    steps: int = 0
    at_start: int = 0
    task: int = 0
    epoch: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    message: str = ""
    began: float | None = None  # seconds since 1970, of the first step
    ended: float | None = None

    @property
    def seconds_left(self) -> float | None:
        """From the steps made so far; None before the first."""
        made = self.done - self.at_start
        if not made or self.began is None:
            return None
        return ((self.ended or time.time()) - self.began) * (self.steps - self.done) / made

    @property
    def text(self) -> str:
        """One line for a reader."""
        if self.status == TRAINING and self.steps:
            left = "" if self.seconds_left is None else f"; about {duration(self.seconds_left)} left"
            of = f"task {self.task} of {self.config.task_count}, epoch {self.epoch} of {self.config.epochs}"
            return f"{of}, step {self.done:,} of {self.steps:,}{left}"
        return {
            WAITING: "starting; a run that another process trains is waited for",
            TRAINING: "running",
            STOPPING: "stopping at the end of this epoch",
            STOPPED: f"stopped after step {self.done:,} of {self.steps:,}; Train goes on from its checkpoint",
            DONE: f"done in {duration((self.ended or 0) - (self.began or 0))}",
            FAILED: self.message,
        }[self.status]


def duration(seconds: float) -> str:
    """`8 s`, `3 min`, `2.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class Background:
    """One training process, and the progress of its run; those in `listeners` are called from a thread of its own."""

    def __init__(self, store: Store, *listeners: Callable[[], None]):
        self.store, self.listeners = store, list(listeners)
        self.progress: Progress | None = None
        self._process: Any = None
        self._pipe: Connection | None = None
        self._listener: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether a run is being trained."""
        return self.progress is not None and self.progress.status in RUNNING

    def start(self, what: Any) -> None:
        """Compute a job, or that of a configuration, also where it is stored; from its checkpoint, if there is one.

        Raises `KitError` while another one is computed.
        """
        if self.running:
            raise KitError("a run is being trained; stop it first")
        self.warm_up()
        job = job_of(what)
        self.progress = Progress(job.config)
        self._tell()
        packed = packed_for(job.config) if job.kind == "training" else b""
        given = {"config": job.config.model_dump(), "threads": job.threads, "device": job.device}
        self._pipe.send((job.kind, given, packed, str(self.store.root.absolute())))

    def stop(self) -> None:
        """Have the run stop at the end of its epoch, with a checkpoint."""
        if self.running:
            self._change(status=STOPPING)
            self._pipe.send(None)

    def warm_up(self) -> None:
        """Start the process, if it does not run."""
        if self._process is not None and self._process.is_alive():
            return
        self._pipe, theirs = multiprocessing.Pipe()
        with _as_worker():
            self._process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
            self._process.start()
        theirs.close()
        self._listener = threading.Thread(target=self._listen, args=(self._pipe,), daemon=True)
        self._listener.start()

    def close(self) -> None:
        """End the process, and wait until the listeners know; a run in training goes on later from its checkpoint."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            if self._listener is not threading.current_thread():
                self._listener.join()

    def _listen(self, pipe: Connection) -> None:
        with suppress(OSError):
            while True:
                try:
                    changes = _received(pipe)
                except EOFError:
                    break
                rows = self.progress.rows + changes.pop("rows", [])
                if self.progress.status == STOPPING and changes.get("status") == TRAINING:
                    del changes["status"]
                self._change(rows=rows, **changes)
        if self.running:
            self._change(status=FAILED, message="the training process ended; Train goes on from its last checkpoint")

    def _change(self, **values: Any) -> None:
        self.progress = replace(self.progress, **values)
        self._tell()

    def _tell(self) -> None:
        for listener in self.listeners:
            listener()


def _received(pipe: Connection) -> dict[str, Any]:
    """What the process has told since the last time: a view lags behind by one drawing, however slow that is."""
    changes = pipe.recv()
    with suppress(EOFError):
        while pipe.poll():
            more = pipe.recv()
            changes = changes | more | {"rows": changes.get("rows", []) + more.get("rows", [])}
    return changes


@contextmanager
def _as_worker() -> Iterator[None]:
    """A process that starts inside has a worker's settings, and does not execute the user's script first."""
    from sparcl_lite.runs.sweep import WORKER_ENVIRONMENT, script_hidden

    before = {name: os.environ.get(name) for name in WORKER_ENVIRONMENT}
    os.environ.update(WORKER_ENVIRONMENT)
    try:
        with script_hidden():
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


# -- in the training process


def _serve(pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # interrupting the kernel does not end it
    import sparcl_lite.runs.train  # noqa: F401  what takes seconds, before the first run is asked for

    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which counts as leaked when this process is ended

    with suppress(EOFError, OSError):  # the other process has ended
        while True:
            asked = pipe.recv()
            if asked:  # else: to stop a run that has just ended
                _compute(pipe, *asked)


def _compute(pipe: Connection, kind: str, given: dict[str, Any], packed: bytes, root: str) -> None:
    from sparcl_lite.threads import using_threads

    try:
        if packed:
            adopt(packed)
        store, made = Store(Path(root)), kind_named(kind)
        job = made(**given | {"config": made.config_type.model_validate(given["config"])})
        if kind == "training":
            job = replace(job, watch=Teller(pipe, store, job.config))
        store.check_usable(job.disk_bytes)
        with store.lock(job.config), using_threads(job.threads):
            pipe.send({"status": TRAINING, "began": time.time()})
            store.put(job.compute(store, progress=False))
    except OutOfTime:
        pipe.send({"status": STOPPED, "ended": time.time()})
    except (EOFError, OSError):
        raise
    except Exception as error:
        text = str(error) if isinstance(error, KitError) else f"{type(error).__name__}: {error}"
        pipe.send({"status": FAILED, "message": " ".join(text.split()), "ended": time.time()})
    else:
        pipe.send({"status": DONE, "ended": time.time()})


class Teller(Recorder):
    """Records a run, tells through a pipe how far it is, and stops it when the pipe says so."""

    def __init__(self, pipe: Connection, store: Store, config: RunConfig):
        super().__init__(store, config)
        self.pipe, self.told = pipe, 0.0

    def begin(self, trainer: Any, steps: int) -> None:
        """Tell where the run begins, with the accuracies that are recorded already."""
        super().begin(trainer, steps)
        done = int(trainer.totals["steps"])
        self.pipe.send(
            {"status": TRAINING, "steps": steps, "at_start": done, "done": done, "began": time.time(), "ended": None,
             "rows": [_row(moment) for moment in self.moments]}
        )  # fmt: skip

    def step(self) -> None:
        """Tell the step, now and then."""
        if time.time() > self.told + TELLING:
            self._tell()

    def epoch(self) -> None:
        """Record, and tell the accuracies."""
        super().epoch()
        self._tell(rows=[_row(self.moments[-1])])

    def saved(self) -> None:
        """Stop where that was asked for."""
        if self.pipe.poll() and self.pipe.recv() is None:
            raise OutOfTime("stopped")

    def _tell(self, **more: Any) -> None:
        self.told, trainer = time.time(), self.trainer
        phase, epochs = trainer.position
        task, epoch = (phase, epochs) if more else self._current(phase, epochs)
        self.pipe.send({"done": int(trainer.totals["steps"]), "task": task + 1, "epoch": max(1, epoch)} | more)

    def _current(self, phase: int, epochs: int) -> tuple[int, int]:
        """Task (from 0) and epoch (from 1) that a step belongs to; the position is that of the last epoch's end."""
        whole = epochs == self.trainer.config.epochs
        return (phase + 1, 1) if whole else (phase, epochs + 1)


def _row(moment: dict[str, Any]) -> dict[str, Any]:
    accuracies = {name: [None if v != v else float(v) for v in moment[name]] for name in ("class_il", "task_il")}
    return {"task": int(moment["task"]), "epoch": int(moment["epoch"])} | accuracies
