"""Many small runs in one process, as in a day: memory stays flat, and the number of files bounded."""

import gc
from pathlib import Path

import psutil

from campaign import victims
from campaign.kills import lines, start
from campaign.tally import Tally
from sparcl_lite.config import RunConfig
from sparcl_lite.runs.run import run as run_job
from sparcl_lite.runs.store import Store

WARM = 30  # runs after which memory is first looked at
GROWTH_BYTES = 24 * 2**20  # that is none: what the allocator keeps goes up and down by so much
PACKED_EVERY = 50


def run(folder: Path, tally: Tally, *, count: int, seed: int) -> None:
    """`count` runs, one after the other, in a process of its own."""
    folder.mkdir(parents=True)
    process = start(None, folder / "diary", many, folder / "store", max(count, WARM + 10), seed)
    process.join(3600)
    told = [line for line in lines(folder / "diary") if line.startswith(("wrong", "traceback"))]
    failures = [("wrong" if line.startswith("wrong") else "tracebacks", line) for line in told]
    if "end" not in lines(folder / "diary"):
        failures.append(("wrong", "it did not come to its end"))
    tally.add("long run: runs in one process", failures, injected=max(count, WARM + 10))


def tiny(seed: int) -> RunConfig:
    """The smallest run there is: two tasks of one epoch."""
    small = {"tasks": 2, "images_per_class": 4, "width": 8, "epochs": 1, "buffer_size": 10}
    return RunConfig(profile="smoke", dataset="digits", method="er", seed=seed, **small)


def many(diary: Path, root: Path, count: int, seed: int) -> None:
    """Train, pack now and then, and look at memory and files."""
    store, process, early = Store(root), psutil.Process(), 0
    for number in range(count):
        run_job(tiny(seed * 10**5 + number), store=store)
        if number % PACKED_EVERY == PACKED_EVERY - 1:
            store.pack()
        if number == WARM:
            gc.collect()
            early = process.memory_info().rss
    gc.collect()
    grown, files = process.memory_info().rss - early, sum(path.is_file() for path in root.rglob("*"))
    victims.note(diary, f"grown by {grown / 2**20:.1f} MiB, {files} files")
    if grown > GROWTH_BYTES:
        victims.note(diary, f"wrong memory has grown by {grown / 2**20:.1f} MiB in {count} runs")
    if files > PACKED_EVERY + 5:
        victims.note(diary, f"wrong {files} files")
    if len(list(store.results())) != count:
        victims.note(diary, "wrong number of results")
    victims.note(diary, "end")
