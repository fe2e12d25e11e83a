"""The job that tells which blocks of a network generalise: it is trained freely, and every task again with its first
blocks frozen. The metrics are those of `measure.generalizability`.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from sparcl_lite import models
from sparcl_lite.config import RunConfig
from sparcl_lite.late import torch
from sparcl_lite.runs.job import Job
from sparcl_lite.runs.result import environment
from sparcl_lite.runs.store import Store

if TYPE_CHECKING:
    from sparcl_lite.training import Trainer


class BlockConfig(RunConfig):
    """A training run whose blocks are analysed; it has the run's key, and a folder of its own in the store."""


class Block(BaseModel):
    """One block on one task (counted from 1): Task-IL accuracies in percent, and memory stability."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    task: int
    block: str
    frozen: float
    free: float
    stability: float


class BlockAnalysis(BaseModel):
    """What became of every block on every task after the first."""

    config: BlockConfig
    blocks: list[Block]
    pretraining: dict = {}
    seconds: float
    environment: dict


class Analysis(Job):
    """Train all tasks freely; then each task after the first again, from where it began, up to each block frozen."""

    kind = folder = "generalizability"
    config_type, result_type = BlockConfig, BlockAnalysis
    columns = ("frozen", "free", "stability", "seconds")
    bits = frozenset({"blocks"})

    @property
    def label(self) -> str:
        """The trained method and data set."""
        return f"analysis of blocks, {self.config.method}, {self.config.dataset}"

    @property
    def cost(self) -> float:
        """Training steps, nearly all of them repeated for each block."""
        from sparcl_lite.measure.flops import paper_flops

        return paper_flops(self.config) * len(models.layout_of(self.config).boundaries)

    def compute(self, store: Store, progress: bool) -> BlockAnalysis:
        """The analysis; of a run that is interrupted nothing is kept."""
        from sparcl_lite.data.sources import load

        config, begun = self.config, time.perf_counter()
        dataset = load(config.dataset)
        free, ends = _trained_freely(config, dataset)
        tasks = range(1, config.task_count)
        blocks = [block for task in tasks for block in _of_task(config, dataset, free, ends, task)]
        return BlockAnalysis(
            config=config, blocks=blocks, pretraining=free.pretraining,
            seconds=time.perf_counter() - begun, environment=environment(self.threads, "cpu"),
        )  # fmt: skip

    @staticmethod
    def headline(result: BlockAnalysis) -> dict[str, float | None]:
        """Means over blocks and tasks: accuracies in percent, and stability."""
        names = {"frozen": "Task-IL frozen", "free": "Task-IL free", "stability": "stability"}
        return {name: float(np.mean([getattr(b, field) for b in result.blocks])) for field, name in names.items()}

    @classmethod
    def line(cls, result: BlockAnalysis) -> dict[str, float | None]:
        """The same means, and seconds."""
        return dict(zip(cls.columns, [*cls.headline(result).values(), result.seconds], strict=True))


def _trained_freely(config: RunConfig, dataset) -> tuple[Trainer, list[dict]]:
    """The trainer after its last task, and its state at the end of each."""
    from sparcl_lite.runs.pretrained import pretrained
    from sparcl_lite.training import Trainer

    ends: list[dict] = []

    def keep(trainer: Trainer) -> None:
        if trainer.position[1] == config.epochs:
            ends.append(copy.deepcopy(trainer.state_dict()))

    free = Trainer(config, dataset, on_epoch=keep, pretrain=pretrained)
    free.run()
    return free, ends


def _of_task(config: RunConfig, dataset, free: Trainer, ends: list[dict], task: int) -> Iterator[Block]:
    from sparcl_lite.measure.generalizability import stability_by_block
    from sparcl_lite.training import Trainer

    before, after = (_network(free, ends[at]) for at in (task - 1, task))
    earlier = [images for past in free.stream.tasks[:task] for images, _ in free.stream.evaluation_batches(past)]
    stability = stability_by_block(before, after, torch.cat(earlier))
    for boundary, block in zip(free.network.boundaries[1:], free.network.blocks, strict=True):
        again = Trainer(config.model_copy(update={"freeze": boundary}), dataset, from_state=True)
        again.load_state_dict(copy.deepcopy(ends[task - 1]))
        again.phases = again.phases[: task + 1]
        again.run()
        yield Block(
            task=task + 1, block=block, frozen=again.task_il[task, task], free=free.task_il[task, task],
            stability=stability[block],
        )  # fmt: skip


def _network(trainer: Trainer, state: dict):
    network = copy.deepcopy(trainer.network)
    network.load_state_dict(state["network"])
    return network
