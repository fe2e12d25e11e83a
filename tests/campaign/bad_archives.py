"""Hostile or damaged archives, arrays and images where the package reads data."""

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

from campaign.bad_files import Evil
from campaign.sandbox import Sandbox
from sparcl_lite import register


def write_tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w:gz") -> None:
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
        write_tar(path, members)
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
        (
            ("cifar10", "cifar10-v1.npz"),
            ("tiny-imagenet", "tiny-imagenet-200.zip"),
            ("cifar10", "cifar-10-binary.tar.gz"),
            ("fashion-mnist-full", "train-images-idx3-ubyte.gz"),
            ("tiny-imagenet", "tiny-imagenet-v1.npz"),
            ("cifar10", "data_batch_1"),
        )
    )
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
