"""A user's own images: arrays, or a folder with a subfolder for every class, as a data set that a run can name."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import DecompressionBombError
from torch import Tensor

from sparcl_lite.data.sources import Dataset, Split
from sparcl_lite.data.specs import DatasetSpec
from sparcl_lite.errors import KitError
from sparcl_lite.paths import folder as path_of
from sparcl_lite.registry import DATASETS

COLOURS = (1, 3)
PADDED_SHARE = 8  # a random crop moves an image by up to 1/8 of its size, as in CIFAR
Arrays = tuple[Any, Any]  # images and labels


def register_arrays(
    name: str,
    *,
    train: Arrays,
    test: Arrays,
    tasks: int | None = None,
    padding: int | None = None,
    flip: bool = False,
    label: str = "",
    replace: bool = False,
) -> None:
    """Register images and labels under a name.

    Parameters
    ----------
    train, test : images uint8 ``(N, C, H, W)``, ``(N, H, W, C)`` or ``(N, H, W)`` with C = 1 or 3, and N labels of any
        type that can be sorted; classes may differ in size
    tasks : tasks that the classes are split into unless a run says otherwise (default: of two classes each, or one
        where they are odd in number)
    padding, flip : augmentation, a random crop after so many zero pixels (default: 1/8 of the size) and a mirror image

    Raises `KitError`, in one line, for images or labels of another form.
    """
    images = [_images(name, part, given[0]) for part, given in (("train", train), ("test", test))]
    if images[0].shape[1:] != images[1].shape[1:]:
        raise KitError(f"dataset {name!r}: train images are {_size(images[0])}, test images {_size(images[1])}")
    labels, classes = _numbered(name, images, train[1], test[1])
    splits = [Split(i, n) for i, n in zip(images, labels, strict=True)]
    spec = _spec(name, splits, classes, tasks, padding, flip)
    DATASETS.register(
        name, spec, label=label, identity=_checksum(spec, splits), replace=replace, dataset=Dataset(spec, *splits)
    )


def register_folder(name: str, place: Path | str, *, size: int = 32, grey: bool = False, **options: Any) -> None:
    """Register `place`/train/<class>/* and `place`/test/<class>/*, resized to `size` x `size`; grey, or in colour.

    `options` are those of `register_arrays`. Raises `KitError` for a folder of another form or an image that cannot be
    read.
    """
    root = path_of(place)
    parts = {part: _read(root / part, size, grey) for part in ("train", "test")}
    register_arrays(name, **parts, **options)


def _read(place: Path, size: int, grey: bool) -> Arrays:
    from torchvision.datasets import ImageFolder
    from torchvision.transforms.functional import pil_to_tensor, resize

    try:
        found = ImageFolder(str(place))
        pictures = [found[index] for index in range(len(found))]
    except (OSError, SyntaxError, ValueError, DecompressionBombError) as error:  # of damaged and of huge images
        reason = " ".join(str(error).split())
        raise KitError(f"{place}: {reason}; allowed: {place}/<class>/<image> with readable images") from None
    images = [
        resize(pil_to_tensor(picture.convert("L" if grey else "RGB")), [size, size], antialias=True)
        for picture, _ in pictures
    ]
    return torch.stack(images), [found.classes[label] for _, label in pictures]


def _images(name: str, part: str, given: Any) -> Tensor:
    """uint8 ``(N, C, H, W)``."""
    images = given if isinstance(given, Tensor) else torch.from_numpy(np.ascontiguousarray(given))
    if images.dtype != torch.uint8:
        kind = str(images.dtype).removeprefix("torch.")
        raise KitError(f"dataset {name!r}: {part} images are {kind}; allowed: uint8 from 0 to 255")
    if images.dim() == 3:
        images = images[:, None]
    elif images.dim() == 4 and images.shape[1] not in COLOURS and images.shape[3] in COLOURS:
        images = images.permute(0, 3, 1, 2)
    if images.dim() != 4 or images.shape[1] not in COLOURS or not len(images):
        raise KitError(
            f"dataset {name!r}: {part} images are {tuple(images.shape)}; "
            f"allowed: (N, C, H, W), (N, H, W, C) or (N, H, W) with C = 1 or 3"
        )
    return images.contiguous()


def _size(images: Tensor) -> str:
    return " x ".join(map(str, images.shape[1:]))


def _numbered(name: str, images: Sequence[Tensor], *given: Any) -> tuple[list[Tensor], list[Any]]:
    """Labels of both parts as numbers ``(N,)``, and the classes in their order. Every class has images in both."""
    labels = [np.asarray(part.tolist() if isinstance(part, Tensor) else part) for part in given]
    for part, found, those in zip(("train", "test"), labels, images, strict=True):
        if found.shape != (len(those),):
            raise KitError(f"dataset {name!r}: {len(those)} {part} images, but labels of shape {found.shape}")
    classes = np.unique(labels[0])
    if different := sorted(set(classes.tolist()) ^ set(labels[1].tolist()), key=str):
        raise KitError(f"dataset {name!r}: class {different[0]!r} is not in both train and test")
    return [torch.from_numpy(np.searchsorted(classes, found)).long() for found in labels], classes.tolist()


def _spec(
    name: str, splits: Sequence[Split], classes: list, tasks: int | None, padding: int | None, flip: bool
) -> DatasetSpec:
    train, test = splits
    channels, rows, columns = train.images.shape[1:]
    pixels = train.images.transpose(0, 1).reshape(channels, -1).double() / 255
    spread = pixels.std(1, correction=0).clamp_min(1 / 255)  # of images of one colour
    return DatasetSpec(
        name=name,
        channels=channels,
        size=rows if rows == columns else (rows, columns),
        classes=tuple(map(str, classes)),
        tasks=tasks or (len(classes) // 2 if len(classes) % 2 == 0 else len(classes)),
        train_images=len(train.labels),
        test_images=len(test.labels),
        mean=tuple(round(value, 6) for value in pixels.mean(1).tolist()),
        std=tuple(round(value, 6) for value in spread.tolist()),
        padding=min(rows, columns) // PADDED_SHARE if padding is None else padding,
        flip=flip,
    )


def _checksum(spec: DatasetSpec, splits: Sequence[Split]) -> str:
    digest = hashlib.sha256(repr((spec.classes, spec.padding, spec.flip)).encode())
    for split in splits:
        digest.update(repr(tuple(split.images.shape)).encode())
        digest.update(split.images.numpy().tobytes())
        digest.update(split.labels.numpy().tobytes())
    return digest.hexdigest()[:16]
