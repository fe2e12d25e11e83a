"""What the processes do that are killed: train, pack, fetch. Each runs in a process of its own, from a fork server.

A rule says when it dies: at the n-th use of files whose name has some text in it, at the n-th byte of a file that it
writes, or when its parent says so.
"""

import gc
import hashlib
import os
import resource
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sparcl_lite.config import RunConfig
from sparcl_lite.data import published
from sparcl_lite.data.download import RemoteFile
from sparcl_lite.data.sources import fetch, load
from sparcl_lite.registry import DATASETS
from sparcl_lite.runs.job import Watch
from sparcl_lite.runs.listing import listed
from sparcl_lite.runs.result import RunResult
from sparcl_lite.runs.run import run
from sparcl_lite.runs.store import Store
from sparcl_lite.runs.training import Training
from sparcl_lite.sparsity import SparCL

SPARSE = {"sparsity": 0.5, "interval": 0.2, "gradient_interval": 3}
OF_THE_OCCASION = {"seconds", "peak_memory_bytes", "started", "finished", "environment"}
END = "\t."
FILE_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir")


def configs(seed: int) -> list[RunConfig]:
    """Two runs of two tasks and three epochs: replay, and SparCL over it."""
    small = {"profile": "smoke", "dataset": "digits", "tasks": 2, "images_per_class": 10, "width": 8, "epochs": 3}
    kinds = [
        {"method": "er"},
        {"method": "der++", "sparse": SparCL(**SPARSE)},
    ]
    return [RunConfig(**small, buffer_size=20, seed=seed, **kind) for kind in kinds]


def numbers(result: Any) -> dict:
    """What has to be the same wherever and however often a run was interrupted."""
    return result.model_dump(exclude=OF_THE_OCCASION)


class Witness(Watch):
    """Writes a sum of all weights after every epoch to a file, in one piece."""

    def __init__(self, key: str, diary: Path):
        self.key, self.diary = key, diary

    def begin(self, trainer: Any, steps: int) -> None:
        """Remember whose weights they are."""
        self.trainer = trainer

    def epoch(self) -> None:
        """One line: key, task, epoch and sum."""
        digest = hashlib.sha256()
        for value in self.trainer.network.state_dict().values():
            digest.update(value.contiguous().numpy().tobytes())
        task, epoch = self.trainer.position
        note(self.diary, f"epoch {self.key} {task} {epoch} {digest.hexdigest()}")


def note(diary: Path, line: str) -> None:
    """Append a line to a file, in one piece; `END` tells whole lines from those at which their process was killed."""
    with open(diary, "ab", buffering=0) as file:
        file.write(f"\n{line}{END}\n".encode())


def victim(rule: tuple | None, diary: Path, act: Callable, *given: Any) -> None:
    """Do something until the rule kills this process; warnings and an exception go to the diary."""
    torch.set_num_threads(1)
    gc.freeze()  # what the fork server has imported is no garbage
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - bars, and who waits for whom
    warnings.showwarning = lambda message, *_, **__: note(diary, f"warning {' '.join(str(message).split())}")
    warnings.simplefilter("always")
    begun = time.process_time()
    try:
        _arm(rule)
        act(diary, *given)
        note(diary, f"cpu {time.process_time() - begun}")
    except BaseException:
        note(diary, f"traceback {' | '.join(traceback.format_exc().splitlines()[-3:])}")


def _die_after(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(rule: tuple | None) -> None:
    if rule and rule[0] == "cpu":  # of the processor: however busy the machine is
        threading.Thread(target=_die_after, args=rule[1:], daemon=True).start()
    if rule and rule[0] == "bytes":
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # as SIGKILL, but in the middle of a write
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (rule[1], rule[1]))
    if rule and rule[0] == "event":
        _, text, left = rule
        count = [left]

        def hook(event: str, arguments: tuple) -> None:
            if event in FILE_EVENTS and text in str(arguments[0]):
                count[0] -= 1
                if count[0] <= 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)


def train(diary: Path, root: Path, runs: list[RunConfig]) -> None:
    """Train all runs; each that is finished is noted."""
    for config in runs:
        run(Training(config, watch=Witness(config.key, diary)), store=root)
        note(diary, f"finished {config.key}")


def pack(diary: Path, root: Path, made: list[RunResult]) -> None:
    """Put and pack results again and again; one that was listed once and is no more is noted."""
    seen: set[str] = set()
    for result in 3 * made:
        with Store(root).lock(result.config):  # as a run has that is made again
            Store(root).put(result)
        Store(root).pack()
        here = [line.split()[0] for line in listed(Store(root))]
        if gone := seen - set(here):
            note(diary, f"lost {sorted(gone)}")
        if len(here) != len(set(here)):
            note(diary, f"twice {here}")
        seen |= set(here)


IMAGES = 10


def declare(url: str, checksum: str) -> None:
    """Have this process take a small archive at a local address for that of CIFAR-10."""
    known = DATASETS.entry("cifar10")
    small = replace(known.value, train_images=5 * IMAGES, test_images=IMAGES, sums=())
    DATASETS.adopt(replace(known, value=small))
    file = RemoteFile("cifar-10-python.tar.gz", checksum, (url,))
    source = replace(published.SOURCES["cifar10"][0], files=(file,))
    published.SOURCES["cifar10"] = (source,)


def get(diary: Path, directory: Path, url: str, checksum: str) -> None:
    """Fetch the archive, and note a sum of its images."""
    declare(url, checksum)
    fetch("cifar10", directory)
    data = load("cifar10", directory, download=False)
    digest = hashlib.sha256(data.train.images.numpy().tobytes() + data.test.labels.numpy().tobytes()).hexdigest()
    note(diary, f"fetched {digest}")
