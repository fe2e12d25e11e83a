"""Where pixels come from: every data set by name, as uint8 tensors in memory.

`digits` comes with scikit-learn and `fashion-mnist`, a subset, with this package; the others are
downloaded, or taken from files put into the data directory, and cached there as one array file.
Tasks, batches and augmentation are the business of `streams`.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sparcl_lite.data import formats
from sparcl_lite.data.download import MissingData, data_dir
from sparcl_lite.data.formats import Arrays
from sparcl_lite.data.published import SOURCES, arrays_of, cache_of, check, verify_files
from sparcl_lite.data.specs import BUNDLED, DatasetSpec
from sparcl_lite.paths import folder
from sparcl_lite.registry import DATASETS

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Dataset", "DatasetSpec", "MissingData", "Split", "data_dir", "fetch", "load", "verify"]

BUNDLE = BUNDLED / "fashion_mnist_subset.npz"
BUNDLE_SHA256 = "ee3aa00dd8e2d303dd3aba7dbd8d08aa578b7c55e071660a9d7186059dfa7659"


@dataclass(frozen=True)
class Split:
    """Images, uint8 ``(N, C, H, W)``, and labels, int64 ``(N,)``."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Dataset:
    """A data set in memory."""

    spec: DatasetSpec
    train: Split
    test: Split


def load(name: str, data_dir: Path | None = None, *, download: bool = True) -> Dataset:
    """A data set by name, from `data_dir` (default: `data_dir()`), downloaded where need be.

    Raises
    ------
    ValueError
        If there is no such data set.
    MissingData
        If it is absent or damaged; the message is one line and says what to do.
    """
    from torch import from_numpy  # slow to import: `fetch` and `verify` do without

    entry = DATASETS.entry(name)
    if "dataset" in entry.facts:  # of a user's own
        return entry.facts["dataset"]
    arrays = _arrays(entry.value, _directory(data_dir), download)
    splits = (
        Split(*(from_numpy(arrays[f"{split}_{part}"]) for part in ("images", "labels"))) for split in ("train", "test")
    )
    return Dataset(entry.value, *splits)


def fetch(name: str, data_dir: Path | None = None) -> Path:
    """Make `name` loadable without a network; the file that `load` reads. Raises as `load`."""
    entry, directory = DATASETS.entry(name), _directory(data_dir)
    if "dataset" not in entry.facts:
        _arrays(entry.value, directory, download=True)
    if name == "digits":
        return Path(str(files("sklearn.datasets") / "data" / "digits.csv.gz"))
    return BUNDLE if name == "fashion-mnist" else cache_of(name, directory)


def fetch_absent(name: str, data_dir: Path | None = None) -> None:
    """Fetch what `load` would have to download or to unpack, and say so; else nothing is read. Raises as `load`."""
    directory = _directory(data_dir)
    if name in SOURCES and not cache_of(name, directory).is_file():
        print(f"{name} is not in {directory}: fetching it", file=sys.stderr)
        fetch(name, directory)


def verify(name: str, data_dir: Path | None = None) -> str:
    """A line about a data set that is there, complete and undamaged, and one for each sum; nothing is downloaded.

    Raises
    ------
    ValueError, MissingData
        As `load`; also if an archive in the data directory is damaged though the cache is not.
    """
    entry, directory = DATASETS.entry(name), _directory(data_dir)
    spec = entry.value
    if "dataset" not in entry.facts:
        _arrays(spec, directory, download=False)
        verify_files(spec, directory)
    sums = [f"  {md5}  {file}" for file, md5 in spec.sums]
    return "\n".join([f"{name}: ok, {spec.train_images:,} training and {spec.test_images:,} test images", *sums])


def _arrays(spec: DatasetSpec, directory: Path, download: bool) -> Arrays:
    """Arrays of a data set that is not a user's own, checked."""
    if spec.name in SOURCES:
        return arrays_of(spec, directory, download=download)
    arrays = _digits() if spec.name == "digits" else _bundle()
    check(spec, arrays)
    return arrays


def _directory(given: Path | None) -> Path:
    return data_dir() if given is None else folder(given)


def _digits() -> Arrays:
    """The digits of scikit-learn, a fifth of each class drawn at random as the test set."""
    from sklearn.datasets import load_digits  # slow to import, and the one use

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    rng = np.random.RandomState(0)  # its stream is frozen for all versions of numpy
    is_test = np.zeros(len(labels), bool)
    for label in range(10):
        members = np.flatnonzero(labels == label)
        is_test[rng.permutation(members)[: round(0.2 * len(members))]] = True
    return {
        "train_images": images[~is_test],
        "train_labels": labels[~is_test],
        "test_images": images[is_test],
        "test_labels": labels[is_test],
    }


def _bundle() -> Arrays:
    """The subset of Fashion-MNIST in this package."""
    found = hashlib.sha256(BUNDLE.read_bytes()).hexdigest() if BUNDLE.is_file() else "no file"
    if found != BUNDLE_SHA256:
        raise MissingData(
            f"fashion-mnist is damaged: {BUNDLE} has SHA-256 {found}, expected {BUNDLE_SHA256}; "
            f"install the package again"
        )
    return formats.read_npz(BUNDLE)
