"""Damaged or hostile files where the package reads: results, evidence, matrices, archives, arrays and images."""

import gzip
import io
import json
import os
import pickle
import random
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

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
        config=config, accuracy_matrix=[[1.0, None], [0.5, 0.25]], task_il_matrix=[[1.0, None], [0.5, 0.25]],
        flops=Flops(paper=1.0, honest=2.0, by_part={}), seconds=Seconds(train=1.0, eval=1.0), peak_memory_bytes=1,
        training_memory_bytes={}, trace={}, environment={}, started="2026-01-01T00:00:00+00:00",
        finished="2026-01-01T00:00:01+00:00", **dict.fromkeys(plain, 50.0),
    )  # fmt: skip


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
        whole[:at], whole[:at] + b"\0" + whole[at + 1 :], b"", b"{}", b"[]", b"null", b"[" * 100_000, rng.randbytes(300),
        whole.replace(b'"er"', b'["er"]'), whole.replace(b"50.0", b'"fifty"'), whole.replace(b"{", b"[", 1),
        whole.replace(b'"tasks":2', b'"tasks":-2'), result_of(config_of(10**6 + 1)).model_dump_json().encode(),
        b'{"config": 3}', b"\xff\xfe" + whole, whole + whole, pickle.dumps(Evil(place.root / "owned")),
        b'{"config":' * 5000,
    ]  # fmt: skip
    path.write_bytes(rng.choice(choices))
    if rng.random() < 0.1:
        path.unlink()
        path.symlink_to(rng.choice((path, place.here, "/dev/null")))
    small = ["tasks=2", "images_per_class=10", "width=8", "epochs=2", "buffer_size=20"]
    asked = ["run", "--profile", "smoke", "--method", "er", "--dataset", "digits", "--seed", str(config.seed)]
    asked += [part for field in small for part in ("--set", field)]
    return rng.choice((asked, ["show", config.key], ["store", "verify"])) + ["--store", str(place.store)]


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
        ("text", "nan", "inf", "empty", "header", "binary", "gz", "cut gz", "ending", "ragged", "no file", "mtx",
         "mtx names", "mtx text", "h5ad", "quotes", "folder", "bomb header", "null", "huge", "h5", "features")
    )  # fmt: skip
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
            "text": good.replace("5,2,0", "5,two,0"), "nan": good.replace("5,2,0", "5,,0"), "inf": good.replace("5,2,0", "5,inf,0"),
            "empty": "", "header": "a,b,c\n", "ragged": good + "1,2,3,4,5\n", "quotes": good + '"open\n',
            "null": good + "\0\0\0\n", "huge": good.replace("5,2,0", f"5,{'9' * 400},0"),
        }  # fmt: skip
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
    return ["cluster", str(path), "--clusters", rng.choice(("2", "3", "auto")), "--genes", rng.choice(("2", "auto")),
            "--out", str(place.here / "result")]  # fmt: skip


def _tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w:gz") -> None:
    with tarfile.open(path, mode) as archive:
        for member, content in members:
            member.size = len(content) if member.isfile() else 0
            archive.addfile(member, io.BytesIO(content))


def archive(rng: Random, place: Sandbox):
    """A placed archive of CIFAR-10 or CIFAR-100 with path escapes, links, devices, pickles, bombs, or cut off."""
    name = rng.choice(("cifar10", "cifar10", "cifar10", "cifar100"))
    file = {"cifar10": "cifar-10-python.tar.gz", "cifar100": "cifar-100-python.tar.gz"}[name]
    path, folder = place.data / file, "cifar-10-batches-py"
    batch = pickle.dumps({b"data": np.zeros((10, 3072), np.uint8), b"labels": list(range(10))}, protocol=2)
    batches = [*(f"{folder}/data_batch_{n}" for n in range(1, 6)), f"{folder}/test_batch"]
    members = [(tarfile.TarInfo(each), batch) for each in batches]
    odd = tarfile.TarInfo(
        rng.choice(("../escape", "/etc/escape", f"{folder}/../../escape", "C:\\escape", "..\\escape"))
    )
    evil = pickle.dumps({b"data": Evil(place.root / "owned"), b"labels": []})
    kind = rng.choice(
        ("escape", "link", "hard", "device", "fifo", "pickle", "bomb", "cut", "noise", "few", "gap", "opcodes", "type")
    )
    if kind == "escape":
        members.insert(rng.randrange(6), (odd, b"x"))
    elif kind in ("link", "hard", "device", "fifo"):
        odd.name = rng.choice((batches[0], f"{folder}/more"))
        odd.type = {
            "link": tarfile.SYMTYPE,
            "hard": tarfile.LNKTYPE,
            "device": tarfile.CHRTYPE,
            "fifo": tarfile.FIFOTYPE,
        }[kind]
        odd.linkname = rng.choice(("/etc/passwd", "../../../etc/passwd", batches[1]))
        members.insert(0, (odd, b""))
    elif kind == "pickle":
        members[rng.randrange(6)] = (tarfile.TarInfo(batches[0]), evil)
    elif kind == "opcodes":
        members[0] = (
            members[0][0],
            bytes(rng.choice(batch + b"c)RbtK]}.q") for _ in range(rng.randrange(1, 60))) + b".",
        )
    elif kind == "type":
        members[0] = (
            members[0][0],
            pickle.dumps(rng.choice(([], 7, {b"data": 1, b"labels": 2}, {}, {b"data": batch}))),
        )
    elif kind == "gap":
        del members[rng.randrange(6)]
    elif kind == "few":
        members = members[: rng.randrange(6)]
    if kind == "bomb":  # 2 GiB of zeros in 2 MB
        _bomb(path, batches[0])
    else:
        _tar(path, members)
    if kind == "cut":
        os.truncate(path, rng.randrange(1, path.stat().st_size - 1))
    if kind == "noise":
        path.write_bytes(rng.randbytes(500))
    return ["data", rng.choice(("verify", "fetch")), name]


