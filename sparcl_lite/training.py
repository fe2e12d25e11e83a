"""The loop: stream -> method -> sparsity -> optimiser, for each task, epoch and batch.

A `Trainer` can be saved at every epoch end and continues from there bit for bit. Where results and checkpoints are
kept is the business of `runs`.
"""

import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from sparcl_lite.config import RunConfig
from sparcl_lite.config.run import UNFROZEN
from sparcl_lite.data.sources import Dataset
from sparcl_lite.data.streams import Batch, Task, TaskStream, steps_per_epoch
from sparcl_lite.engine import engine_for
from sparcl_lite.engine.update import SparseSGD
from sparcl_lite.errors import KitError
from sparcl_lite.feature_dropout import FeatureDropout
from sparcl_lite.measure.flops import Ledger, PassCounter, costs_of
from sparcl_lite.measure.metrics import class_il_correct, task_il_correct
from sparcl_lite.methods.base import Passes
from sparcl_lite.models import Network, whole_network
from sparcl_lite.pretraining import pretrain, split_classes
from sparcl_lite.registry import METHODS, STRATEGIES
from sparcl_lite.replay import ReservoirBuffer
from sparcl_lite.rng import Generators, derived_seed
from sparcl_lite.sparsity.base import Strategy
from sparcl_lite.sparsity.importance import Probe

ACCUMULATED = ("presented", "offered", "steps", "weight_density_sum", "gradient_density_sum")


