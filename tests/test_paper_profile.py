"""The `paper` profile at its full size: every method takes real steps on images of each data set's real shape."""

import math
from itertools import islice

import pytest
import torch

from sparcl_lite.config import RunConfig
from sparcl_lite.data.sources import Dataset, Split
from sparcl_lite.measure.flops import FLOPS_PER_MAC, macs
from sparcl_lite.registry import DATASETS, METHODS
from sparcl_lite.sparsity import RigL, SparCL, StaticMask
from sparcl_lite.training import Trainer

pytestmark = pytest.mark.slow

SIZES = {"cifar10": (5, 10, 32), "cifar100": (10, 100, 32), "tiny-imagenet": (10, 200, 64)}
LONG_BUT_CIFAR10 = [pytest.param(name, marks=[] if name == "cifar10" else pytest.mark.long) for name in SIZES]
SPARSE = {
    "sparcl": SparCL(sparsity=0.9),
    "official": SparCL(variant="official"),
    "snip": StaticMask(kind="snip", sparsity=0.9),
    "rigl": RigL(sparsity=0.9),
}
STEPS, BATCH = (1, 2), 2  # in the first task, and in the second, which replays


def generated(name):
    """As many training images as two steps of a task need, of the data set's shape."""
    spec = DATASETS[name]
    generator = torch.Generator().manual_seed(0)
    count = len(spec.classes) * (2 if name == "cifar10" else 1)
    shape = (count, spec.channels, spec.size, spec.size)
    images = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    split = Split(images, torch.arange(count) % len(spec.classes))
    return Dataset(spec, split, split)


def first_steps(trainer, losses):
    """A step of the first task and two of the second, with replay, and what happens between the tasks."""
    method, epoch, loss = trainer.method, trainer.stream.epoch, trainer.method.loss

    def recorded(batch):
        value, logits = loss(batch)
        losses.append(float(value.detach()))
        return value, logits

    method.loss = recorded
    for number, steps in enumerate(STEPS):
        trainer.stream.epoch = lambda *arguments, steps=steps: islice(epoch(*arguments), steps)
        trainer.begin(number)
        trainer.train_epoch(number, 0)
        trainer.end(number)


def trainer_of(dataset, method, sparse=None, **settings):
    settings = {"epochs": 5 if sparse else 1, "batch_size": BATCH, "replay_batch_size": BATCH} | settings
    config = RunConfig(
        **{"profile": "paper", "buffer_size": 500, "sparse": sparse} | settings, dataset=dataset, method=method
    )
    return Trainer(config, generated(dataset))


OWN_COSTS = ("joint", "pnn", "lightcl")
REPLAYING = ("agem", "fdr", "er", "er-ace", "der", "der++")


@pytest.mark.parametrize("method", [name for name in METHODS if name not in OWN_COSTS])
@pytest.mark.parametrize("dataset", LONG_BUT_CIFAR10)
def test_every_method_trains_at_full_width(dataset, method):
    trainer, losses = trainer_of(dataset, method), []
    tasks, classes, size = SIZES[dataset]
    assert (len(trainer.phases), trainer.network.linear.out_features) == (tasks, classes)
    assert trainer.network.conv1.out_channels == 64
    assert trainer.stream.train.images.shape[2:] == (size, size)
    first_steps(trainer, losses)
    assert len(losses) == sum(STEPS)
    assert all(map(math.isfinite, losses))
    assert all(bool(p.isfinite().all()) for p in trainer.network.parameters())
    # The published accounting has 3 units for the current samples; counted honestly the stem needs no input gradient.
    current, unit = sum(STEPS) * BATCH, FLOPS_PER_MAC * macs(trainer.ledger.costs)
    assert trainer.ledger.forward >= current * unit
    assert (trainer.ledger.forward > current * unit) == (method in REPLAYING)
    backward = trainer.ledger.input_gradient + trainer.ledger.weight_gradient
    assert backward == pytest.approx(2 * trainer.ledger.forward, rel=0.01)


@pytest.mark.parametrize("lightcl", [{}, {"variant": "official"}, {"prune": (0.2, 0.2, 0.7, 0.8)}], ids=str)
@pytest.mark.parametrize("dataset", SIZES)
def test_lightcl_trains_at_full_width(dataset, lightcl):
    trainer, losses = trainer_of(dataset, "lightcl", buffer_size=4, lightcl=lightcl), []
    first_steps(trainer, losses)
    assert len(losses) == sum(STEPS)
    assert all(map(math.isfinite, losses))
    assert trainer.network.frozen[-1] == "layer3.1"
    below = [p for name, p in trainer.network.named_parameters() if not name.startswith(("layer4", "linear"))]
    assert all(p.grad is None and not p.requires_grad for p in below)
    assert len(trainer.method.masks) == 4
    width = trainer.network.layer4[1].out_channels
    assert all(int(m.sum()) >= 77 for m in trainer.method.masks)
    assert width == (102 if "prune" in lightcl else 512)
    backward = trainer.ledger.input_gradient + trainer.ledger.weight_gradient
    assert backward < 1.5 * trainer.ledger.forward


@pytest.mark.parametrize("dataset", SIZES)
def test_progressive_networks_train_at_full_width(dataset):
    trainer, losses = trainer_of(dataset, "pnn", tasks=2), []
    first_steps(trainer, losses)
    assert all(map(math.isfinite, losses))
    assert len(trainer.network.columns) == 2
    assert all(p.grad is None for p in trainer.network.columns[0].parameters())
    assert trainer.network.columns[1].linear.out_features == SIZES[dataset][1]


def test_joint_trains_on_all_classes_at_full_width():
    trainer = trainer_of("cifar100", "joint")
    (phase,) = trainer.phases
    assert len(phase.classes) == 100
    batch = trainer.stream.batch(phase, phase.samples[:BATCH])
    loss, logits = trainer.method.loss(batch)
    assert math.isfinite(float(loss.detach()))
    assert logits.shape == (BATCH, 100)


@pytest.mark.parametrize("kind", SPARSE)
def test_every_sparse_strategy_trains_at_full_width(kind):
    trainer, losses = trainer_of("cifar10", "der++", SPARSE[kind]), []
    first_steps(trainer, losses)
    assert all(map(math.isfinite, losses))
    density = SPARSE[kind].weight_density
    for weight in trainer.sparsity.weights.values():
        assert weight.count_nonzero() / weight.numel() <= density + 0.011  # p_inter
    dense = FLOPS_PER_MAC * macs(trainer.ledger.costs)
    passes = trainer.ledger.forward / dense
    assert passes < sum(STEPS) * BATCH * 3 * (density + 0.03)
