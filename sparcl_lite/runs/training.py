"""The job that trains: a `RunConfig` becomes a `RunResult`. How is in `train`, which a finished run does not need."""

from typing import Any

from sparcl_lite.config import RunConfig
from sparcl_lite.config.run import UNFROZEN
from sparcl_lite.registry import METHODS
from sparcl_lite.runs.job import Job
from sparcl_lite.runs.result import RunResult
from sparcl_lite.runs.store import Store


class Training(Job):
    """Training on a stream of tasks, with an evaluation after each."""

    kind, folder = "training", ""
    config_type, result_type = RunConfig, RunResult
    columns = ("class_il", "task_il", "forgetting", "flops_paper", "flops_honest", "seconds", "data_fraction")
    bits = frozenset({"accuracy_matrix", "task_il_matrix", "flops"})

    @property
    def label(self) -> str:
        """What is trained: `sparcl-der++ 0.90, buffer 200, fashion-mnist`."""
        config, sparse = self.config, self.config.sparse
        parts = [f"{sparse.kind}-{config.method} {sparse.sparsity:.2f}" if sparse else config.method]
        if config.method in METHODS and METHODS[config.method].uses_buffer:  # else its code is not here
            parts.append(f"buffer {config.buffer_size}")
        if config.freeze != UNFROZEN:
            parts.append(f"frozen to {config.freeze}")
        return ", ".join([*parts, config.dataset])

    @property
    def dataset(self) -> str:
        """The one that it trains on."""
        return self.config.dataset

    @property
    def cost(self) -> float:
        """FLOPs."""
        from sparcl_lite.measure.flops import paper_flops

        return paper_flops(self.config)

    @property
    def disk_bytes(self) -> int:
        """Two checkpoints (the old one stays until the new one is whole): weights, two masks, gradients and buffer."""
        from sparcl_lite.measure.flops import costs_of
        from sparcl_lite.planning import training_memory

        weights = sum(cost.parameters for cost in costs_of(self.config, self.config.task_count - 1))
        return 2 * (weights * (4 + 4 + 2) + training_memory(self.config)["buffer"]) + 2**20

    def compute(self, store: Store, progress: bool) -> RunResult:
        """Train, from the last checkpoint if there is one."""
        from sparcl_lite.runs.train import train

        return train(self, store, progress)

    @staticmethod
    def headline(result: RunResult) -> dict[str, float | None]:
        """Accuracies in percent, and FLOPs."""
        return {"Class-IL": result.class_il, "Task-IL": result.task_il, "FLOPs": result.flops.honest}

    @classmethod
    def line(cls, result: RunResult) -> dict[str, Any]:
        """Accuracies in percent, FLOPs and seconds of training."""
        fields = result.model_dump(include={"class_il", "task_il", "forgetting", "data_fraction"})
        flops = {"flops_paper": result.flops.paper, "flops_honest": result.flops.honest}
        return fields | flops | {"seconds": result.seconds.train}
