"""SIGKILL while data is fetched, and while notebooks run; and what is there afterwards."""

import hashlib
import http.server
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tarfile import TarInfo

import nbformat
import numpy as np
import psutil

from campaign import victims
from campaign.bad_archives import write_tar
from campaign.kills import Failure, lines, start, wait
from campaign.tally import Tally
from sparcl_lite.runs.store import Store

PIECE, PAUSE = 2**14, 0.02  # bytes, and seconds between two of them
BATCHES = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]


def fetching(folder: Path, tally: Tally, *, count: int, seed: int) -> None:
    """Kill two processes that fetch the same archive into the same folder, until `count` are dead."""
    rng, left = Random(seed), count
    folder.mkdir(parents=True)
    archive = folder / "archive.tar.gz"
    images = _archive(archive, np.random.default_rng(seed))
    checksum = f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}"
    with _server(archive.read_bytes()) as url:
        for number in range(5 * count):
            if left <= 0:
                break
            place, killed = folder / f"data-{number}", 0
            diary, data = folder / f"diary-{number}", place / "data"
            for _ in range(3):
                rules = [_rule(rng) for _ in range(2)]
                killed += wait([start(rule, diary, victims.get, data, url, checksum) for rule in rules], rules)
            wait([start(None, diary, victims.get, data, url, checksum) for _ in range(2)], [None, None])
            failures = list(_fetched(diary, data, images))
            if killed:
                tally.add("kill: data fetching", failures, injected=killed)
            left -= killed


def _rule(rng: Random) -> tuple:
    return rng.choice(
        (
            ("after", rng.uniform(0.1, 1.0)),
            ("event", "cifar", rng.randint(1, 12)),
            ("bytes", int(10 ** rng.uniform(3, 5.3))),
        )
    )


def _fetched(diary: Path, data: Path, images: str) -> Iterator[Failure]:
    told = set(lines(diary))
    if f"fetched {images}" not in told:
        yield "lost", f"nothing was fetched: {told}"
    for line in (each for each in told - {f"fetched {images}"} if not each.startswith("cpu ")):
        yield ("tracebacks" if line.startswith("traceback") else "wrong"), line
    found = {path.name for path in data.iterdir()} - {"kept"}
    if found != {"cifar-10-python.tar.gz", "cifar10-v1.npz", ".cifar10.lock"}:
        yield "wrong", f"files are left: {sorted(found)}"


def _archive(path: Path, rng: np.random.Generator) -> str:
    """A small archive of CIFAR-10's layout; the sum of its images and labels."""
    members, digest = [], hashlib.sha256()
    for name in BATCHES:
        pixels = rng.integers(0, 256, (victims.IMAGES, 3072), np.uint8)
        content = pickle.dumps({b"data": pixels, b"labels": list(range(victims.IMAGES))})
        members.append((TarInfo(f"cifar-10-batches-py/{name}"), content))
        if name != "test_batch":
            digest.update(pixels.tobytes())
    digest.update(np.arange(victims.IMAGES).tobytes())
    write_tar(path, members)
    return digest.hexdigest()


@contextmanager
def _server(content: bytes) -> Iterator[str]:
    """An address of this machine that gives these bytes slowly, and ranges of them."""

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
            if begin >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(content) - begin))
            self.end_headers()
            try:
                for at in range(begin, len(content), PIECE):
                    self.wfile.write(content[at : at + PIECE])
                    time.sleep(PAUSE)
            except OSError:  # who asked is dead
                self.close_connection = True

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/archive.tar.gz"
        server.shutdown()


HERE = Path(__file__).parents[1], Path(__file__).parents[2]  # of this package and of the kit, wherever a kernel works
SCRIPT = """
import sys
from pathlib import Path
from sparcl_lite.errors import KitError
from sparcl_lite.report.execution import execute
notebook, output, store, seed = sys.argv[1:]
try:
    execute(Path(notebook), Path(output), {"store": store, "seed": int(seed)})
except KitError as error:
    sys.exit(f"one line: {error}")
"""


CELLS = """
from campaign.victims import configs
from sparcl_lite import run
results = [run(config, store=store) for config in configs(seed)]
"""


def notebooks(folder: Path, tally: Tally, *, count: int, seed: int) -> None:
    """Kill processes that execute a notebook, with their kernels or the kernel alone, two at a time in one store."""
    rng, store, undisturbed = Random(seed), folder / "store", folder / "undisturbed"
    folder.mkdir(parents=True)
    cells = [nbformat.v4.new_code_cell(text) for text in ('store = ""\nseed = 0', CELLS)]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "notebook.ipynb")
    begun = time.monotonic()
    _said(_execute(undisturbed, seed))
    seconds = time.monotonic() - begun
    expected = [victims.numbers(result) for result in Store(undisturbed).results()]
    for turn in range(-(-count // 2)):
        running, failures = [_execute(store, seed) for _ in range(min(2, count - 2 * turn))], []
        for process in running:
            time.sleep(rng.uniform(0.1, seconds) / 2)
            alone = rng.random() < 0.5 and _kernels(process)
            for each in [*_kernels(process), *([] if alone else [psutil.Process(process.pid)])]:
                each.kill()
        for process in running:
            text = _said(process)
            if "Traceback" in text:
                failures.append(("tracebacks", text[-300:]))
            tally.add("kill: notebooks", failures)
            failures = []
    text = _said(_execute(store, seed))
    results = [victims.numbers(result) for result in Store(store).results()]
    if not expected or results != expected:
        tally.add(
            "kill: notebooks", [("wrong", f"{len(results)} results, or other numbers: {text[-300:]}")], injected=0
        )


def _execute(store: Path, seed: int) -> subprocess.Popen:
    output = store.with_name(f"{store.name}-{time.monotonic_ns()}.ipynb")
    command = [sys.executable, "-c", SCRIPT, store.parent / "notebook.ipynb", output, store, seed]
    found = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, HERE))}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*map(str, command)], env=found, **pipes)


def _kernels(process: subprocess.Popen) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _said(process: subprocess.Popen) -> str:
    return process.communicate(timeout=300)[0]