BOMB_BYTES = 2 * 2**30


def _bomb(path: Path, name: str) -> None:
    kept = path.parent.parent / "bomb.tar.gz"
    if not kept.exists():
        member, zeros = tarfile.TarInfo(name), bytes(2**20)
        member.size = BOMB_BYTES
        with gzip.open(kept, "wb", compresslevel=1) as file:
            file.write(member.tobuf())
            for _ in range(BOMB_BYTES // len(zeros)):
                file.write(zeros)
            file.write(bytes(1024))
    path.write_bytes(kept.read_bytes())


def arrays(rng: Random, place: Sandbox):
    """A cache of arrays, a zip or a gzip file of a data set that is another one, damaged or a pickle."""
    name, file = rng.choice(
        (("cifar10", "cifar10-v1.npz"), ("tiny-imagenet", "tiny-imagenet-200.zip"), ("cifar10", "cifar-10-binary.tar.gz"),
         ("fashion-mnist-full", "train-images-idx3-ubyte.gz"), ("tiny-imagenet", "tiny-imagenet-v1.npz"), ("cifar10", "data_batch_1"))
    )  # fmt: skip
    path, kind = (
        place.data / file,
        rng.choice(("noise", "empty", "pickle", "header", "zip", "escape", "folder", "bomb", "gzip")),
    )
    if kind == "folder":
        path.mkdir()
    elif kind == "pickle":
        np.savez(path.with_suffix(".npz"), train_images=np.array([Evil(place.root / "owned")], dtype=object))
        path.with_suffix(".npz").replace(path)
    elif kind in ("zip", "escape", "header", "bomb"):
        header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d,), }" % (10**15)
        array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("../x" if kind == "escape" else "train_images.npy", array if kind != "zip" else b"no array")
            if kind == "bomb":
                packed.writestr("tiny-imagenet-200/wnids.txt", bytes(50 * 2**20))
    elif kind == "gzip":
        path.write_bytes(gzip.compress(rng.randbytes(1000)))
    else:
        path.write_bytes(b"" if kind == "empty" else rng.randbytes(500))
    return ["data", rng.choice(("verify", "fetch")), name]


def images(rng: Random, place: Sandbox):
    """A folder of a user's own images of which one is damaged, a bomb or missing."""
    from sparcl_lite import register

    root, bad = place.here / f"photos{rng.randrange(10**9)}", rng.randrange(5)
    for part in ("train", "test"):
        for label in "ab":
            folder = root / part / label
            folder.mkdir(parents=True)
            Image.new("L", (8, 8), random.Random(label).randrange(200)).save(folder / "0.png")
    victim = root / rng.choice(("train", "test")) / "b" / "0.png"
    whole = victim.read_bytes()
    if bad == 0:
        victim.write_bytes(whole[: rng.randrange(len(whole) // 2)])
    elif bad == 1:
        head = whole[12:16] + struct.pack(">II", 60_000, 60_000) + whole[24:29]  # 3.6 billion pixels
        victim.write_bytes(whole[:12] + head + struct.pack(">I", zlib.crc32(head)) + whole[33:])
    elif bad == 2:
        victim.unlink()
    elif bad == 3:
        victim.write_bytes(json.dumps({"x": 1}).encode())
    else:
        victim.unlink()
        victim.symlink_to(root / "nowhere.png")

    def act():
        with place.inside():
            register.folder(f"campaign-{root.name}", root)

    return act
