"""A store gives back what was put in, and nothing else: not after a crash, not from a damaged file."""

import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from sparcl_lite.config import RunConfig
from sparcl_lite.errors import KitError
from sparcl_lite.runs import listing
from sparcl_lite.runs import store as store_module
from sparcl_lite.runs.result import Flops, RunResult, Seconds
from sparcl_lite.runs.store import RESERVE_BYTES, DamagedResult, Store

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["pytest", "sklearn.datasets", "sparcl_lite.runs.train", "torch._dynamo"])


def config_of(**values):
    return RunConfig(**({"profile": "smoke", "method": "er"} | values))


def result_of(config, **values):
    """A result nobody trained, with numbers that do not survive a careless round trip."""
    fields = {
        "config": config,
        "accuracy_matrix": [[1.0, None], [2 / 3, 1e-17]],
        "task_il_matrix": [[1.0, None], [2.0, 3.0]],
        "forgetting": None,
        "flops": Flops(paper=8.3e15, honest=0.1 + 0.2, by_part={"forward": 1e16 + 2}),
        "seconds": Seconds(train=1.5, eval=0.25),
        "peak_memory_bytes": 2**40 + 1,
        "training_memory_bytes": {"weights": 7},
        "trace": {"task": [0, 1], "weight_density": [0.25, 0.1]},
        "environment": {"commit": None},
        "started": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T00:00:01+00:00",
    }
    plain = ("class_il", "task_il", "backward_transfer", "data_fraction", "weight_density", "gradient_density")
    return RunResult(**(dict.fromkeys(plain, 100 / 3) | fields | values))


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != listing.NAME]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


# -- addresses and round trips


def test_the_address_is_that_of_the_numbers_a_run_depends_on():
    key = config_of(seed=1).key
    assert key == RunConfig.model_validate_json(config_of(seed=1).model_dump_json()).key
    whole = config_of(seed=1, method="der++")  # which has all fields that a key may take from the profile
    assert whole.key == RunConfig(**(whole.model_dump() | {"profile": "lite"})).key
    assert key not in {config_of(seed=2).key, config_of(seed=1, lr=0.2).key, config_of(seed=1, method="der").key}


def test_what_is_put_is_what_is_got(tmp_path):
    store, result = Store(tmp_path / "new" / "store"), result_of(config_of())
    path = store.put(result)
    assert path.stem == result.config.key
    assert Store(store.root).get(result.config) == result
    assert list(store.results()) == [result]
    assert store.get(config_of(seed=1)) is None
    assert json.loads(path.read_text())["accuracy_matrix"] == [[1.0, None], [2 / 3, 1e-17]]


def test_further_stores_are_read_and_never_written(tmp_path):
    far, other = Store(tmp_path / "far"), Store(tmp_path / "other")
    configs = [config_of(seed=seed) for seed in range(3)]
    far.put(result_of(configs[0]))
    far.put(result_of(configs[1])).write_text("{")
    other.put(result_of(configs[1]))
    before = contents(tmp_path)
    store = Store(tmp_path / "near", far.root, other.root, tmp_path / "nowhere")
    assert store.get(configs[0]) == result_of(configs[0])
    with pytest.warns(UserWarning, match=r"far.*is damaged.*not used"):
        assert store.get(configs[1]) == result_of(configs[1])
    assert store.get(configs[2]) is None
    store.put(result_of(configs[0], class_il=1.0))
    assert store.get(configs[0]) == result_of(configs[0])  # the further stores come first
    assert [r.config for r in store.results()] == [configs[0]]
    assert before.items() <= contents(tmp_path).items()


# -- damage


@pytest.mark.parametrize(
    "content",
    [
        result_of(config_of()).model_dump_json().encode()[:-40],
        b"",
        b"\xff\x00\n\n",
        b'{"config": {"dataset": 3}}',
        result_of(config_of(seed=9)).model_dump_json().encode(),
    ],
    ids=["truncated", "empty", "binary", "another schema", "another run"],
)
def test_a_damaged_result_is_set_aside_and_never_used(tmp_path, content):
    store, config, sound = Store(tmp_path), config_of(), result_of(config_of(seed=1))
    path = store.put(result_of(config))
    store.put(sound)
    path.write_bytes(content)
    line = rf"^\S+{path.name} is damaged \(.+\); set aside as \S+; run again to redo it$"
    with pytest.raises(DamagedResult, match=line) as error:
        store.get(config)
    assert "\n" not in str(error.value)
    assert (tmp_path / "damaged" / path.name).read_bytes() == content
    assert store.get(config) is None
    assert list(store.results()) == [sound]
    store.put(result_of(config))
    assert store.get(config) == result_of(config)


def test_verify_and_listing_name_the_damaged_and_go_on(tmp_path):
    store = Store(tmp_path)
    paths = [store.put(result_of(config_of(seed=seed))) for seed in range(3)]
    paths[0].write_text("")
    paths[1].unlink()
    paths[1].mkdir()  # cannot be read, and is no reason to stop
    with pytest.warns(UserWarning, match="is damaged|cannot be read") as warned:
        assert [r.config.seed for r in store.results()] == [2]
    assert len(warned) == 2
    paths[2].write_text("[]")
    problems = "\n".join(store.verify()).splitlines()
    assert len(problems) == 2
    assert [path.exists() for path in paths] == [False, True, False]


