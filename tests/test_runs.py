"""A run is trained once, by one process, and ends with the same bits however often it was interrupted."""

import contextlib
import multiprocessing
import os
import re
import signal
import threading
import time
from collections import namedtuple

import pytest
import torch

from sparcl_lite.config import RunConfig
from sparcl_lite.data.streams import TaskStream
from sparcl_lite.errors import KitError
from sparcl_lite.runs import train
from sparcl_lite.runs.run import default_store, run
from sparcl_lite.runs.store import DamagedResult, Store
from sparcl_lite.sparsity import SparCL
from sparcl_lite.training import Trainer

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["pytest", "sklearn.datasets", "sparcl_lite.runs.train", "torch._dynamo"])
SPARSE = {"sparsity": 0.5, "interval": 0.2, "gradient_interval": 3}
OF_THE_OCCASION = {"seconds", "peak_memory_bytes", "started", "finished", "environment"}


def tiny(**values):
    """Two tasks of 50 digits: 4 steps an epoch, 3 epochs a task."""
    small = {"tasks": 2, "images_per_class": 10, "width": 8, "epochs": 3, "buffer_size": 20}
    return RunConfig(**({"profile": "smoke", "method": "er"} | small | values))


def numbers(result):
    return result.model_dump(exclude=OF_THE_OCCASION)


def interrupt_in(epoch, how):
    """Have this process call `how` in the middle of the n-th epoch that it trains."""
    original, left = TaskStream.epoch, [epoch]

    def counted(self, *args):
        left[0] -= type(self) is TaskStream  # a plan counts the same batches without images
        for step, batch in enumerate(original(self, *args)):
            if left[0] == 0 and step == 1 and type(self) is TaskStream:
                how()
            yield batch

    TaskStream.epoch = counted


@pytest.fixture
def epochs(monkeypatch):
    """The epochs that this process trains from now on."""
    trained, original = [], Trainer.train_epoch

    def recorded(self, number, epoch):
        if type(self) is Trainer:  # a plan goes through the same epochs
            trained.append((number, epoch))
        original(self, number, epoch)

    monkeypatch.setattr(Trainer, "train_epoch", recorded)
    return trained


@pytest.fixture
def interrupted(monkeypatch):
    """Leave the checkpoint of a run that was stopped in its second task, as Ctrl-C does."""

    def stop():
        raise KeyboardInterrupt

    def leave(config, store):
        with monkeypatch.context() as patch:
            patch.setattr(TaskStream, "epoch", TaskStream.epoch)
            interrupt_in(5, stop)
            with contextlib.suppress(KeyboardInterrupt):
                run(config, store=store)
        return store.checkpoint_path(config)

    return leave


# -- a finished run


def test_a_finished_run_is_not_trained_again(tmp_path, monkeypatch):
    first = run(tiny(), store=tmp_path)
    monkeypatch.setattr(train, "Trainer", None)
    monkeypatch.setattr(train, "load", None)
    assert run(tiny(), store=str(tmp_path)) == first
    assert run(tiny(), store=Store(tmp_path / "new", tmp_path)) == first
    assert not (tmp_path / "new").exists()
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_damaged_result_is_reported_once_and_redone(tmp_path):
    first = run(tiny(), store=tmp_path)
    (tmp_path / f"{tiny().key}.json").write_text("")
    with pytest.raises(DamagedResult, match="run again to redo it"):
        run(tiny(), store=tmp_path)
    assert numbers(run(tiny(), store=tmp_path)) == numbers(first)


def test_the_default_store_can_be_set(tmp_path, monkeypatch):
    monkeypatch.delenv("SPARCL_LITE_STORE", raising=False)
    assert default_store().parts == ("build", "store")
    monkeypatch.setenv("SPARCL_LITE_STORE", str(tmp_path))
    assert default_store() == tmp_path


# -- what stops a run before it starts


def test_what_cannot_work_is_one_line_and_trains_nothing(tmp_path, monkeypatch, epochs):
    (tmp_path / "file").touch()
    with pytest.raises(KitError, match=r"^store = .*cannot be written to \(.+\)$"):
        run(tiny(), store=tmp_path / "file" / "store")
    with pytest.raises(KitError, match=r"^device = 'tpu' is not available here; allowed: auto, cpu, .+$"):
        run(tiny(), store=tmp_path, device="tpu")
    usage = namedtuple("usage", "free")(70 * 2**20)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(KitError, match=r"70 MiB free, but the run needs 1\d\d MiB$"):
        run(tiny(buffer_size=500_000), store=tmp_path)
    assert epochs == []


# -- interruption


def run_until_killed(config, root, epoch):
    interrupt_in(epoch, lambda: os.kill(os.getpid(), signal.SIGKILL))
    run(config, store=root)


