"""Faults that are no kills: a full disk, a read-only store, no locks, a clock set back, other versions."""

import ctypes
import errno
import fcntl
import json
import os
import resource
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from unittest.mock import patch

import torch

from campaign import victims
from campaign.kills import Failure, Reference, lines, start, wait
from campaign.tally import Tally
from sparcl_lite.errors import KitError
from sparcl_lite.runs import result as results_module
from sparcl_lite.runs.listing import listed
from sparcl_lite.runs.run import run
from sparcl_lite.runs.store import Store

NOBODY = 65534
NEW_MOUNTS = 0x00020000  # CLONE_NEWNS of Linux


def faults(folder: Path, tally: Tally, *, count: int, seed: int) -> None:
    """Every kind of fault, `count` times, each in a store of its own."""
    rng, reference = Random(seed), Reference(folder / "undisturbed", seed)
    kinds = {
        "full disk": full_disk, "small file system": small_file_system, "read-only store": read_only,
        "no locks": no_locks, "clock set back": clock_set_back, "two versions": two_versions,
        "checkpoint of an older version": older_checkpoint,
    }  # fmt: skip
    if not can_mount():
        del kinds["small file system"]
    for name, fault in kinds.items():
        for turn in range(count):
            place = folder / f"{name}-{turn}".replace(" ", "-")
            place.mkdir()
            done = start(None, place / "diary", fault, place, reference, rng.randrange(10**6))
            wait([done], [None])
            tally.add(name, list(_told(place / "diary")))


def _told(diary: Path) -> Iterator[Failure]:
    said = lines(diary)
    if "end" not in said:
        yield "wrong", "it did not come to its end"
    for line in said:
        kind = line.partition(" ")[0]
        if kind in ("lost", "wrong"):
            yield kind, line
        elif kind == "traceback":
            yield "tracebacks", line


def _compare(diary: Path, store: Store, reference: Reference) -> None:
    """Finish the runs, and compare them with the undisturbed ones."""
    for config in reference.runs:
        found = victims.numbers(run(config, store=store))
        if found != reference.numbers[config.key]:
            victims.note(diary, f"wrong {config.key} has other numbers")
    if len(list(listed(store))) != len(list(store.results())):
        victims.note(diary, "wrong the listing is not that of the results")
    for path in store.root.rglob("damaged/*"):
        victims.note(diary, f"wrong {path.name} was set aside")
    victims.note(diary, "end")


def full_disk(diary: Path, place: Path, reference: Reference, draw: int) -> None:
    """No file may grow beyond a number of bytes, as on a disk that is full there: one line, and a sound store."""
    store = Store(place / "store")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for config in reference.runs:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(10 ** Random(draw).uniform(0, 4.5)), hard))
        said = _finishes_or_refuses(config, store, reference)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        victims.note(diary, said)
    _compare(diary, store, reference)


def small_file_system(diary: Path, place: Path, reference: Reference, draw: int) -> None:
    """A file system in memory becomes full but for some bytes when a file of it is opened, then has room again."""
    store, rng = Store(place / "store"), Random(draw)
    ballast, spare, opened = store.root / "ballast", rng.randrange(200_000), [rng.randint(1, 25)]
    store.root.mkdir()
    _mount(store.root, "size=80m")

    def fill(event: str, arguments: tuple) -> None:
        if event == "open" and str(arguments[0]).startswith(str(store.root)):
            opened[0] -= 1
            if not opened[0]:
                ballast.write_bytes(bytes(shutil.disk_usage(store.root).free - spare))
                victims.note(diary, "full")

    sys.addaudithook(fill)
    for config in reference.runs:
        victims.note(diary, _finishes_or_refuses(config, store, reference))
    ballast.unlink(missing_ok=True)
    _compare(diary, store, reference)


def can_mount() -> bool:
    """Whether this process may mount file systems that only it sees: on Linux, as root."""
    if os.getuid() or not (shutil.which("unshare") and shutil.which("mount")):
        return False
    return not subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode


def _mount(folder: Path, options: str) -> None:
    """Mount a file system in memory that ends with this process."""
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_MOUNTS):
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)


def _finishes_or_refuses(config: object, store: Store, reference: Reference) -> str:
    """A run on a disk that may be full: it has the right numbers, or says in one line what cannot be done."""
    try:
        found = victims.numbers(run(config, store=store))
    except KitError as error:
        message = str(error)
        clear = "\n" not in message and ("cannot be" in message or "MiB free, but" in message)
        return f"{'refused' if clear else 'wrong'} {message}"
    return "finished" if found == reference.numbers[config.key] else f"wrong {config.key} has other numbers"


