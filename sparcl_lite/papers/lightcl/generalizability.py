"""Which blocks of a network generalise, with and without pre-training: an experiment, and the points of its figure."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from sparcl_lite.measure.generalizability import learning_plasticity
from sparcl_lite.papers.experiments import Experiment, Row
from sparcl_lite.papers.lightcl.tables import protocol
from sparcl_lite.runs.blocks import Analysis, BlockAnalysis

AUTHORS_LR = 0.01
SEEDS = 3
NAMES = {True: "pre-trained", False: "as drawn"}


def generalizability(**shared: Any) -> Experiment:
    """Plain training on the stream of LightCL's table at its authors' learning rate, with and without pre-training."""
    shared = protocol(**shared) | {"method": "sgd", "lr": AUTHORS_LR}
    changes = {NAMES[True]: {}, NAMES[False]: {"pretraining_epochs": 0}}
    rows = tuple(Row(name, name, values, SEEDS) for name, values in changes.items())
    return Experiment("lightcl_generalizability", "lightcl", None, rows, shared, job=Analysis)


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
