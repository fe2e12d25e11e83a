"""A sweep gives results in order, and a failure, a dead worker or Ctrl-C costs only what was under way."""

import gc
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import requests
from dask.distributed import Client, KilledWorker, LocalCluster

from sparcl_lite.clustering.config import ClusteringConfig
from sparcl_lite.config import RunConfig
from sparcl_lite.data import download
from sparcl_lite.data.streams import TaskStream
from sparcl_lite.errors import KitError
from sparcl_lite.runs import cluster
from sparcl_lite.runs import sweep as sweeps
from sparcl_lite.runs.forecast import forecast
from sparcl_lite.runs.job import Job
from sparcl_lite.runs.progress import Bar
from sparcl_lite.runs.run import run
from sparcl_lite.runs.store import Store
from sparcl_lite.runs.sweep import SweepError, sweep
from sparcl_lite.runs.training import Training
from sparcl_lite.training import Trainer

pytestmark = pytest.mark.slow

OF_THE_OCCASION = {"seconds", "peak_memory_bytes", "started", "finished", "environment"}


def tiny(**values):
    """Two tasks of 50 digits: 4 steps an epoch, 3 epochs a task."""
    small = {"tasks": 2, "images_per_class": 10, "width": 8, "epochs": 3, "buffer_size": 20}
    return RunConfig(**({"profile": "smoke", "method": "er"} | small | values))


def numbers(result):
    return result.model_dump(exclude=OF_THE_OCCASION)


@pytest.fixture(scope="module")
def scheduler():
    """The address of a running scheduler; its workers are threads, so that what a test patches holds there too."""
    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, protocol="tcp://", dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def no_cluster(monkeypatch):
    monkeypatch.setattr(sweeps, "_client", None)


# -- what is run, and where


def test_results_come_in_order_and_duplicates_are_trained_once(tmp_path, scheduler, monkeypatch, capsys):
    trained, original, finish = [], Trainer.run, Bar.finish
    taken, counted = threading.Lock(), threading.Event()

    def in_turn(trainer):
        with taken:
            trained.append(trainer.config)
            last = len(trained) == 3
        if last:  # otherwise the bar may count part of this run when it counts the one before as done
            assert counted.wait(60)
        original(trainer)

    monkeypatch.setattr(Trainer, "run", in_turn)
    monkeypatch.setattr(Bar, "finish", lambda bar, name: (finish(bar, name), counted.set()))
    first, second, third = (tiny(seed=seed) for seed in range(3))
    kept = run(second, store=tmp_path)
    results = sweep([third, second, first, third], store=tmp_path, scheduler=scheduler)
    assert [result.config for result in results] == [third, second, first, third]
    assert results[1] == kept
    assert sorted(config.seed for config in trained) == [0, 1, 2]
    assert list(Store(tmp_path).results()) == sorted(results[:3], key=lambda result: result.config.key)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("\r0/2 runs:   0%")
    assert re.search(r"1/2 runs:  50%.* elapsed, about \d\d:\d\d left", err)
    assert "2/2 runs: 100%" in err


def test_one_missing_run_needs_no_cluster(tmp_path, no_cluster, capsys):
    (result,) = sweep([tiny()] * 1, store=tmp_path, progress=False)
    assert Store(tmp_path).get(tiny()) == result
    assert sweep([tiny(), tiny()], store=tmp_path) == [result, result]
    assert sweep([], store=tmp_path) == []
    assert capsys.readouterr() == ("", "")


def test_a_damaged_result_is_redone_with_a_warning(tmp_path, no_cluster):
    before = run(tiny(), store=tmp_path)
    (tmp_path / f"{tiny().key}.json").write_text("{")
    with pytest.warns(UserWarning, match="is damaged"):
        (result,) = sweep([tiny()], store=tmp_path, progress=False)
    assert numbers(result) == numbers(before)


def test_results_come_back_from_workers_with_another_store(tmp_path, scheduler, monkeypatch):
    here, there = Store(tmp_path / "here"), tmp_path / "there"
    monkeypatch.setenv("SPARCL_LITE_STORE", str(there))
    unusable = Store.check_usable

    def check(self, needed_bytes):
        if self.root == here.root and needed_bytes == 0:  # as a worker sees it
            raise KitError("read-only")
        unusable(self, needed_bytes)

    monkeypatch.setattr(Store, "check_usable", check)
    results = sweep([tiny()], store=here, scheduler=scheduler, progress=False)
    assert here.get(tiny()) == results[0] == Store(there).get(tiny())
    assert not (here.root / "locks").exists()