def read_only(diary: Path, place: Path, reference: Reference, draw: int) -> None:
    """A store that another user owns: what is there is read, and what is not is refused in one line."""
    store = Store(place / "store")
    run(reference.runs[0], store=store)
    before = {path.name: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}
    for path in (store.root, *store.root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    for path in (place, *place.parents):  # the way there
        if path.stat().st_uid == os.getuid():
            path.chmod(path.stat().st_mode | 0o011)
    (place / "diary").touch()
    (place / "diary").chmod(0o666)
    if not os.getuid():
        os.seteuid(NOBODY)
    try:
        if victims.numbers(run(reference.runs[0], store=store)) != reference.numbers[reference.runs[0].key]:
            victims.note(diary, "wrong numbers are read")
        if len(list(listed(store))) != 1:
            victims.note(diary, "lost the listing lacks the run")
        try:
            run(reference.runs[1], store=store)
            victims.note(diary, "wrong it was written to")
        except KitError as error:
            if "cannot be written to" not in str(error):
                victims.note(diary, f"wrong {error}")
    finally:
        if not os.getuid():
            os.seteuid(0)
    if before != {path.name: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}:
        victims.note(diary, "wrong it changed")
    victims.note(diary, "end")


def no_locks(diary: Path, place: Path, reference: Reference, draw: int) -> None:
    """A file system that knows no locks: everything works, after a warning, also with two processes at once."""
    number = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)[draw % 3]

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    store = Store(place / "store")
    with patch.object(fcntl, "flock", refuse), patch.object(fcntl, "lockf", refuse):
        child = os.fork()
        for config in reference.runs if child else reversed(reference.runs):
            run(config, store=store)
        if not child:
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            victims.note(diary, "wrong the other process failed")
        try:
            store.pack()
        except KitError as error:
            if "without locks" not in str(error):
                victims.note(diary, f"wrong {error}")
        _compare(diary, store, reference)


def clock_set_back(diary: Path, place: Path, reference: Reference, draw: int) -> None:
    """The clock is set back by up to ten years in the middle of a run."""
    store, back, steps = Store(place / "store"), Random(draw).uniform(60, 3e8), [0]
    real, start_of_day = time.time, datetime.now(UTC)

    def earlier() -> float:
        steps[0] += 1
        return real() - (back if steps[0] > 3 else 0)

    def now() -> str:
        return (start_of_day - timedelta(seconds=back if steps[0] > 3 else 0)).isoformat(timespec="seconds")

    for config in reference.runs:
        with patch.object(time, "time", earlier), patch.object(results_module, "now", now):
            found = run(config, store=store)
        os.utime(store.path(config), (real() - back,) * 2)
        if min(found.seconds.train, found.seconds.eval) < 0:
            victims.note(diary, "wrong negative seconds")
    _compare(diary, store, reference)


def two_versions(diary: Path, place: Path, reference: Reference, draw: int) -> None:
    """Results with fields that this version does not know: used or left alone, and never set aside."""
    store, config = Store(place / "store"), reference.runs[draw % 2]
    path = store.path(config)
    run(config, store=store)
    given = json.loads(path.read_bytes())
    changed = json.loads(path.read_bytes())
    kind = draw // 2 % 3
    if kind == 0:
        changed["energy_joules"] = 1.5
    elif kind == 1:
        changed["config"]["new_field"] = False  # at its default: the key is the same
    else:
        changed["seconds"]["waiting"] = 0.0
    path.write_text(json.dumps(changed))
    newer = json.loads(json.dumps(given))
    newer["config"]["new_field"] = draw
    other = path.with_name(f"{draw:020x}.json")
    other.write_text(json.dumps(newer))
    before = path.read_bytes(), other.read_bytes()
    if victims.numbers(run(config, store=store)) != reference.numbers[config.key]:
        victims.note(diary, "wrong numbers of the newer version")
    _quietly(lambda: (list(store.results()), list(listed(store)), store.verify(), store.pack()))
    if not other.exists() or other.read_bytes() != before[1]:
        victims.note(diary, "lost the newer version's run")
    if store.get(config) is None:
        victims.note(diary, "lost the run that both know")
    other.unlink(missing_ok=True)
    _compare(diary, store, reference)


def older_checkpoint(diary: Path, place: Path, reference: Reference, draw: int) -> None:
    """A checkpoint that lacks something or has another shape: the run starts over, and comes out the same."""
    store, config, rng = Store(place / "store"), reference.runs[draw % 2], Random(draw)
    with _stopped():
        try:
            run(config, store=store)
        except InterruptedError:
            state = store.load_checkpoint(config)
    place_of, name = rng.choice([(state, name) for name in state] + 3 * _inner(state["trainer"]))
    value = place_of[name]
    if isinstance(value, torch.Tensor) and rng.random() < 0.5:
        place_of[name] = torch.zeros(*value.shape, 2)
    else:
        del place_of[name]
    store.save_checkpoint(config, state if rng.random() < 0.9 else [state])
    found = _quietly(lambda: run(config, store=store))
    if victims.numbers(found) != reference.numbers[config.key]:
        victims.note(diary, f"wrong numbers after a checkpoint without {name}")
    victims.note(diary, "end")


def _inner(state: dict) -> list[tuple[dict, str]]:
    """Every field of a trainer's state, and every field of those."""
    parts = [part for part in state.values() if isinstance(part, dict)]
    return [(state, name) for name in state] + [(part, name) for part in parts for name in part]


@contextmanager
def _stopped() -> Iterator[None]:
    """Runs inside end after their second checkpoint."""
    saves, original = [0], Store.save_checkpoint

    def save(self: Store, config: object, state: dict) -> None:
        original(self, config, state)
        saves[0] += 1
        if saves[0] == 2:
            raise InterruptedError

    with patch.object(Store, "save_checkpoint", save):
        yield


def _quietly(act: Callable) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return act()
