"""Where pixels come from: every data set by name, as uint8 tensors in memory.

`digits` comes with scikit-learn and `fashion-mnist`, a subset, with this package; the others are
downloaded, or taken from files put into the data directory, and cached there as one array file.
Tasks, batches and augmentation are the business of `streams`.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from filelock import FileLock

from sparcl_lite.data import formats, mirrors
from sparcl_lite.data.download import MissingData, RemoteFile, data_dir, find, obtain
from sparcl_lite.data.formats import Arrays
from sparcl_lite.data.specs import BUNDLED, DatasetSpec
from sparcl_lite.late import torch
from sparcl_lite.paths import folder
from sparcl_lite.registry import DATASETS

__all__ = [
    "SOURCES",
    "Dataset",
    "DatasetSpec",
    "MissingData",
    "Split",
    "data_dir",
    "fetch",
    "load",
    "verify",
]

BUNDLE = BUNDLED / "fashion_mnist_subset.npz"
BUNDLE_SHA256 = "ee3aa00dd8e2d303dd3aba7dbd8d08aa578b7c55e071660a9d7186059dfa7659"


@dataclass(frozen=True)
class Split:
    """Images, uint8 ``(N, C, H, W)``, and labels, int64 ``(N,)``."""

    images: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class Dataset:
    """A data set in memory."""

    spec: DatasetSpec
    train: Split
    test: Split


@dataclass(frozen=True)
class Source:
    """Files to download and how to read them, given their paths in the same order."""

    files: tuple[RemoteFile, ...]
    read: Callable[[Sequence[Path]], Arrays]


SOURCES = {
    "fashion-mnist-full": Source(mirrors.FASHION_MNIST, formats.read_fashion_mnist),
    "cifar10": Source(
        (mirrors.CIFAR10,),
        formats.cifar_reader(
            train=[f"cifar-10-batches-py/data_batch_{number}" for number in range(1, 6)],
            test=["cifar-10-batches-py/test_batch"],
            label_key=b"labels",
        ),
    ),
    "cifar100": Source(
        (mirrors.CIFAR100,),
        formats.cifar_reader(
            train=["cifar-100-python/train"],
            test=["cifar-100-python/test"],
            label_key=b"fine_labels",
        ),
    ),
    "tiny-imagenet": Source((mirrors.TINY_IMAGENET,), formats.read_tiny_imagenet),
}


def load(name: str, data_dir: Path | None = None, *, download: bool = True) -> Dataset:
    """A data set by name, from `data_dir` (default: `data_dir()`), downloaded where need be.

    Raises
    ------
    ValueError
        If there is no such data set.
    MissingData
        If it is absent or damaged; the message is one line and says what to do.
    """
    entry = DATASETS.entry(name)
    spec = entry.value
    if "dataset" in entry.facts:  # of a user's own
        return entry.facts["dataset"]
    if name in SOURCES:
        arrays = _downloaded(spec, _directory(data_dir), download)
    else:
        arrays = _digits() if name == "digits" else _bundle()
        _check(spec, arrays)
    splits = (
        Split(*(torch.from_numpy(arrays[f"{split}_{part}"]) for part in ("images", "labels")))
        for split in ("train", "test")
    )
    return Dataset(spec, *splits)


def fetch(name: str, data_dir: Path | None = None) -> Path:
    """Make `name` loadable without a network; the file that `load` reads. Raises as `load`."""
    load(name, data_dir)
    if name == "digits":
        return Path(str(files("sklearn.datasets") / "data" / "digits.csv.gz"))
    return BUNDLE if name == "fashion-mnist" else _cache(name, _directory(data_dir))


def verify(name: str, data_dir: Path | None = None) -> str:
    """One line about a data set that is there, complete and undamaged; nothing is downloaded.

    Raises
    ------
    ValueError, MissingData
        As `load`; also if an archive in the data directory is damaged though the cache is not.
    """
    directory = _directory(data_dir)
    dataset = load(name, directory, download=False)
    for file in SOURCES[name].files if name in SOURCES else ():
        find(name, file, directory)
    train, test = (len(split.labels) for split in (dataset.train, dataset.test))
    return f"{name}: ok, {train:,} training and {test:,} test images"


def _directory(given: Path | None) -> Path:
    return data_dir() if given is None else folder(given)


def _cache(name: str, directory: Path) -> Path:
    return directory / f"{name}-v1.npz"


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


def _downloaded(spec: DatasetSpec, directory: Path, download: bool) -> Arrays:
    """Arrays from the cache, which is made from the published files where need be."""
    name, cache = spec.name, _cache(spec.name, directory)
    if (arrays := _cached(spec, cache)) is not None:
        return arrays
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with FileLock(directory / f".{name}.lock"):  # many workers, one download
            arrays = _cached(spec, cache)
            if arrays is None:
                arrays = _read(spec, directory, download)
                formats.write_cache(cache, arrays)
    except OSError as error:
        raise MissingData(f"{name}: cannot write to {directory} ({error})") from error
    return arrays


def _cached(spec: DatasetSpec, cache: Path) -> Arrays | None:
    """Arrays of the cache; one that is damaged, or another program's, is reported, set aside and not used."""
    if not cache.is_file():
        return None
    try:
        arrays = formats.read_npz(cache)
        _check(spec, arrays)
    except (formats.FormatError, MissingData) as error:
        warnings.warn(f"{error}; {_set_aside(cache)}; it is made again", stacklevel=2)
        return None
    return arrays


def _set_aside(path: Path) -> str:
    """Move a file out of the way, and say where it is."""
    target = path.parent / "damaged" / path.name
    try:
        target.parent.mkdir(exist_ok=True)
        path.replace(target)
    except OSError as error:
        return f"{path} could not be moved to {target} ({error.strerror})"
    return f"{path} set aside as {target}"


def _read(spec: DatasetSpec, directory: Path, download: bool) -> Arrays:
    """Arrays of the published files, and a check before they are cached. Files of another content are set aside."""
    name, source = spec.name, SOURCES[spec.name]
    paths = [obtain(name, file, directory, download=download) for file in source.files]
    try:
        arrays = source.read(paths)
        _check(spec, arrays)
    except (*formats.UNREADABLE, MissingData) as error:
        moved = [_set_aside(path) for path in paths if path.parent == directory]
        raise MissingData("; ".join([f"{name}: {paths[0]} cannot be used: {error}", *moved])) from error
    return arrays


def _check(spec: DatasetSpec, arrays: Arrays) -> None:
    """Shapes, types and labels as the specification says."""
    for split, count in (("train", spec.train_images), ("test", spec.test_images)):
        names = f"{split}_images", f"{split}_labels"
        if not set(names) <= set(arrays):
            raise MissingData(f"{spec.name}: there are no arrays {names[0]} and {names[1]}, but {sorted(arrays)}")
        images, labels = arrays[names[0]], arrays[names[1]]
        expected = (count, spec.channels, spec.size, spec.size)
        if images.shape != expected or images.dtype != np.uint8:
            raise MissingData(
                f"{spec.name}: {split} images are {images.dtype} {images.shape}, expected uint8 {expected}"
            )
        classes = np.arange(len(spec.classes))
        if labels.shape != (count,) or not np.array_equal(np.unique(labels), classes):
            raise MissingData(
                f"{spec.name}: {split} labels are not {count} numbers from 0 to {len(spec.classes) - 1}, each used"
            )
