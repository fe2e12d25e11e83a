"""SIGKILL at random moments, to two processes that share a store; afterwards nothing may be missing or different."""

import multiprocessing
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from campaign import victims
from campaign.bad_files import config_of, result_of
from campaign.tally import Tally
from sparcl_lite.errors import KitError
from sparcl_lite.runs.listing import listed
from sparcl_lite.runs.store import Store

FORKSERVER = multiprocessing.get_context("forkserver")
PRELOADED = ["sklearn.datasets", "sparcl_lite.runs.train", "sparcl_lite.runs.listing", "torch._dynamo"]
FORKSERVER.set_forkserver_preload(PRELOADED)
KILLED = (-signal.SIGKILL, -signal.SIGXFSZ)
#: Kinds of moments, and how many of a hundred kills are of each; data and notebooks have their own part.
KINDS = {"training": 45, "checkpoint writing": 25, "result writing": 15, "packing": 15}
LONGEST = 120  # seconds that an undisturbed process may take
Failure = tuple[str, str]


class Reference:
    """The runs as they come out undisturbed: numbers, and a sum of the weights after every epoch."""

    def __init__(self, folder: Path, seed: int):
        self.runs, diary = victims.configs(seed), folder / "diary"
        folder.mkdir(parents=True)
        finish(None, diary, victims.train, folder / "store", self.runs)
        self.seconds = max(float(line.split()[1]) for line in lines(diary) if line.startswith("cpu "))
        results = {config.key: Store(folder / "store").get(config) for config in self.runs}
        self.numbers = {key: victims.numbers(result) for key, result in results.items()}
        self.packed = [result_of(config_of(seed + n)) for n in range(4)]  # that nobody trains
        self.numbers |= {result.config.key: victims.numbers(result) for result in self.packed}
        self.epochs = {line for line in lines(diary) if line.startswith("epoch ")}


def lines(diary: Path) -> list[str]:
    """Whole lines of a diary, if there is one."""
    text = diary.read_text(encoding="utf-8") if diary.exists() else ""
    return [line.removesuffix(victims.END) for line in text.splitlines() if line.endswith(victims.END)]


def start(rule: tuple | None, diary: Path, act: Any, *given: Any) -> multiprocessing.Process:
    """A victim on its way."""
    process = FORKSERVER.Process(target=victims.victim, args=(rule, diary, act, *given))
    process.start()
    return process


def finish(rule: tuple | None, diary: Path, act: Any, *given: Any) -> None:
    """The same, to its end."""
    process = start(rule, diary, act, *given)
    process.join(LONGEST)
    if process.exitcode is None:
        process.kill()
        note = "traceback waits for ever"
        victims.note(diary, note)


def wait(processes: list, rules: list[tuple | None]) -> int:
    """Wait for the processes, kill those whose rule is a time when it has come; how many died by their rule."""
    begun = time.monotonic()
    due = sorted((rule[1], n) for n, rule in enumerate(rules) if rule and rule[0] == "after")
    for seconds, n in due:
        processes[n].join(max(0.0, begun + seconds - time.monotonic()))
        processes[n].kill()
    for process in processes:
        process.join(LONGEST)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError("a process waits for ever")
    return sum(process.exitcode in KILLED for process in processes)


def rule_of(kind: str, rng: Random, seconds: float) -> tuple:
    """A moment of that kind."""
    if kind == "checkpoint writing":
        return rng.choice((("event", "checkpoints", rng.randint(1, 25)), ("bytes", int(10 ** rng.uniform(2.5, 5)))))
    if kind == "result writing":
        return "event", rng.choice((".json", ".json", "listing", ".owner", ".lock")), rng.randint(1, 4)
    if kind == "packing":
        return rng.choice((("event", "packed", rng.randint(1, 60)), ("event", ".json", rng.randint(1, 60))))
    return "cpu", rng.uniform(0.05, seconds)


