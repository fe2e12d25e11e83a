"""The bundled data sets: small, checked, no download. Where each comes from is in `bundled/README.md`."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from scipy import sparse

from sparcl_lite.clustering.data.cells import Cells
from sparcl_lite.errors import KitError

FOLDER = files("sparcl_lite.clustering.data").joinpath("bundled")


@dataclass(frozen=True)
class Bundle:
    """A bundled file: its size, known without reading it, and its SHA-256 (`tools/build_clustering_data.py`)."""

    cells: int
    genes: int
    classes: int
    sha256: str


BUNDLES = {
    "zeisel": Bundle(3005, 4000, 7, "51d98ed1c50cc997596ded584b19503e2b7bea743852afa9216576093b1e5e68"),
    "cbmc": Bundle(7839, 500, 11, "e8bd42904dfe715457e3709a84408144bdbf506c110800da8f77fc31eeefdb62"),
    "pbmc": Bundle(700, 765, 10, "6136da8b9a84b7bde33acb46c78bb0f4afd937e94d70f71728447b74cd56e6ab"),
    "khan": Bundle(83, 2308, 4, "667bedc73c4a9351ac57409965e1ab3a0163031718607b97bea80afca205dc16"),
    "nci60": Bundle(57, 6830, 8, "4e0068e7801a16b62d07748cf16c2cf66b3a1ef0ca8b2774420b7b70847bad35"),
}
DATASETS = tuple(BUNDLES)

Arrays = dict[str, np.ndarray]


def load(name: str) -> Cells:
    """A bundled data set by name, X in single precision and preprocessed as `bundled/README.md` says.

    Raises `KitError` on an unknown name, and when the file is missing or not the one that shipped.
    """
    if name not in BUNDLES:
        raise KitError(f"dataset = {name!r}: unknown; allowed: {', '.join(BUNDLES)}")
    arrays = _read(name)
    X = READERS[str(arrays["kind"])](arrays)
    genes = arrays["genes"] if "genes" in arrays else np.char.add("gene ", np.arange(X.shape[1]).astype(str))
    return Cells(name, X, arrays["labels"].astype(str), genes.astype(str))


def log_counts(arrays: Arrays) -> np.ndarray:
    """`log(1 + count)` of (m, d) counts, which are kept gene by gene in bytes, those above 255 apart."""
    counts = arrays["counts"].astype(np.float32)
    counts.flat[arrays["large_index"]] = arrays["large_count"]
    return np.ascontiguousarray(np.log1p(counts).T)


def logs(arrays: Arrays) -> np.ndarray:
    """Values that the source has already taken logarithms of, kept without their zeros."""
    shape = (len(arrays["labels"]), len(arrays["genes"]))
    return sparse.csr_array((arrays["values"], arrays["indices"], arrays["indptr"]), shape=shape).toarray()


def ratios(arrays: Arrays) -> np.ndarray:
    """Log ratios of microarrays, (m, d)."""
    return arrays["values"].astype(np.float32)


READERS: dict[str, Callable[[Arrays], np.ndarray]] = {"counts": log_counts, "logs": logs, "ratios": ratios}


def _read(name: str) -> Arrays:
    path = FOLDER.joinpath(f"{name}.npz")
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise KitError(
            f"dataset = {name!r}: {path} cannot be read ({error.strerror}); install the package again"
        ) from None
    if found != BUNDLES[name].sha256:
        raise KitError(f"dataset = {name!r}: {path} is not the file that shipped; install the package again")
    with path.open("rb") as file, np.load(file) as archive:
        return dict(archive)
