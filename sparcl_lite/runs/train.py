"""How a run is trained, resumable at every epoch end, and what becomes of it: a `RunResult`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from tqdm import tqdm

from sparcl_lite.config import RunConfig
from sparcl_lite.data.sources import load
from sparcl_lite.errors import KitError
from sparcl_lite.measure.flops import paper_flops
from sparcl_lite.measure.memory import PeakMemory
from sparcl_lite.measure.metrics import backward_transfer, final_average, forgetting
from sparcl_lite.planning import planned, training_memory
from sparcl_lite.runs.job import Job, Watch
from sparcl_lite.runs.pretrained import pretrained
from sparcl_lite.runs.progress import tell
from sparcl_lite.runs.result import Flops, RunResult, Seconds, environment, now, nullable
from sparcl_lite.runs.store import Store
from sparcl_lite.training import Trainer


def train(job: Job, store: Store, progress: bool) -> RunResult:
    """Train, from the last checkpoint if there is one."""
    config, device = job.config, available(job.device)
    dataset, memory, steps = load(config.dataset), PeakMemory(device), planned(config).steps
    watch = job.watch or Watch()

    def save(trainer: Trainer) -> None:
        watch.epoch()
        peak = max(state["peak"], memory.read())
        saved = {"trainer": trainer.state_dict(), "started": state["started"], "peak": peak}
        store.save_checkpoint(config, saved)
        tell(trainer.totals["steps"] / steps)
        watch.saved()
        job.check_time()

    tell(0)  # before it is pre-trained, which may take minutes
    pretrain = partial(pretrained, progress=progress, check_time=job.check_time)
    new = partial(Trainer, config, dataset, device=device, on_epoch=save, pretrain=pretrain)
    trainer, state = _resume(config, store, device, new)
    tell(trainer.totals["steps"] / steps)
    watch.begin(trainer, steps)
    with tqdm(
        total=steps,
        initial=int(trainer.totals["steps"]),
        desc=job.name,
        unit="step",
        disable=not progress,
    ) as bar:
        trainer.on_step = lambda: (bar.update(), watch.step())
        trainer.run()
    peak = max(state["peak"], memory.read())
    return _result(trainer, state["started"], peak, environment(job.threads, device))


def _resume(config: RunConfig, store: Store, device: str, new: Callable[..., Trainer]) -> tuple[Trainer, dict]:
    """A trainer at the run's last checkpoint, or at its start, and what is known of the run so far."""
    state = store.load_checkpoint(config, device)
    if state is not None:
        try:
            trainer = new(from_state=True)
            trainer.load_state_dict(state["trainer"])
            if _form(trainer.state_dict()) != _form(state["trainer"]):
                raise ValueError("its fields are not those of this version")
            return trainer, {"started": str(state["started"]), "peak": int(state["peak"])}
        except Exception as error:  # a sound file, but e.g. of another version of this package
            store.reject_checkpoint(config, error)
    return new(), {"started": now(), "peak": 0}


def _form(state: Any) -> Any:
    """What a state is made of: names, types and shapes, without values."""
    if isinstance(state, dict):
        return {name: _form(value) for name, value in state.items()}
    return tuple(state.shape) if isinstance(state, torch.Tensor) else type(state)


def _result(trainer: Trainer, started: str, peak: int, where: dict) -> RunResult:
    config, totals = trainer.config, trainer.totals
    class_il = None if trainer.method.task_aware else trainer.class_il
    return RunResult(
        config=config,
        class_il=None if class_il is None else final_average(class_il),
        task_il=final_average(trainer.task_il),
        accuracy_matrix=nullable(trainer.class_il),
        task_il_matrix=nullable(trainer.task_il),
        forgetting=None if class_il is None else _or_none(forgetting(class_il)),
        backward_transfer=None if class_il is None else _or_none(backward_transfer(class_il)),
        flops=Flops(paper=paper_flops(config), honest=trainer.ledger.total, by_part=trainer.ledger.by_part()),
        data_fraction=totals["presented"] / totals["offered"],
        weight_density=totals["weight_density_sum"] / totals["steps"],
        gradient_density=totals["gradient_density_sum"] / totals["steps"],
        seconds=Seconds(**trainer.seconds),
        peak_memory_bytes=peak,
        training_memory_bytes=training_memory(config),
        trace=_columns(trainer.trace),
        sparse=trainer.sparsity.report() | (trainer.network.engine.report() if trainer.network.engine else {}),
        method=trainer.method.report(),
        pretraining=trainer.pretraining,
        environment=where,
        started=started,
        finished=now(),
    )


def _columns(rows: list[dict]) -> dict[str, list]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def _or_none(value: float) -> float | None:
    return None if value != value else value


def available(device: str) -> str:
    """The device that is meant; `auto` is the GPU where there is one. Raises `KitError` where it is not there."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise KitError(f"device = {device!r} is not available here; allowed: auto, cpu, cuda where there is a GPU")
    return device