@pytest.mark.parametrize(
    "values",
    [
        {"method": "er"},
        {"method": "der++", "sparse": SparCL(**SPARSE)},
        {"method": "der++", "sparse": SparCL(variant="official", **SPARSE)},
    ],
    ids=["er", "paper", "official"],
)
def test_a_killed_run_ends_with_the_bits_of_an_uninterrupted_one(tmp_path, epochs, values):
    config = tiny(**values)
    whole = run(config, store=tmp_path / "whole")
    assert len(epochs) == 6
    epochs.clear()
    store, places = Store(tmp_path / "killed"), []
    for epoch in (2, 3, 2):
        process = FORKSERVER.Process(target=run_until_killed, args=(config, store.root, epoch))
        process.start()
        process.join(200)
        assert process.exitcode == -signal.SIGKILL
        assert store.get(config) is None
        places.append(tuple(store.load_checkpoint(config)["trainer"]["position"]))
    assert places == [(0, 1), (0, 3), (1, 1)]  # within a task, between two tasks, in the last task
    resumed = run(config, store=store)
    assert epochs == [(1, 1), (1, 2)]
    assert numbers(resumed) == numbers(whole)
    assert not store.checkpoint_path(config).exists()


def cut(path):
    os.truncate(path, path.stat().st_size - 100)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def age(path):
    torch.save({"trainer": {"position": (0, 1)}, "started": "2020", "peak": 0}, path)


@pytest.mark.parametrize("spoil", [cut, flip, age], ids=["cut", "one bit", "of another version"])
def test_a_damaged_checkpoint_is_set_aside_and_the_run_starts_over(tmp_path, interrupted, epochs, spoil):
    store, config = Store(tmp_path), tiny()
    path = interrupted(config, store)
    epochs.clear()
    spoil(path)
    spoiled = path.read_bytes()
    with pytest.warns(UserWarning, match=r"is damaged \(\w+\); set aside as .+; the run starts over") as warned:
        result = run(config, store=store)
    assert "\n" not in str(warned[0].message)
    assert (tmp_path / "damaged" / path.name).read_bytes() == spoiled
    assert len(epochs) == 6
    assert numbers(result) == numbers(run(config, store=tmp_path / "whole"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="here a checkpoint of a GPU loads as it is")
def test_a_checkpoint_of_another_device_is_gone_on_from(tmp_path, interrupted, epochs, monkeypatch):
    store, config = Store(tmp_path), tiny()
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")  # as a GPU would write it
        path = interrupted(config, store)
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(path, weights_only=True)
    epochs.clear()
    result = run(config, store=store, device="cpu")
    assert epochs == [(1, 1), (1, 2)]
    assert numbers(result) == numbers(run(config, store=tmp_path / "whole"))


# -- several at once


def run_and_tell(config, root, ready, answers):
    original, trained = Trainer.run, []
    Trainer.run = lambda self: (trained.append(1), time.sleep(1), original(self))
    ready.wait()
    answers.put((len(trained), run(config, store=root).model_dump_json(), len(trained)))


def test_of_two_processes_one_trains_and_the_other_waits(tmp_path):
    ready, answers = FORKSERVER.Barrier(2), FORKSERVER.SimpleQueue()
    arguments = (tiny(), tmp_path, ready, answers)
    processes = [FORKSERVER.Process(target=run_and_tell, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    (_, first, trained), (_, second, trained_too) = answers.get(), answers.get()
    for process in processes:
        process.join(100)
    assert first == second
    assert trained + trained_too == 1


def test_threads_of_a_process_train_one_at_a_time(tmp_path, monkeypatch):
    active, seen, original = [], [], Trainer.run

    def watched(self):
        active.append(self)
        time.sleep(0.2)
        seen.append(len(active))
        original(self)
        active.remove(self)

    monkeypatch.setattr(Trainer, "run", watched)
    threads = [threading.Thread(target=run, args=(tiny(seed=s),), kwargs={"store": tmp_path}) for s in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1, 1]


# -- progress


def test_progress_goes_to_stderr_and_tells_the_time_left(tmp_path, capsys, interrupted):
    store = Store(tmp_path)
    interrupted(tiny(), store)
    steps = int(store.load_checkpoint(tiny())["trainer"]["totals"]["steps"])
    run(tiny(), store=store, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"\rer, buffer 20, digits, seed 0:  {100 * steps / 24:.0f}%")
    assert re.search(rf"{steps}/24 \[\d\d:\d\d<\?", err), "steps of an earlier process say nothing of the speed"
    assert re.search(r"24/24 \[\d\d:\d\d<00:00, .*(step/s|s/step)\]\n$", err)
    run(tiny(method="sgd"), store=store)
    assert capsys.readouterr() == ("", "")
