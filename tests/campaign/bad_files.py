"""Damaged or hostile files where the package reads: results, evidence, matrices, archives, arrays and images."""

import gzip
import os
import pickle
from pathlib import Path
from random import Random

from campaign.sandbox import Sandbox
from sparcl_lite.config import RunConfig
from sparcl_lite.runs.result import Flops, RunResult, Seconds
from sparcl_lite.runs.store import Store


class Evil:
    """A pickle that runs a command where it is loaded without care."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def config_of(seed: int = 0) -> RunConfig:
    """A small run."""
    small = {"tasks": 2, "images_per_class": 10, "width": 8, "epochs": 2, "buffer_size": 20}
    return RunConfig(profile="smoke", method="er", dataset="digits", seed=seed, **small)


def result_of(config: RunConfig) -> RunResult:
    """A result that nobody trained."""
    plain = (
        "class_il",
        "task_il",
        "backward_transfer",
        "forgetting",
        "data_fraction",
        "weight_density",
        "gradient_density",
    )
    return RunResult(
        config=config,
        accuracy_matrix=[[1.0, None], [0.5, 0.25]],
        task_il_matrix=[[1.0, None], [0.5, 0.25]],
        flops=Flops(paper=1.0, honest=2.0, by_part={}),
        seconds=Seconds(train=1.0, eval=1.0),
        peak_memory_bytes=1,
        training_memory_bytes={},
        trace={},
        environment={},
        started="2026-01-01T00:00:00+00:00",
        finished="2026-01-01T00:00:01+00:00",
        **dict.fromkeys(plain, 50.0),
    )


def kept(place: Sandbox) -> Store:
    """A store with two sound results."""
    store = Store(place.here / "kept")
    for seed in range(2):
        if store.get(config_of(seed)) is None:
            store.put(result_of(config_of(seed)))
    return store


def store_file(rng: Random, place: Sandbox):
    """A result that is cut off, changed or something else."""
    config = config_of(rng.randrange(10**6))
    path = place.store / f"{config.key}.json"
    whole = result_of(config).model_dump_json().encode()
    at = rng.randrange(len(whole) - 1)
    choices = [
        whole[:at],
        whole[:at] + b"\0" + whole[at + 1 :],
        b"",
        b"{}",
        b"[]",
        b"null",
        b"[" * 100_000,
        rng.randbytes(300),
        whole.replace(b'"er"', b'["er"]'),
        whole.replace(b"50.0", b'"fifty"'),
        whole.replace(b"{", b"[", 1),
        whole.replace(b'"tasks":2', b'"tasks":-2'),
        result_of(config_of(10**6 + 1)).model_dump_json().encode(),
        b'{"config": 3}',
        b"\xff\xfe" + whole,
        whole + whole,
        pickle.dumps(Evil(place.root / "owned")),
        b'{"config":' * 5000,
    ]
    path.write_bytes(rng.choice(choices))
    if rng.random() < 0.1:
        path.unlink()
        path.symlink_to(rng.choice((path, place.here, "/dev/null")))
    small = ["tasks=2", "images_per_class=10", "width=8", "epochs=2", "buffer_size=20"]
    asked = ["run", "--profile", "smoke", "--method", "er", "--dataset", "digits", "--seed", str(config.seed)]
    asked += [part for field in small for part in ("--set", field)]
    return [*rng.choice((asked, ["show", config.key], ["store", "verify"])), "--store", str(place.store)]


def evidence(rng: Random, place: Sandbox):
    """A line of evidence that is damaged, in a store of its own."""
    root = place.store / f"lines{rng.randrange(10**9)}"
    config = config_of(rng.randrange(10**6))
    text = result_of(config).model_dump_json()
    line = f'{{"kind":"training","key":"{config.key}","result":{text}}}'
    wrong = rng.choice(
        (line[:200], line.replace("50.0", "[]"), line.replace('"result":{', '"result":{{'), line[:-5] + "\0}")
    )
    path = root / "some" / "runs.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(f"{wrong}\n")
    return [*rng.choice((["store", "verify"], ["show", config.key[:8]])), "--store", str(root)]


def matrix(rng: Random, place: Sandbox):
    """Cells that cannot be read or clustered."""
    path = place.here / f"m{rng.randrange(10**9)}"
    good = "a,b,c\n" + "\n".join(f"{i},{i % 3},{(i * 7) % 5}" for i in range(12)) + "\n"
    kind = rng.choice(
        (
            "text",
            "nan",
            "inf",
            "empty",
            "header",
            "binary",
            "gz",
            "cut gz",
            "ending",
            "ragged",
            "no file",
            "mtx",
            "mtx names",
            "mtx text",
            "h5ad",
            "quotes",
            "folder",
            "bomb header",
            "null",
            "huge",
            "h5",
            "features",
        )
    )
    if kind in ("mtx", "mtx names", "mtx text", "folder", "bomb header", "features"):
        path.mkdir()
        header = "%%MatrixMarket matrix coordinate integer general\n"
        body = {"mtx": "2 2 5\n1 1 1\n", "mtx text": "x y z\n", "bomb header": f"{10**12} {10**12} 1\n1 1 1\n"}
        (path / "matrix.mtx").write_text(header + body.get(kind, "2 3 2\n1 1 1\n2 3 1\n"))
        if kind != "folder":
            (path / "features.tsv").write_text("" if kind == "features" else "g1\ng2\n")
            (path / "barcodes.tsv").write_text("" if rng.random() < 0.5 else "c1\n")
    else:
        contents = {
            "text": good.replace("5,2,0", "5,two,0"),
            "nan": good.replace("5,2,0", "5,,0"),
            "inf": good.replace("5,2,0", "5,inf,0"),
            "empty": "",
            "header": "a,b,c\n",
            "ragged": good + "1,2,3,4,5\n",
            "quotes": good + '"open\n',
            "null": good + "\0\0\0\n",
            "huge": good.replace("5,2,0", f"5,{'9' * 400},0"),
        }
        name = {"gz": ".csv.gz", "cut gz": ".tsv.gz", "ending": ".xlsx", "h5ad": ".h5ad", "h5": ".h5ad"}.get(
            kind, ".csv"
        )
        path = path.with_name(path.name + name)
        if kind == "cut gz":
            path.write_bytes(gzip.compress(good.encode() * 50)[: rng.randrange(20, 60)])
        elif kind in ("binary", "gz", "h5ad"):
            path.write_bytes(rng.randbytes(rng.randrange(1, 500)))
        elif kind == "h5":
            path.write_bytes(b"\x89HDF\r\n\x1a\n" + rng.randbytes(400))
        elif kind != "no file":
            path.write_text(contents.get(kind, good))
    return [
        "cluster",
        str(path),
        "--clusters",
        rng.choice(("2", "3", "auto")),
        "--genes",
        rng.choice(("2", "auto")),
        "--out",
        str(place.here / "result"),
    ]
