"""A place with a store, a data folder and a working directory, where commands run and nothing else may change."""

import hashlib
import io
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import matplotlib.font_manager  # noqa: F401 - writes its cache of fonts when it is imported
import pooch
import requests

from sparcl_lite import cli
from sparcl_lite.errors import KitError
from sparcl_lite.training import Trainer

NO_PROXY = {f"{name}_proxy": "http://127.0.0.1:9" for name in ("http", "https")} | {"no_proxy": ""}
OURS = re.compile(r"(locks|damaged|kept|checkpoints)/|\.lock$|\.owner$|\.part$")  # what the package may add
SAID_BEFORE = re.compile(r"warning: |.*\d+%\|")  # a bar's progress
_written: list[str] | None = None


class Trained(Exception):
    """A run began that should have been refused."""


@dataclass(frozen=True)
class Outcome:
    """What a command said and how it ended."""

    code: int | str | None
    out: str
    err: str

    def problems(self) -> Iterator[tuple[str, str]]:
        """What is wrong with the refusal of an input: one line, exit code 2, no traceback."""
        lines = [line for line in re.split(r"[\r\n]+", self.err) if line.strip() and not SAID_BEFORE.match(line)]
        if "Traceback" in self.err or self.code == "raised":
            yield "tracebacks", self.err[-300:]
        elif self.code != 2 or self.out:
            yield "wrong", f"exit code {self.code}: {self.out[:100]!r} {self.err[:200]!r}"
        elif not self.err.replace("\n", "").replace("\r", "").isprintable():
            yield "wrong", f"the line steers the terminal: {self.err[:300]!r}"
        elif len(lines) != 1:
            yield "wrong", f"{len(lines)} lines: {self.err[:300]!r}"


class Sandbox:
    """Folders of their own below `root`; `here` is the working directory."""

    def __init__(self, root: Path):
        self.root, self.here, self.store, self.data = root, root / "here", root / "store", root / "data"
        for folder in (self.here, self.store, self.data, root / "home"):
            folder.mkdir(parents=True, exist_ok=True)
        path = str(root / "home")  # no npm client is there
        self.environment = {"HOME": path, "PATH": path, "SPARCL_LITE_DATA": str(self.data), **NO_PROXY}
        self.environment["SPARCL_LITE_STORE"] = str(self.store)
        self.environment["LOKY_MAX_CPU_COUNT"] = "1"  # else it looks for a program that tells, and there is no path
        self.environment["MPLCONFIGDIR"] = str(root.parent / "matplotlib")  # has its cache of fonts

    @contextmanager
    def inside(self) -> Iterator[None]:
        """In the working directory and the environment of this place, without network and without training."""
        before = os.getcwd()
        os.chdir(self.here)
        try:
            with (
                patch.dict(os.environ, self.environment),
                patch.object(Trainer, "run", _refuse),
                patch.object(pooch.HTTPDownloader, "__call__", _no_network),
            ):
                yield
        finally:
            os.chdir(before)

    def call(self, *arguments: str) -> Outcome:
        """`sparcl-lite` with these arguments, in this process."""
        out, err, shown = io.StringIO(), io.StringIO(), warnings.showwarning
        with (
            self.inside(),
            warnings.catch_warnings(),
            patch.object(sys, "argv", ["sparcl-lite", *arguments]),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                cli.main()
                code = 0
            except SystemExit as stop:
                code = stop.code or 0
            except BaseException as error:
                code = "raised"
                err.write(f"{type(error).__name__}: {error}")
            finally:
                warnings.showwarning = shown
        return Outcome(code, out.getvalue(), err.getvalue())

    def spawn(self, *arguments: str) -> Outcome:
        """The same as a process of its own."""
        command = [sys.executable, "-m", "sparcl_lite", *arguments]
        environment = os.environ | self.environment
        done = subprocess.run(command, cwd=self.here, env=environment, capture_output=True, text=True, timeout=120)
        return Outcome(done.returncode, done.stdout, done.stderr)

    def contents(self) -> dict[str, str]:
        """A sum of every file below `root`, by its name; of links where they lead."""
        found = {}
        for path in self.root.rglob("*"):
            name = str(path.relative_to(self.root))
            if path.is_symlink():
                found[name] = f"link to {os.readlink(path)}"
            elif path.is_file():
                with suppress(OSError):
                    found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found


def changes(before: dict[str, str], after: dict[str, str]) -> Iterator[tuple[str, str]]:
    """What a refused input changed: files may be set aside, and locks and plans may appear, in store and data only."""
    for name, known in before.items():
        if after.get(name) != known and not (name.startswith(("store/", "data/")) and known in after.values()):
            yield "lost", f"{name} is gone or another file"
    for name in after.keys() - before.keys():
        if not (name.startswith(("store/", "data/")) and OURS.search(name)):
            yield "wrong", f"{name} was written"


@contextmanager
def writes_elsewhere(root: Path) -> Iterator[list[str]]:
    """Files outside of `root` that this process opens for writing inside."""
    global _written
    tempfile.gettempdir()  # tries the folder by a file once
    if not getattr(writes_elsewhere, "hooked", False):
        sys.addaudithook(_watch)
        writes_elsewhere.hooked = True
    found, _written = [], []
    try:
        yield found
    finally:
        found += [
            path
            for path in _written
            if not path.startswith((str(root), "/dev/", "/proc/")) and "__pycache__" not in path
        ]
        _written = None


def _watch(event: str, arguments: tuple) -> None:
    if _written is None or event != "open" or not isinstance(arguments[0], str | bytes | os.PathLike):
        return
    path, mode, flags = arguments
    if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or set(mode or "") & set("wax+"):
        _written.append(os.path.abspath(os.fsdecode(path)))


def refused(act) -> Outcome:
    """The outcome of a call in Python that has to raise `KitError` with one line."""
    try:
        act()
    except KitError as error:
        return Outcome(2, "", f"{error}\n")
    except BaseException as error:
        return Outcome("raised", "", f"{type(error).__name__}: {error}")
    return Outcome(0, "", "accepted")


def _refuse(self: Trainer) -> None:
    if type(self) is Trainer:
        raise Trained(self.config.key)


def _no_network(*_: object) -> None:
    raise requests.ConnectionError