def test_jobs_that_are_timed_run_here_after_the_others(tmp_path, scheduler, monkeypatch):
    timed = ClusteringConfig(dataset="simulated", method="pca", cells=60, genes=80)
    order, original = [], Store.put
    monkeypatch.setattr(Store, "put", lambda self, result: (order.append(result.config), original(self, result)))
    configs = [timed, tiny(), tiny(seed=1)]
    results = sweep(configs, store=tmp_path, scheduler=scheduler, progress=False)
    assert [result.config for result in results] == configs
    assert order[-1] == timed
    assert {path.parent.name for path in tmp_path.rglob("*.json")} == {tmp_path.name, "clustering"}


# -- a limit of time


@pytest.mark.parametrize("alone", [True, False])
def test_a_sweep_out_of_time_stops_at_a_checkpoint_and_the_next_one_goes_on(tmp_path, scheduler, monkeypatch, alone):
    epochs, original, looks = [], Trainer.train_epoch, count(1)
    configs, store = [tiny(seed=seed) for seed in range(1 if alone else 3)], Store(tmp_path / "store")
    how = {"store": store, "scheduler": None if alone else scheduler, "progress": False}

    def train_epoch(self, *at):
        if type(self) is Trainer:  # and not the plan of a run
            epochs.append(at)
        original(self, *at)

    monkeypatch.setattr(Trainer, "train_epoch", train_epoch)
    with monkeypatch.context() as patched:
        patched.setattr(Job, "out_of_time", property(lambda job: next(looks) > 4))
        assert sweep(configs, minutes=1, **how) == [None] * len(configs)
    assert 0 < len(epochs) <= 4
    assert sweep(configs, minutes=0, **how) == [None] * len(configs)
    assert len(epochs) <= 4  # nothing was begun
    results = sweep(configs, minutes=60, **how)
    assert len(epochs) == 6 * len(configs)  # no epoch twice
    for config, result in zip(configs, results, strict=True):
        assert numbers(result) == numbers(run(config, store=tmp_path / "other"))


def test_a_failure_is_told_though_others_are_out_of_time(tmp_path, scheduler, monkeypatch):
    monkeypatch.setattr(Job, "out_of_time", property(lambda job: job.config.seed == 1))
    with pytest.raises(SweepError, match=r"1 of 2 runs failed: .*diverged"):
        sweep([tiny(lr=1e30), tiny(seed=1)], store=tmp_path, minutes=1, scheduler=scheduler, progress=False)


# -- failures


def no_network(*_):
    raise requests.ConnectionError


@pytest.mark.parametrize("alone", [True, False])
def test_a_failing_run_costs_only_itself(tmp_path, scheduler, monkeypatch, alone):
    monkeypatch.setenv("SPARCL_LITE_DATA", str(tmp_path / "nothing"))
    monkeypatch.setattr(download.pooch.HTTPDownloader, "__call__", no_network)
    failing, store = tiny(dataset="cifar100"), Store(tmp_path / "store")
    others = [] if alone else [tiny(), tiny(seed=1)]
    with pytest.raises(SweepError) as error:
        sweep([failing, *others], store=store, scheduler=None if alone else scheduler, progress=False)
    message = str(error.value)
    assert message.startswith(f"1 of {1 + len(others)} runs failed: er, buffer 20, cifar100, seed 0 ({failing.key}): ")
    assert "cifar100 is not available" in message
    assert "\n" not in message
    assert len(list(store.results())) == len(others)


