"""Build the Fashion-MNIST subset that ships with the package, byte for byte the same every time.

    python tools/build_fashion_mnist_subset.py DIRECTORY [OUTPUT]

DIRECTORY holds the four original IDX files (gzipped), e.g. Debian's package
`dataset-fashion-mnist` in /usr/share/datasets/fashion-mnist. Prints the SHA-256 of the file written
(`BUNDLE_SHA256` in `sparcl_lite/data/sources.py`).

Each class gives 1,000 images of the original training set and 200 of the original test set, drawn
without replacement by a fixed seed and kept in their original order. `train_index` and `test_index`
are their positions in the original sets.
"""

import argparse
import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np

from sparcl_lite.data.download import MissingData, find
from sparcl_lite.data.formats import Arrays, read_fashion_mnist
from sparcl_lite.data.mirrors import FASHION_MNIST
from sparcl_lite.data.sources import BUNDLE

SEED = 0
PER_CLASS = {"train": 1_000, "test": 200}
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold, in place of the present one
UNIX = 3  # in place of the system that builds


def choose(labels: np.ndarray, per_class: int) -> np.ndarray:
    """Sorted positions of `per_class` random images of each class."""
    rng = np.random.RandomState(SEED)  # its stream is frozen for all versions of numpy
    chosen = [rng.permutation(np.flatnonzero(labels == c))[:per_class] for c in range(10)]
    return np.sort(np.concatenate(chosen))


def subset(full: Arrays) -> Arrays:
    """The chosen images, labels and positions of both splits."""
    arrays = {}
    for split, per_class in PER_CLASS.items():
        index = choose(full[f"{split}_labels"], per_class)
        arrays[f"{split}_images"] = full[f"{split}_images"][index]
        arrays[f"{split}_labels"] = full[f"{split}_labels"][index].astype("<i8")
        arrays[f"{split}_index"] = index.astype("<u2")
    return arrays


def write(path: Path, arrays: Arrays) -> str:
    """Write a compressed npz without traces of time and machine; its SHA-256."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, version=(1, 0))
            info = zipfile.ZipInfo(f"{name}.npy", date_time=EPOCH)
            info.compress_type, info.create_system = zipfile.ZIP_DEFLATED, UNIX
            archive.writestr(info, content.getvalue(), compresslevel=9)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path, help="where the four original IDX files are")
    parser.add_argument("output", type=Path, nargs="?", default=BUNDLE, help="default: %(default)s")
    arguments = parser.parse_args()
    try:
        paths = [find("fashion-mnist-full", file, arguments.directory) for file in FASHION_MNIST]
    except MissingData as error:
        parser.error(str(error))
    if None in paths:
        missing = FASHION_MNIST[paths.index(None)].name
        parser.error(f"{missing} is not in {arguments.directory}")
    print(write(arguments.output, subset(read_fashion_mnist(paths))))


if __name__ == "__main__":
    main()
