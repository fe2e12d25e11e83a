"""`run(config)`: a finished run from the store, or one trained now, resumable at every epoch end."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from sparcl_lite.config import RunConfig
from sparcl_lite.config.run import UNFROZEN
from sparcl_lite.data.sources import load
from sparcl_lite.errors import KitError
from sparcl_lite.measure.flops import costs_of, paper_flops
from sparcl_lite.measure.memory import PeakMemory
from sparcl_lite.measure.metrics import backward_transfer, final_average, forgetting
from sparcl_lite.planning import planned, training_memory
from sparcl_lite.registry import METHODS
from sparcl_lite.runs.result import Flops, RunResult, Seconds, environment, nullable
from sparcl_lite.runs.store import Store
from sparcl_lite.training import Trainer

#: Numbers of threads, PyTorch's seeding and peak memory belong to a whole process: its threads train one at a time.
_TRAINING = threading.Lock()


def default_store() -> Path:
    """Where runs are kept unless told otherwise: $SPARCL_LITE_STORE, else build/store in the working directory."""
    return Path(os.environ.get("SPARCL_LITE_STORE", "build/store"))


def run(
    config: RunConfig,
    *,
    store: Store | Path | str | None = None,
    device: str = "auto",
    threads: int = 1,
    progress: bool = False,
) -> RunResult:
    """The result of `config`: from the store when it is there, else by training (from the last checkpoint, if any).

    The same configuration, device and number of threads give the same bits. A run that was interrupted on another kind
    of device goes on here from its checkpoint, with bits that neither device alone would give. Raises `KitError` for
    anything the user can mend: missing data, an unusable store, a full disk, a damaged stored result (set aside).
    """
    store = store if isinstance(store, Store) else Store(store or default_store())
    found = store.get(config)
    if found:
        return found
    store.check_usable(_disk_bytes(config))
    with store.lock(config):
        found = store.get(config)  # another process may have finished it meanwhile
        if found is None:
            with _TRAINING, using_threads(threads):
                found = _train(config, store, _device(device), threads, progress)
            store.put(found)
    return found


def _train(config: RunConfig, store: Store, device: str, threads: int, progress: bool) -> RunResult:
    dataset, memory = load(config.dataset), PeakMemory(device)

    def save(trainer: Trainer) -> None:
        peak = max(state["peak"], memory.read())
        saved = {"trainer": trainer.state_dict(), "started": state["started"], "peak": peak}
        store.save_checkpoint(config, saved)

    new = partial(Trainer, config, dataset, device=device, on_epoch=save)
    trainer, state = _resume(config, store, device, new)
    with tqdm(
        total=planned(config).steps,
        initial=int(trainer.totals["steps"]),
        desc=f"{label(config)}, seed {config.seed}",
        unit="step",
        disable=not progress,
    ) as bar:
        trainer.on_step = bar.update
        trainer.run()
    peak = max(state["peak"], memory.read())
    return _result(trainer, state["started"], peak, environment(threads, device))


def _resume(config: RunConfig, store: Store, device: str, new: Callable[..., Trainer]) -> tuple[Trainer, dict]:
    """A trainer at the run's last checkpoint, or at its start, and what is known of the run so far."""
    state = store.load_checkpoint(config, device)
    if state is not None:
        try:
            trainer = new(from_state=True)
            trainer.load_state_dict(state["trainer"])
            return trainer, state
        except Exception as error:  # a sound file, but e.g. of another version of this package
            store.reject_checkpoint(config, error)
    return new(), {"started": _now(), "peak": 0}


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
        finished=_now(),
    )


def label(config: RunConfig) -> str:
    """A short name of what is trained: `sparcl-der++ 0.90, buffer 200, fashion-mnist`."""
    sparse = config.sparse
    parts = [f"{sparse.kind}-{config.method} {sparse.sparsity:.2f}" if sparse else config.method]
    if METHODS[config.method].uses_buffer:
        parts.append(f"buffer {config.buffer_size}")
    if config.freeze != UNFROZEN:
        parts.append(f"frozen to {config.freeze}")
    return ", ".join([*parts, config.dataset])


def _columns(rows: list[dict]) -> dict[str, list]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def _or_none(value: float) -> float | None:
    return None if value != value else value


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _disk_bytes(config: RunConfig) -> int:
    """Two checkpoints (the old one stays until the new one is whole): weights, two masks, gradients and buffer."""
    weights = sum(cost.parameters for cost in costs_of(config, config.task_count - 1))
    return 2 * (weights * (4 + 4 + 2) + training_memory(config)["buffer"]) + 2**20


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cpu" and not (name.startswith("cuda") and torch.cuda.is_available()):
        raise KitError(f"device = {name!r} is not available here; allowed: auto, cpu, cuda where there is a GPU")
    return name


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """So many of PyTorch's threads inside; afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