def run(folder: Path, tally: Tally, *, count: int, seed: int) -> None:
    """Kill `count` processes, in stores that are each used until all of its runs are finished."""
    rng, reference = Random(seed), Reference(folder / "undisturbed", seed)
    left = {kind: max(1, round(count * share / 100)) for kind, share in KINDS.items()}
    for number in range(10 * count):
        if max(left.values()) <= 0:
            break
        place = folder / f"store-{number}"
        hit = _world(place, reference, rng, left)
        failures = list(_check(place, reference))
        for kind, killed in hit.items():
            tally.add(f"kill: {kind}", failures, injected=killed)
            failures = []  # told once


def _world(place: Path, reference: Reference, rng: Random, left: dict[str, int]) -> dict[str, int]:
    """Kills in one store until its runs are finished, of at most eight pairs; how many of each kind."""
    place.mkdir()
    for result in reference.packed:
        Store(place / "store").put(result)
    hit: dict[str, int] = {}
    for _ in range(8):
        wanted = [kind for kind, number in left.items() if number > 0]
        if not wanted or len(_finished(place)) == len(reference.runs):
            break
        kinds = [rng.choices(wanted, [left[kind] for kind in wanted])[0] for _ in range(2)]
        rules = [rule_of(kind, rng, reference.seconds) for kind in kinds]
        processes = [
            start(rule, place / "diary", *_task(kind, place / "store", reference, rng))
            for kind, rule in zip(kinds, rules, strict=True)
        ]
        wait(processes, rules)
        for kind, process in zip(kinds, processes, strict=True):
            if process.exitcode in KILLED:
                hit[kind] = hit.get(kind, 0) + 1
                left[kind] -= 1
        there = {result.config.key for result in Store(place / "store").results()}
        for key in _finished(place) - there:
            victims.note(place / "diary", f"lost {key}")
    return hit


def _task(kind: str, root: Path, reference: Reference, rng: Random) -> tuple:
    if kind == "packing":
        return victims.pack, root, reference.packed
    return victims.train, root, rng.sample(reference.runs, len(reference.runs))


def _finished(place: Path) -> set[str]:
    return {line.split()[1] for line in lines(place / "diary") if line.startswith("finished ")}


def _check(place: Path, reference: Reference) -> Iterator[Failure]:
    """Finish what is left, and compare everything."""
    root, diary = place / "store", place / "diary"
    wait([start(None, diary, victims.train, root, reference.runs)], [None])
    wait([start(None, diary, victims.pack, root, reference.packed)], [None])
    store = Store(root)
    store.pack()
    try:
        results = list(store.results())
    except KitError as error:
        yield "wrong", str(error)
        return
    keys = [result.config.key for result in results]
    for key, expected in reference.numbers.items():
        if keys.count(key) != 1:
            yield ("lost" if key not in keys else "wrong"), f"{key} is there {keys.count(key)} times"
        elif victims.numbers(results[keys.index(key)]) != expected:
            yield "wrong", f"{key} has other numbers than the undisturbed run"
    if sorted(keys) != sorted(line.split()[0] for line in listed(store)):
        yield "wrong", "the listing is not that of the results"
    yield from _told(diary, reference)
    yield from (("wrong", f"{path.name} was set aside") for path in root.rglob("damaged/*"))
    left = [path.name for path in root.rglob("*") if path.suffix in (".tmp", ".pt", ".json")]
    if left:
        yield "wrong", f"files are left: {left}"


def _told(diary: Path, reference: Reference) -> Iterator[Failure]:
    """What the processes noted: weights that differ, warnings, results gone, exceptions."""
    for line in set(lines(diary)):
        kind = line.partition(" ")[0]
        if kind == "epoch" and line not in reference.epochs:
            yield "wrong", f"other weights: {line}"
        elif kind == "lost":
            yield "lost", line
        elif kind in ("warning", "twice"):
            yield "wrong", line
        elif kind == "traceback":
            yield "tracebacks", line
