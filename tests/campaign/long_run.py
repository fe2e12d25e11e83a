"""Many small runs in one process, as in a day, and many results in one store.

Memory stays flat, the number of files bounded, and the listing quick.
"""

import gc
import os
import subprocess
import sys
from pathlib import Path

import psutil

from campaign import victims
from campaign.kills import lines, start
from campaign.tally import Tally
from sparcl_lite.config import RunConfig
from sparcl_lite.runs.listing import listed, remember, state_of
from sparcl_lite.runs.run import run as run_job
from sparcl_lite.runs.store import Store

WARM = 30  # runs after which memory is first looked at
GROWTH_BYTES = 24 * 2**20  # that is none: what the allocator keeps goes up and down by so much
PACKED_EVERY = 50
LISTED_PER_RUN = 333  # results that are listed, for each run of the long one: 100,000 in a whole campaign
LISTING_SECONDS = 2.0  # of the processor, for a process that lists 100,000


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
    results = count * LISTED_PER_RUN
    tally.add(f"long run: {results:,} results listed", listing(folder / "many", results))


def listing(root: Path, count: int) -> list[tuple[str, str]]:
    """Failures of `store list` with `count` results, which have been listed before: too slow, or not all are there."""
    store = Store(root)
    run_job(tiny(0), store=store)
    list(listed(store))
    data, (line,) = store.path(tiny(0)).read_bytes(), list(listed(store))
    said, states = line.partition("  ")[2], []
    for number in range(1, count):
        path = root / f"{number:020x}.json"
        path.write_bytes(data)
        states.append((f"training/{path.stem}", state_of(path.stat()), said))
    remember(root, states)
    command = [sys.executable, "-m", "sparcl_lite", "store", "list", "--store", str(root)]
    before = os.times()
    shown = subprocess.run(command, capture_output=True, text=True)
    seconds = sum(os.times()[2:4]) - sum(before[2:4])
    failures = []
    if len(shown.stdout.splitlines()) != count:
        failures.append(
            ("lost", f"{len(shown.stdout.splitlines())} of {count} results are listed {shown.stderr[:200]}")
        )
    if seconds > LISTING_SECONDS * max(1, count / 100_000):
        failures.append(("wrong", f"listing {count} results took {seconds:.1f} s of the processor"))
    return failures


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