def test_absent_images_are_fetched_here_once_before_workers_begin(tmp_path, no_cluster, monkeypatch, capsys):
    monkeypatch.setenv("SPARCL_LITE_DATA", str(tmp_path / "nothing"))
    monkeypatch.setattr(download.pooch.HTTPDownloader, "__call__", no_network)
    failing = [tiny(dataset="cifar100", seed=seed) for seed in range(2)]
    with pytest.raises(SweepError, match=r"2 of 2 runs failed: .+, seed 0 .+, seed 1 .+: cifar100 is not available"):
        sweep(failing, store=tmp_path / "store", progress=False)
    assert capsys.readouterr().err.splitlines() == [f"cifar100 is not in {tmp_path / 'nothing'}: fetching it"]


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nowhere.invalid:8786", "gopher://here", "x"])
def test_a_scheduler_that_does_not_answer_is_one_line(tmp_path, monkeypatch, address):
    assert sweeps.CONNECT_SECONDS <= 10
    monkeypatch.setattr(sweeps, "CONNECT_SECONDS", 1)
    start = time.monotonic()
    with pytest.raises(KitError, match=rf"^scheduler = '{address}': no Dask scheduler answers there \(.+\)$") as error:
        sweep([tiny()], store=tmp_path, scheduler=address, progress=False)
    assert "\n" not in str(error.value)
    assert time.monotonic() - start < 15
    assert not [found for found in gc.get_objects() if type(found) is Client and found.status != "closed"]


def work_and_die_once(kind, config, root, registered):
    """What a worker does, but the first one is killed in the second task of its first run."""
    original, epochs, marker = TaskStream.epoch, [], Path(root) / "died"

    def deadly(self, *args):
        epochs.extend([1] * (type(self) is TaskStream))  # not those of a plan
        if len(epochs) == 5 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, *args)

    TaskStream.epoch = deadly
    return sweeps._work(kind, config, root, registered)