class Trainer:
    """One run in progress.

    `on_epoch(trainer)` is called after every epoch, `on_step()` after every step. With `from_state` the network is left
    as it is built, since `load_state_dict` comes next: nothing is pre-trained or pruned again.
    """

    def __init__(
        self,
        config: RunConfig,
        dataset: Dataset,
        *,
        device: str = "cpu",
        on_epoch: Callable[["Trainer"], None] = lambda trainer: None,
        on_step: Callable[[], None] = lambda: None,
        from_state: bool = False,
        pretrain: Callable[..., dict] = pretrain,
    ):
        self.config, self.on_epoch, self.on_step = config, on_epoch, on_step
        self.rng = Generators(config.seed)
        source, dataset = split_classes(config, dataset, self.rng)
        self.stream = self._make_stream(dataset, device)
        self._check_removal()
        method = METHODS[config.method]
        self.pretraining: dict = {}
        self.network = self._make_network(None if from_state else source, dataset, device, pretrain)
        self.buffer = None
        if method.uses_buffer:
            self.buffer = ReservoirBuffer(config.buffer_size, self.rng.buffer, device)
        self.method = method(config, self.network, self.buffer, self.stream.augment)
        if config.sparse and not self.network.prunable:
            raise KitError(f"network = {config.network!r}: nothing in it can be pruned; allowed: sparse = none")
        strategy = STRATEGIES[config.sparse.kind] if config.sparse else Strategy
        self.sparsity = strategy(config, self.network, self.rng, len(self.stream.train.labels))
        self.network.engine = self._make_engine()
        self.dropout = self._make_dropout()
        self.ledger, self.passes = Ledger(costs_of(config)), PassCounter(self.network)
        self.probe = Probe(self.network, self.stream, self.buffer, self._count_probe)
        self.phases = self.method.phases(self.stream)
        self.position = (0, 0)  # phase and epoch that come next
        self.totals = dict.fromkeys(ACCUMULATED, 0.0)
        self.seconds = {"train": 0.0, "eval": 0.0, "train_processor": 0.0, "eval_processor": 0.0}
        shape = (config.task_count, config.task_count)
        self.class_il, self.task_il = np.full(shape, np.nan), np.full(shape, np.nan)
        self.trace: list[dict] = []

    def _make_stream(self, dataset: Dataset, device: str) -> TaskStream:
        return TaskStream(self.config, dataset, self.rng, device)

    def _make_network(self, source: Dataset | None, dataset: Dataset, device: str, pretrain: Callable) -> Network:
        """The network with its first weights, pre-trained on `source` where there is one."""
        config, seed = self.config, derived_seed(self.config.seed, "init")
        whole = whole_network(config, seed).to(device)
        if source is not None:
            self.pretraining = pretrain(config, whole, source, dataset, device)
        return METHODS[config.method].derive(config, whole, seed).to(device)

    def _make_engine(self):
        config = self.config
        kind = config.engine if config.sparse and config.freeze == UNFROZEN else "dense"
        return engine_for(kind, self.network, self.sparsity, alone=self.method.keeps_to_loss)

    def _make_dropout(self) -> FeatureDropout | None:
        if not (self.config.clfd and self.config.clfd.cffs):
            return None
        return FeatureDropout(self.config, self.network.selection, self.stream, self.rng.selection)

    def _check_removal(self) -> None:
        """Raise `KitError` where DDR leaves too few samples for a step."""
        config, whole = self.config, self.stream.smallest
        left = config.sparse.samples_left(whole, config.epochs) if config.sparse else whole
        if not steps_per_epoch(config, left):
            raise KitError(
                f"batch_size = {config.batch_size}: DDR leaves {left} of a task's {whole} samples, which are no "
                f"complete batch; allowed: up to {left}, or drop_last = false"
            )

    def run(self) -> None:
        """Train from the current position to the end, and evaluate after each phase.

        Raises `KitError` when training diverges.
        """
        first_phase, first_epoch = self.position
        for number in range(first_phase, len(self.phases)):
            start = first_epoch if number == first_phase else 0
            if start == 0:
                self.begin(number)
            else:
                self._enter(number)
            for epoch in range(start, self.config.epochs):
                self.train_epoch(number, epoch)
                self.position = (number, epoch + 1)
                self.on_epoch(self)
            self.end(number)
            self.evaluate(seen=self.config.task_count if len(self.phases) == 1 else number + 1)

    def begin(self, number: int) -> None:
        """Before the first epoch of a phase: freeze what it does not train, tell the method and the strategy."""
        self._enter(number)
        phase = self._phase(number)
        with self._timed("train"):
            self.method.begin_task(phase, self.stream)
            if self.dropout:
                self.dropout.begin_task(phase)
            self._count_auxiliary()
        self.sparsity.begin_task(phase)

    def end(self, number: int) -> None:
        """After the last epoch of a phase: tell the method and the strategy."""
        phase = self._phase(number)
        with self._timed("train"):
            self.method.end_task(self.phases[number], self.stream)
            self._count_auxiliary()
        self.sparsity.end_task(phase)

    def _enter(self, number: int) -> None:
        """Freeze what this phase does not train, and count accordingly."""
        self.method.arrange(self.config, self.network, number)
        self.ledger.costs = costs_of(self.config, number)

    def _phase(self, number: int) -> Task:
        """The phase with all samples that its epochs present."""
        phase = self.phases[number]
        return replace(phase, samples=self.method.training_set(phase))

    def train_epoch(self, number: int, epoch: int) -> None:
        """One epoch of a phase that has begun.

        Raises `KitError` when training diverges.
        """
        phase = self._phase(number)
        with self._timed("train"):
            self._train(phase, epoch)

    def _train(self, phase: Task, epoch: int) -> None:
        self.network.train()
        self.method.begin_epoch(phase, epoch)
        if self.dropout:
            self.dropout.begin_epoch(phase, epoch)
        samples = self.sparsity.begin_epoch(phase, epoch, self.probe)
        self.totals["offered"] += len(phase.samples)
        with SparseSGD(self.network, self.config.lr) as optimizer:
            for batch in self.stream.epoch(phase, samples):
                if self.dropout:
                    self.dropout.begin_step(batch)
                logits = self.method.step(batch, optimizer, lambda step=batch.step: self._edit_gradients(step))
                self.sparsity.observe(batch, logits)
                self._count_step(batch)
                self.on_step()
        self._check_finite(phase, epoch)
        self._record(phase, epoch, len(samples))

    def _count_step(self, batch: Batch) -> None:
        weights = self.sparsity.weights
        self.totals["steps"] += 1
        self.totals["presented"] += len(batch.labels)
        self.totals["weight_density_sum"] += _overall(self.sparsity.weight_density, weights)
        self.totals["gradient_density_sum"] += _overall(self.sparsity.gradient_density, weights)

    def _check_finite(self, phase: Task, epoch: int) -> None:
        if not all(bool(value.isfinite().all()) for value in self.network.state_dict().values()):  # statistics too
            raise KitError(
                f"training diverged in task {phase.index + 1}, epoch {epoch + 1}: the weights are no longer finite; "
                f"try a smaller lr than {self.config.lr}"
            )

    def _edit_gradients(self, step: int) -> None:
        passed, weights = self.passes.take(), self.sparsity.weight_density
        needed = self.sparsity.edit_gradients(step, self.probe)
        self.ledger.add_training(passed.training, weights, needed, passed.skipped)
        self.ledger.add_auxiliary(Passes(forward=passed.forward), weights)

    def _count_auxiliary(self) -> None:
        self.ledger.add_auxiliary(self.passes.take(), self.sparsity.weight_density)

    def _count_probe(self, samples: int) -> None:
        self.passes.take()
        self.ledger.add_importance(samples, self.sparsity.weight_density)

    def _record(self, phase: Task, epoch: int, samples: int) -> None:
        weights = self.sparsity.weights
        self.trace.append(
            {
                "task": phase.index,
                "epoch": epoch,
                "samples": samples,
                "weight_density": round(_overall(self.sparsity.weight_density, weights), 6),
                "gradient_density": round(_overall(self.sparsity.gradient_density, weights), 6),
            }
        )

    def evaluate(self, seen: int) -> None:
        """Accuracy of the first `seen` tasks, which is row `seen` of the matrices."""
        with self._timed("eval"):
            for index, task in enumerate(self.stream.tasks[:seen]):
                self._evaluate(task, row=seen - 1, column=index)
        self.passes.take()  # testing is no training cost

    @torch.no_grad()
    def _evaluate(self, task: Task, row: int, column: int) -> None:
        self.network.eval()
        known = task if self.method.task_aware else None
        right, right_in_task, count = 0, 0, 0
        for inputs, labels in self.stream.evaluation_batches(task):
            logits = self.method.predict(inputs, known)
            right += int(class_il_correct(logits, labels).sum())
            right_in_task += int(task_il_correct(logits, labels, task.classes).sum())
            count += len(labels)
        if known is None:
            self.class_il[row, column] = 100 * right / count
        self.task_il[row, column] = 100 * right_in_task / count

    @contextmanager
    def _timed(self, what: str):
        start, processor = time.perf_counter(), time.process_time()
        yield
        self.seconds[what] += time.perf_counter() - start
        self.seconds[f"{what}_processor"] += time.process_time() - processor

    def state_dict(self) -> dict:
        """Everything that decides how the run goes on: live tensors, to be saved before the next step."""
        return {
            "position": self.position,
            "pretraining": self.pretraining,
            "network": self.network.state_dict(),
            "buffer": None if self.buffer is None else self.buffer.state_dict(),
            "method": self.method.state_dict(),
            "sparsity": self.sparsity.state_dict(),
            "engine": self.network.engine and self.network.engine.state_dict(),
            "rng": self.rng.state_dict(),
            "ledger": self.ledger.by_part(),
            "totals": self.totals,
            "seconds": self.seconds,
            "matrices": (self.class_il.tolist(), self.task_il.tolist()),
            "trace": self.trace,
        }

    def load_state_dict(self, state: dict) -> None:
        """Continue where `state` was taken."""
        self.position = tuple(state["position"])
        self.pretraining = state.get("pretraining", {})
        self.network.load_state_dict(state["network"])
        if self.buffer is not None:
            self.buffer.load_state_dict(state["buffer"])
        self.method.load_state_dict(state["method"])
        self.sparsity.load_state_dict(state["sparsity"])
        if self.network.engine and state["engine"] is not None:
            self.network.engine.load_state_dict(state["engine"])
        self.rng.load_state_dict(state["rng"])
        for part, flops in state["ledger"].items():
            setattr(self.ledger, part, flops)
        self.totals, self.trace = self.totals | state["totals"], state["trace"]
        self.seconds |= state["seconds"]
        self.class_il, self.task_il = (np.array(m, dtype=float) for m in state["matrices"])


def _overall(densities: dict[str, float], weights: dict[str, torch.Tensor]) -> float:
    total = sum(weight.numel() for weight in weights.values())
    if not total:  # nothing in the network can be pruned
        return 1.0
    return sum(densities[name] * weight.numel() for name, weight in weights.items()) / total
