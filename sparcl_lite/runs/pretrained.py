"""Pre-training done once for all runs that begin with it: a table's methods share it, and a sweep's workers."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import astuple
from functools import partial
from typing import Any, BinaryIO

import torch
from torch import Tensor

from sparcl_lite.config import RunConfig
from sparcl_lite.data.sources import Dataset
from sparcl_lite.kept import find, forget, keep, kept
from sparcl_lite.models import Network
from sparcl_lite.pretraining import pretrain
from sparcl_lite.runs.result import environment
from sparcl_lite.runs.states import read_state, write_state

ELSEWHERE = ("commit", "cores")  # of the environment, on which no bit depends


def pretrained(
    config: RunConfig,
    network: Network,
    source: Dataset,
    stream: Dataset,
    device: str,
    *,
    progress: bool = False,
    check_time: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """As `pretrain`, with the same bits; nothing is trained where it was before, by the same code on such a machine.

    After each epoch `check_time` may raise, and another call goes on from there. With a user's own network, data or
    method, whose code may change between two runs, it is trained each time, and whole.
    """
    given = config, network, source, stream, device
    if config.registered:
        return pretrain(*given, progress=progress)
    digest = _digest(*given)
    unfinished = f"{digest}-unfinished.pt"

    def on_epoch(state: dict[str, Any]) -> None:
        if keep(unfinished, state, write_state):
            check_time()

    def make() -> dict[str, Any]:
        begun = find(unfinished, partial(_read, device=device))
        report = pretrain(*given, progress=progress, begun=begun, on_epoch=on_epoch)
        return {"network": network.state_dict(), "report": report}

    state = kept(f"{digest}.pt", make, write_state, partial(_read, device=device))
    forget(unfinished)
    network.load_state_dict(state["network"])
    return state["report"]


def _read(file: BinaryIO, device: str) -> dict[str, Any]:
    try:
        return read_state(file, device)
    except Exception as error:  # torch raises many types for a broken archive
        raise ValueError(str(error)) from None


def _digest(config: RunConfig, network: Network, source: Dataset, stream: Dataset, device: str) -> str:
    """Hexadecimal digits of all that pre-training depends on but the package's code."""
    where = {k: v for k, v in environment(torch.get_num_threads(), device).items() if k not in ELSEWHERE}
    settings = [config.seed, config.batch_size, config.pretraining_epochs, config.pretraining_lr]
    digest = hashlib.sha256(json.dumps([where, settings, repr(network), str(astuple(source.spec))]).encode())
    for value in (*network.state_dict().values(), *_tensors(source), *_tensors(stream)):
        digest.update(str(tuple(value.shape)).encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _tensors(dataset: Dataset) -> tuple[Tensor, ...]:
    return dataset.train.images, dataset.train.labels, dataset.test.images, dataset.test.labels
