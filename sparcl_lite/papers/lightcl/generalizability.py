"""Which blocks of a network generalise: it is trained freely, and every task again with its first blocks frozen.

The metrics are those of `measure.generalizability`. One analysis is one result, kept in `generalizability/` beside the
training runs of a store.
"""

import copy
import time
from collections.abc import Iterable

import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict
from tqdm import tqdm

from sparcl_lite.config import RunConfig
from sparcl_lite.data.sources import load
from sparcl_lite.measure.generalizability import learning_plasticity, stability_by_block
from sparcl_lite.papers.lightcl.tables import protocol
from sparcl_lite.runs.result import environment
from sparcl_lite.runs.run import using_threads
from sparcl_lite.runs.store import Store
from sparcl_lite.training import Trainer

AUTHORS_LR = 0.01
NAMES = {True: "pre-trained", False: "as drawn"}


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

    config: RunConfig
    blocks: list[Block]
    pretraining: dict = {}
    seconds: float
    environment: dict


def beside(store: Store) -> Store:
    """The store of analyses that belongs to one of training runs."""
    return store.beside("generalizability", BlockAnalysis)


def configs(seeds: int, **shared) -> list[RunConfig]:
    """Plain training on the stream of LightCL's table at its authors' learning rate, with and without pre-training."""
    own = protocol(**shared) | {"method": "sgd", "lr": AUTHORS_LR}
    drawn = own | {"pretraining_epochs": 0}
    return [RunConfig(**values, seed=seed) for values in (own, drawn) for seed in range(seeds)]


def analyses(wanted: Iterable[RunConfig], store: Store) -> list[BlockAnalysis]:
    """The analysis of each configuration; those that are not beside the runs of `store` are made, one by one."""
    kept, wanted = beside(store), list(wanted)
    found = [kept.get(config) for config in wanted]
    missing = [config for config, result in zip(wanted, found, strict=True) if result is None]
    for config in tqdm(missing, desc="analyses", disable=not missing):
        kept.put(analyse(config))
    return [kept.get(config) for config in wanted]


def points(found: Iterable[BlockAnalysis]) -> pd.DataFrame:
    """One line an analysis, task and block: pretraining, seed, task, block, plasticity, stability."""
    return pd.DataFrame(
        {
            "pretraining": NAMES[result.config.pretraining_epochs > 0],
            "seed": result.config.seed,
            "task": block.task,
            "block": block.block,
            "plasticity": float(learning_plasticity(block.frozen, block.free)),
            "stability": block.stability,
        }
        for result in found
        for block in result.blocks
    )


def analyse(config: RunConfig, *, threads: int = 1) -> BlockAnalysis:
    """Train all tasks freely; then each task after the first again, from where it began, up to each block frozen."""
    begun, dataset = time.perf_counter(), load(config.dataset)
    with using_threads(threads):
        free, ends = _trained_freely(config, dataset)
        blocks = [
            block for task in range(1, config.task_count) for block in _of_task(config, dataset, free, ends, task)
        ]
    return BlockAnalysis(
        config=config, blocks=blocks, pretraining=free.pretraining,
        seconds=time.perf_counter() - begun, environment=environment(threads, "cpu"),
    )  # fmt: skip


def _trained_freely(config: RunConfig, dataset) -> tuple[Trainer, list[dict]]:
    """The trainer after its last task, and its state at the end of each."""
    ends: list[dict] = []

    def keep(trainer: Trainer) -> None:
        if trainer.position[1] == config.epochs:
            ends.append(copy.deepcopy(trainer.state_dict()))

    free = Trainer(config, dataset, on_epoch=keep)
    free.run()
    return free, ends


def _of_task(config: RunConfig, dataset, free: Trainer, ends: list[dict], task: int) -> Iterable[Block]:
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