def test_a_worker_that_dies_costs_only_a_retry(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(sweeps, "_work", work_and_die_once)
    configs, others = [tiny(), tiny(seed=1)], workers_of(os.getpid())
    results = sweep(configs, store=tmp_path / "store", workers=1, progress=False)
    assert (tmp_path / "store" / "died").exists()
    assert [numbers(r) for r in results] == [numbers(run(c, store=tmp_path / "whole")) for c in configs]
    out, err = capfd.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert set(workers_of(os.getpid())) <= set(others)


# -- a cluster whose parts come and go


@pytest.fixture
def far(tmp_path):
    """Starts a scheduler, or its workers, as processes; the address that the scheduler has, and has again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    started = []

    def start(what, *options, cwd=tmp_path, **environment):
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *options, "--no-dashboard"]
        given = os.environ | {"OMP_NUM_THREADS": "1"} | environment
        with (tmp_path / f"{what}.log").open("ab") as log:
            started.append(subprocess.Popen(command, cwd=cwd, env=given, stdout=log, stderr=log))
        return started[-1]

    start.address = address
    start.scheduler = lambda: start("scheduler", "--host", "127.0.0.1", "--port", address.rpartition(":")[2])
    start.worker = lambda **how: start("worker", address, "--nthreads", "1", "--no-nanny", **how)
    yield start
    for process in started:
        process.kill()
        process.wait()


def until_connected(address):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(OSError), Client(address, timeout=1):
            return
    raise AssertionError("no scheduler")


def test_a_lost_scheduler_is_one_line_and_the_next_call_goes_on(tmp_path, far, capfd):
    store, configs = Store(tmp_path / "store"), [tiny(epochs=30, seed=seed) for seed in range(2)]
    scheduler = far.scheduler()
    until_connected(far.address)
    far.worker()

    def kill():
        while not list(store.root.glob("checkpoints/*.pt")):
            time.sleep(0.1)
        scheduler.kill()

    threading.Thread(target=kill, daemon=True).start()
    with pytest.raises(SweepError) as error:
        sweep(configs, store=store, scheduler=far.address)
    assert re.fullmatch(
        rf"[12] of 2 runs are unfinished: the Dask scheduler at {far.address} has stopped, or cannot be reached any "
        "more; the same call goes on with them",
        str(error.value),
    )
    out, err = capfd.readouterr()
    assert (out, "Traceback" in err, "100%" in err) == ("", False, False), err
    scheduler.wait()
    far.scheduler()
    until_connected(far.address)
    far.worker()
    results = sweep(configs, store=store, scheduler=far.address, progress=False)
    assert [result.config for result in results] == configs


def test_no_worker_is_told_and_a_limit_of_time_ends_the_wait(tmp_path, far, capsys, monkeypatch):
    monkeypatch.setattr(cluster, "LOOK_SECONDS", 0.2)
    far.scheduler()
    until_connected(far.address)
    assert sweep([tiny(), tiny(seed=1)], store=tmp_path / "store", scheduler=far.address, minutes=0.02) == [None, None]
    assert "0/2 runs:   0%" in (err := capsys.readouterr().err)
    assert cluster.NO_WORKER in err


def test_a_scheduler_without_the_package_is_one_line_for_all_runs(tmp_path, scheduler, monkeypatch):
    def lacking(*_):
        raise ModuleNotFoundError("No module named 'sparcl_lite'", name="sparcl_lite")

    monkeypatch.setattr(sweeps, "adopt", lacking)
    with pytest.raises(SweepError) as error:
        sweep([tiny(), tiny(seed=1)], store=tmp_path, scheduler=scheduler, progress=False)
    assert re.fullmatch(r"2 of 2 runs failed: (er, .+, er, .+): " + re.escape(cluster.OTHER_PACKAGES), str(error.value))


def test_a_run_that_kills_every_worker_says_so():
    worker = SimpleNamespace(address="tcp://worker:1")
    said = cluster.reason(KilledWorker("training-1", worker, 3))
    assert said.startswith("4 workers died while they ran it (out of memory, at their job's limit of time")
    assert "\n" not in said


def test_a_failure_is_told_when_it_happens(tmp_path, scheduler, capsys):
    failing = tiny(lr=1e30)
    with pytest.raises(SweepError):
        sweep([failing, tiny(seed=1)], store=tmp_path, scheduler=scheduler)
    assert re.search(rf"failed: er, buffer 20, digits, seed 0 \({failing.key}\): .*diverged", capsys.readouterr().err)


def test_a_worker_that_can_write_nowhere_else_uses_the_folder_of_its_temporary_files(tmp_path):
    (tmp_path / "file").touch()  # no folder can be made below it, not even by root
    unusable = tmp_path / "file" / "store"
    assert sweeps._usable(unusable, unusable, tmp_path / "scratch").root == tmp_path / "scratch"
    assert sweeps._usable(tmp_path / "first", unusable, unusable).root == tmp_path / "first"
    with pytest.raises(KitError, match="cannot be written to"):
        sweeps._usable(unusable, unusable)


def test_two_sweeps_on_a_scheduler_share_a_task_unless_their_limits_of_time_differ():
    assert sweeps._task(Training(tiny())) == f"training-{tiny().key}"
    assert sweeps._task(Training(tiny(), until=2e9)) == f"training-{tiny().key}-2000000000"


# -- Ctrl-C

SCRIPT = """
import signal, sys
from sparcl_lite import RunConfig, sweep
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell passes on that it is ignored
    sweep([RunConfig.model_validate_json(text) for text in sys.argv[2:]], store=sys.argv[1], workers=1)
    print("finished")
"""


def workers_of(pid):
    members = psutil.Process(pid).children(recursive=True)
    return [member for member in members if "spawn_main" in " ".join(member.cmdline())]


def interrupt(store, configs, tmp_path, stop):
    """Start a sweep of its own process, `stop` it after a checkpoint; what it printed, and its workers."""
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, tmp_path / "script.py", store.root, *(c.model_dump_json() for c in configs)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, **pipes, start_new_session=True)
    try:
        while not list(store.root.glob("checkpoints/*.pt")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        workers = workers_of(process.pid)
        stop(process)
        return *process.communicate(timeout=60), workers
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_ctrl_c_ends_a_sweep_and_the_next_one_goes_on(tmp_path, scheduler, monkeypatch):
    store, configs = Store(tmp_path / "store"), [tiny(), tiny(epochs=1000)]  # the longer one starts first
    out, err, workers = interrupt(store, configs, tmp_path, lambda p: os.killpg(p.pid, signal.SIGINT))
    assert (out, len(workers)) == ("", 1)
    assert "0/2 runs" in err
    assert psutil.wait_procs(workers, timeout=1)[1] == []
    done = store.load_checkpoint(configs[1])["trainer"]["totals"]["steps"]
    begun = []
    monkeypatch.setattr(Trainer, "run", lambda self: begun.append(self.totals["steps"]) or no_network())
    with pytest.raises(SweepError, match="2 of 2 runs failed"):
        sweep(configs, store=store, scheduler=scheduler, progress=False)
    assert sorted(begun) == [0, done]
    assert done > 0


def test_a_killed_sweep_leaves_no_worker(tmp_path):
    configs = [tiny(epochs=1000, seed=seed) for seed in range(2)]
    _, _, workers = interrupt(Store(tmp_path / "store"), configs, tmp_path, subprocess.Popen.kill)
    assert len(workers) == 1
    assert psutil.wait_procs(workers, timeout=15)[1] == []


UNGUARDED = """
import sys
from sparcl_lite import RunConfig, sweep
small = dict(profile="smoke", method="er", tasks=2, images_per_class=10, width=8, epochs=1, buffer_size=20)
results = sweep([RunConfig(**small, seed=seed) for seed in range(2)], store=sys.argv[1], workers=2, progress=False)
print(len(results), __name__, __file__)
"""


@pytest.mark.slow
def test_a_script_needs_no_guard(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    command = [sys.executable, str(script), str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert (done.returncode, done.stdout) == (0, f"2 __main__ {script}\n"), done.stderr
    assert len(list(Store(tmp_path / "store").results())) == 2


# -- what is said meanwhile


def test_the_bar_names_the_runs_that_are_on_and_counts_their_epochs(tmp_path, scheduler, capsys):
    sweep([tiny(seed=seed) for seed in range(2)], store=tmp_path, scheduler=scheduler)
    shown = capsys.readouterr().err.split("\r")
    on = [line for line in shown if re.search(r"0/2 runs.*left, now er, buffer 20, digits, seed [01]", line)]
    assert {re.search(r"(\d+)%", line)[1] for line in on} - {"0"}, shown  # before any run is done


HOLD = "import sys, time; from sparcl_lite.runs.ownership import held; from pathlib import Path\n"
HOLD += "with held(Path(sys.argv[1]), print): print('held', flush=True); time.sleep(float(sys.argv[2]))"


@pytest.mark.parametrize("count", [1, 2])
def test_a_run_of_another_process_is_told_with_who_and_since_when(tmp_path, scheduler, capsys, count):
    store = Store(tmp_path)
    command = [sys.executable, "-c", HOLD, str(tmp_path / "locks" / f"{tiny().key}.lock"), "6"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        assert re.fullmatch(rf"process {other.pid} on .+, since \d\d:\d\d:\d\d", store.owner(tiny()))
        sweep([tiny(seed=seed) for seed in range(count)], store=store, scheduler=scheduler if count > 1 else None)
    text = rf"er, buffer 20, digits, seed 0: trained by process {other.pid} on .+, since .+(waiting|is awaited)"
    assert re.search(text, capsys.readouterr().err)
    assert store.owner(tiny()) is None


def test_a_killed_process_owns_nothing(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "locks" / f"{tiny().key}.lock"), "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        other.stdout.readline()
        other.kill()
    assert (tmp_path / "locks" / f"{tiny().key}.owner").exists()
    assert Store(tmp_path).owner(tiny()) is None


def test_a_forecast_says_what_is_stored_since_when_and_how_long_the_rest_takes(tmp_path):
    committed, store = Store(tmp_path / "results"), Store(tmp_path / "store", tmp_path / "results")
    made = run(tiny(), store=committed)
    jobs = [Training(tiny(seed=seed)) for seed in range(3)]
    day, other = made.finished[:10], "2026-01-02T03:04:05+00:00"
    assert forecast(jobs[:1], store) == f"1 run: 1 committed ({day})"
    slowly = "in a minute or less, as fast as the committed ones"
    assert forecast(jobs, store) == f"3 runs: 1 committed ({day}), 2 to make {slowly}"
    assert forecast(jobs, Store(tmp_path / "empty")) == "3 runs: 3 to make"  # nobody knows how long
    slow = made.seconds.model_copy(update={"train": 300.0})
    store.put(made.model_copy(update={"config": tiny(seed=1), "seconds": slow, "finished": other}))
    said = forecast(jobs, store, workers=2)
    assert said == f"3 runs: 1 committed ({day}), 1 made here (2026-01-02), 1 to make in about 5 minutes here"
    others = [Training(tiny(seed=seed)) for seed in range(2, 6)]
    assert forecast(others, store, workers=2) == "4 runs: 4 to make in about 10 minutes here"
    assert forecast(others, Store(tmp_path / "empty"), committed).endswith(
        "a minute or less, as fast as the committed ones"
    )
