"""Pre-training: a network's first weights from classes that no task of the stream has, nor any of its images.

Everything is drawn from the run's seed, by generators of its own. The loop of the run itself is the business of
`training`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from sparcl_lite.config import RunConfig
from sparcl_lite.data.sources import Dataset, Split, load
from sparcl_lite.data.streams import Augmentation
from sparcl_lite.errors import KitError
from sparcl_lite.models import Network
from sparcl_lite.rng import Generators, derived_seed


def split_classes(config: RunConfig, dataset: Dataset, rng: Generators) -> tuple[Dataset | None, Dataset]:
    """What is pre-trained on (None: nothing) and what the stream has; with `disjoint` both parts of one data set."""
    if config.pretraining == "none":
        return None, dataset
    if config.pretraining == "cifar100":
        return load("cifar100"), dataset
    count = len(dataset.spec.classes)
    order = torch.arange(count)
    if config.class_order == "shuffled":
        order = torch.randperm(count, generator=rng.classes)
    taken, rest = order.split([config.pretraining_classes, count - config.pretraining_classes])
    return with_classes(dataset, taken), with_classes(dataset, rest)


def with_classes(dataset: Dataset, classes: Tensor) -> Dataset:
    """The images of these classes ``(c,)``, which are numbered anew in the order of their old numbers."""
    classes = classes.sort().values
    parts = {name: _of_classes(getattr(dataset, name), classes) for name in ("train", "test")}
    spec = replace(
        dataset.spec,
        classes=tuple(dataset.spec.classes[c] for c in classes.tolist()),
        train_images=len(parts["train"].labels),
        test_images=len(parts["test"].labels),
    )
    return Dataset(spec, **parts)


def _of_classes(split: Split, classes: Tensor) -> Split:
    members = torch.isin(split.labels, classes)
    return Split(split.images[members], torch.searchsorted(classes, split.labels[members]))


def without_images_of(source: Split, *others: Split) -> Split:
    """The source without images that also occur, pixel by pixel, in another split."""
    seen = {image.numpy().tobytes() for other in others for image in other.images}
    fresh = torch.tensor([image.numpy().tobytes() not in seen for image in source.images], dtype=torch.bool)
    return Split(source.images[fresh], source.labels[fresh])


def pretrain(
    config: RunConfig,
    network: Network,
    source: Dataset,
    stream: Dataset,
    device: str,
    *,
    progress: bool = False,
    begun: dict[str, Any] | None = None,
    on_epoch: Callable[[dict[str, Any]], None] = lambda state: None,
) -> dict[str, Any]:
    """Train all but the head of `network` on `source`, under a head of its own; what a result should say of it.

    Cross-entropy, SGD, the run's batch size and the source's augmentation; `progress` shows its epochs. After each of
    them `on_epoch` is given the state; a call that is given one as `begun` goes on from there, with the same bits.
    Raises `KitError` if it diverges.
    """
    train, test = (without_images_of(part, stream.train, stream.test) for part in (source.train, source.test))
    if config.pretraining_epochs and len(train.labels) < config.batch_size:
        raise KitError(
            f"batch_size = {config.batch_size}: the {len(train.labels)} images to pre-train on are no complete batch"
        )
    generator = torch.Generator().manual_seed(derived_seed(config.seed, "pretraining"))
    augment = Augmentation(source.spec, generator, device)
    head = _head(network.head.in_features, len(source.spec.classes), generator).to(device)
    own = {id(p) for p in network.head.parameters()}
    trunk = [p for p in network.parameters() if id(p) not in own]
    optimizer = torch.optim.SGD([*trunk, *head.parameters()], lr=config.pretraining_lr, foreach=True)
    first = 0
    if begun:
        first = begun["epochs"]
        network.load_state_dict(begun["network"])
        head.load_state_dict(begun["head"])
        generator.set_state(begun["generator"].cpu())
    network.train()
    epochs = range(first, config.pretraining_epochs)
    for epoch in tqdm(
        epochs, "pre-training", config.pretraining_epochs, initial=first, unit="epoch", disable=not progress
    ):
        order = torch.randperm(len(train.labels), generator=generator)
        for chosen in order.split(config.batch_size):
            if len(chosen) == config.batch_size:
                optimizer.zero_grad(set_to_none=True)
                logits = head(network.features(augment(train.images[chosen].to(device))))
                F.cross_entropy(logits, train.labels[chosen].to(device)).backward()
                optimizer.step()
        weights = {"network": network.state_dict(), "head": head.state_dict()}
        on_epoch({"epochs": epoch + 1, **weights, "generator": generator.get_state()})
    if not all(bool(p.isfinite().all()) for p in trunk):
        raise KitError(f"pre-training diverged; try a smaller pretraining_lr than {config.pretraining_lr}")
    return {
        "source": source.spec.name,
        "classes": list(source.spec.classes),
        "train_images": len(train.labels),
        "test_images": len(test.labels),
        "accuracy": round(_accuracy(network, head, augment, test, device), 4),
    }


def _head(features: int, classes: int, generator: torch.Generator) -> nn.Linear:
    head = nn.Linear(features, classes, device="meta").to_empty(device="cpu")
    nn.init.uniform_(head.weight, -(features**-0.5), features**-0.5, generator=generator)
    nn.init.zeros_(head.bias)
    return head


@torch.no_grad()
def _accuracy(network: Network, head: nn.Linear, augment: Augmentation, test: Split, device: str) -> float:
    """Per cent of the source's test images that are classified correctly."""
    network.eval()
    right = 0
    for chosen in torch.arange(len(test.labels)).split(500):
        logits = head(network.features(augment.normalise(test.images[chosen].to(device))))
        right += int((logits.argmax(1).cpu() == test.labels[chosen]).sum())
    return 100 * right / len(test.labels)