def test_prune_leaves_results_and_runs_in_progress(tmp_path):
    store, idle, busy = Store(tmp_path), config_of(seed=1), config_of(seed=2)
    store.put(result_of(config_of())).write_text("")
    store.put(result_of(config_of(seed=3)))
    assert store.verify()
    (tmp_path / "damaged" / f"{idle.key}.pt").write_bytes(b"half")
    with store.lock(busy):
        for config in (idle, busy):
            store.save_checkpoint(config, {"weights": torch.zeros(1000)})
            for folder, ending in ((tmp_path, "json.1.tmp"), (tmp_path / "checkpoints", "pt.1.tmp")):
                (folder / f".{config.key}.{ending}").write_bytes(b"half")
        assert store.prune() > 4000
    left = {str(path.relative_to(tmp_path)) for path in contents(tmp_path)}
    assert {name for name in left if busy.key not in name} == {f"{config_of(seed=3).key}.json"}
    assert len(left) == 1 + 4
    assert store.prune() > 4000
    assert not list((tmp_path / "checkpoints").iterdir())
    assert list(store.results()) == [result_of(config_of(seed=3))]


# -- places that cannot be used


def test_a_full_disk_is_reported_with_both_numbers(tmp_path, monkeypatch):
    free = RESERVE_BYTES + 10 * 2**20
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("usage", "free")(free))
    Store(tmp_path).check_usable(10 * 2**20)
    with pytest.raises(KitError, match=r"74 MiB free, but the run needs 75 MiB$"):
        Store(tmp_path).check_usable(11 * 2**20)


def test_threads_may_check_a_store_at_once(tmp_path):
    def check(_):
        for _ in range(100):
            Store(tmp_path).check_usable(0)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(check, range(4)))
    assert not list(tmp_path.iterdir())


def write_beyond_the_limit(root, outcome):
    """As on a full disk: no file may grow beyond 8 KiB. In a process of its own: pytest's output may be a file too."""
    store, config = Store(root), config_of()
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
    for write in (
        lambda: store.put(result_of(config, trace={"task": list(range(10_000))})),
        lambda: store.save_checkpoint(config, {"epoch": 2, "weights": torch.rand(10_000)}),
    ):
        try:
            outcome.send(f"written: {write()}")
        except KitError as error:
            outcome.send(str(error))


@pytest.mark.slow
def test_a_disk_that_fills_up_while_writing_leaves_the_old_file(tmp_path):
    store, config = Store(tmp_path), config_of()
    store.put(result_of(config))
    store.save_checkpoint(config, {"epoch": 1, "weights": torch.zeros(10)})
    before = contents(tmp_path)
    ours, theirs = FORKSERVER.Pipe()
    process = FORKSERVER.Process(target=write_beyond_the_limit, args=(tmp_path, theirs))
    process.start()
    for name in ("json", "pt"):
        assert ours.poll(120), "no answer from the writer"
        assert re.fullmatch(rf"\S+{name} cannot be written \(.+\)", ours.recv())
    process.join(120)
    assert process.exitcode == 0
    assert contents(tmp_path) == before
    assert store.load_checkpoint(config)["epoch"] == 1


# -- kill -9


def die_while_writing(root, call, checkpoint):
    """Begin to replace a result or a checkpoint and be killed at a call of `os`."""
    setattr(store_module.os, call, lambda *args: os.kill(os.getpid(), signal.SIGKILL))
    if checkpoint:
        Store(root).save_checkpoint(config_of(), {"epoch": 2})
    else:
        Store(root).put(result_of(config_of(), class_il=2.0))


def write_for_ever(root):
    while True:
        for value in (1.0, 2.0):
            Store(root).put(result_of(config_of(), class_il=value, trace={"task": [value] * 50_000}))


def killed(target, *args, after=None):
    process = FORKSERVER.Process(target=target, args=args)
    process.start()
    if after is not None:
        process.join(after)
        process.kill()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_writer_killed_before_the_end_leaves_the_old_file(tmp_path, call):
    store, config = Store(tmp_path), config_of()
    store.put(result_of(config, class_il=1.0))
    store.save_checkpoint(config, {"epoch": 1})
    for checkpoint in (False, True):
        killed(die_while_writing, tmp_path, call, checkpoint)
    assert len([path for path in tmp_path.rglob("*.tmp") if path.is_file()]) == 2  # it was in the middle
    assert [r.class_il for r in store.results()] == [1.0]
    assert store.load_checkpoint(config) == {"epoch": 1}
    store.prune()
    assert [path.name for path in contents(tmp_path)] == [f"{config.key}.json"]


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path):
    store = Store(tmp_path)
    store.put(result_of(config_of()))
    for attempt in range(3):
        killed(write_for_ever, tmp_path, after=1 + 0.37 * attempt)
        result = store.get(config_of())
        assert result.trace["task"] in ([0, 1], [result.class_il] * 50_000)
    assert store.verify() == []


def test_committed_evidence_comes_before_own_runs(tmp_path):
    config = config_of()
    Store(tmp_path / "evidence").put(result_of(config, class_il=70.0))
    Store(tmp_path / "own").put(result_of(config, class_il=60.0))
    assert Store(tmp_path / "own", tmp_path / "evidence").get(config).class_il == 70.0
    assert Store(tmp_path / "own", tmp_path / "nowhere").get(config).class_il == 60.0
