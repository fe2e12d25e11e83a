"""Tasks, subsets, validation splits, batches, and the augmentation against torchvision's."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import chi2_contingency, chisquare
from torchvision import transforms

from sparcl_lite.config import RunConfig
from sparcl_lite.data.sources import load
from sparcl_lite.data.streams import Augmentation, TaskStream, samples_per_class, steps_per_epoch
from sparcl_lite.errors import KitError
from sparcl_lite.registry import DATASETS
from sparcl_lite.rng import Generators
from sparcl_lite.sparsity import SparCL

DIGITS = load("digits")
NORMALISED = {"mean": (0.3058,), "std": (0.3764,)}


def stream_of(**settings):
    config = RunConfig(profile="smoke", **settings)
    return TaskStream(config, DIGITS, Generators(config.seed))


def classes(stream):
    return [tuple(task.classes.tolist()) for task in stream.tasks]


@pytest.mark.parametrize("order", ["native", "shuffled"])
@pytest.mark.parametrize("tasks", [1, 2, 5, 10])
def test_tasks_partition_classes_and_samples(order, tasks):
    stream = stream_of(class_order=order, tasks=tasks)
    assert sorted(c for group in classes(stream) for c in group) == list(range(10))
    assert {len(group) for group in classes(stream)} == {10 // tasks}
    assert sorted(torch.cat([task.samples for task in stream.tasks]).tolist()) == list(range(400))
    for index, task in enumerate(stream.tasks):
        assert task.index == index
        assert set(stream.train.labels[task.samples].tolist()) == set(task.classes.tolist())
        evaluated = torch.cat([labels for _, labels in stream.evaluation_batches(task, size=7)])
        assert sorted(evaluated.tolist()) == sorted(x for x in DIGITS.test.labels.tolist() if x in task.classes)


def test_native_order_counts_up_and_shuffled_depends_on_the_seed_only():
    assert classes(stream_of(class_order="native")) == [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
    orders = [tuple(classes(stream_of(class_order="shuffled", seed=seed))) for seed in range(8)]
    assert len(set(orders)) > 4
    assert orders[3] == tuple(classes(stream_of(class_order="shuffled", seed=3, method="sgd", images_per_class=5)))


def test_subset_takes_as_many_of_each_class_and_varies_with_the_seed():
    stream = stream_of(images_per_class=13)
    assert torch.bincount(stream.train.labels).tolist() == [13] * 10
    assert len({image.numpy().tobytes() for image in stream.train.images}) == 130
    assert not stream.train.images.equal(stream_of(images_per_class=13, seed=1).train.images)
    everything = stream_of(images_per_class=0)
    assert everything.train.images.equal(DIGITS.train.images)
    with pytest.raises(KitError, match=r"images_per_class = 1000: digits has \d+ training images of class 0"):
        stream_of(images_per_class=1000)


def test_a_task_without_a_complete_batch_is_refused_only_where_incomplete_ones_are_dropped():
    small = {"images_per_class": 5, "batch_size": 16}
    assert len(list(stream_of(**small).epoch(stream_of(**small).tasks[0], torch.arange(10)))) == 1
    with pytest.raises(KitError, match="batch_size = 16: a task of 10 samples has no complete batch"):
        stream_of(drop_last=True, **small)


@pytest.mark.parametrize("images", [1, 2])
def test_a_validation_split_without_images_is_refused(images):
    with pytest.raises(KitError, match=rf"^images_per_class = {images}: holdout = 'validation' has no .*allowed: 3 or"):
        stream_of(images_per_class=images, holdout="validation")
    assert len(stream_of(images_per_class=3, holdout="validation").held_out.labels) == 10


def test_a_task_of_one_sample_is_refused():
    with pytest.raises(KitError, match=r"^images_per_class = 1: a task of 1 sample, .* batch norm needs 2"):
        stream_of(images_per_class=1, tasks=[9, 1])
    assert stream_of(images_per_class=1, tasks=[8, 2]).smallest == 2


def test_joint_training_needs_a_complete_batch_of_all_tasks_only():
    small = {"images_per_class": 5, "batch_size": 16, "drop_last": True}
    assert stream_of(method="joint", **small).smallest == 50


def test_validation_split_is_a_disjoint_fifth_of_the_training_images():
    stream, whole = stream_of(holdout="validation"), stream_of()
    assert torch.bincount(stream.train.labels).tolist() == [32] * 10
    assert torch.bincount(stream.held_out.labels).tolist() == [8] * 10

    def pixels(split):
        return Counter(image.numpy().tobytes() for image in split.images)

    assert not pixels(stream.train) & pixels(stream.held_out)
    assert pixels(stream.train) + pixels(stream.held_out) == pixels(whole.train)
    assert whole.held_out.images.equal(DIGITS.test.images)
    for config in (stream.config, whole.config):
        assert samples_per_class(config, DIGITS.spec) == (32 if config.holdout == "validation" else 40)
    assert samples_per_class(RunConfig(profile="paper"), DATASETS["cifar10"]) == 5000


def test_joint_task_has_every_sample_and_class():
    joint = stream_of(class_order="shuffled").joint()
    assert sorted(joint.classes.tolist()) == list(range(10))
    assert joint.samples.tolist() == list(range(400))
    assert joint.index == 0


@pytest.mark.parametrize(
    ("samples", "rule", "sizes"),
    [
        (80, {}, [16] * 5),
        (75, {}, [16] * 4 + [11]),
        (65, {}, [16] * 4),
        (75, {"sparse": SparCL(variant="official")}, [16] * 4),
        (7, {"drop_last": True}, []),
        (80, {"even_batches": True}, [16] * 5),
        (75, {"even_batches": True}, [15] * 5),
        (65, {"even_batches": True}, [17, 16, 16, 16]),
        (7, {"even_batches": True}, [7]),
    ],
)
def test_epoch_presents_each_sample_once_in_fresh_order(samples, rule, sizes):
    stream = stream_of(**rule)
    task = stream.tasks[1]
    chosen = task.samples[:samples]
    first, second = (list(stream.epoch(task, chosen)) for _ in range(2))
    assert [len(batch.labels) for batch in first] == sizes
    assert steps_per_epoch(stream.config, samples) == len(sizes)
    shown = [i for batch in first for i in batch.samples.tolist()]
    assert len(set(shown)) == sum(sizes)
    assert set(shown) <= set(chosen.tolist())
    assert not sizes or shown != [i for batch in second for i in batch.samples.tolist()]
    for batch in first:
        assert batch.images.equal(stream.train.images[batch.samples])
        assert batch.labels.equal(stream.train.labels[batch.samples])
        assert (batch.inputs.dtype, batch.inputs.shape) == (torch.float32, batch.images.shape)
        assert batch.task is task


# -- augmentation --------------------------------------------------------------------------------------------


def tiny_spec(flip, padding=1):
    return replace(DATASETS["digits"], size=3, padding=padding, flip=flip, **NORMALISED)


IMAGE = torch.tensor([[10, 40, 90], [130, 170, 200], [220, 240, 255]], dtype=torch.uint8)[None]


def keys(batch):
    return [tuple(np.round(image.flatten().tolist(), 4).tolist()) for image in batch]


@pytest.mark.parametrize("flip", [True, False])
def test_augmentation_has_the_distribution_of_torchvisions(flip):
    count, outcomes = 4000, 9 * (1 + flip)
    augment = Augmentation(tiny_spec(flip), torch.Generator().manual_seed(0))
    ours = Counter(keys(augment(IMAGE[None].expand(count, -1, -1, -1))))
    torch.manual_seed(0)
    theirs_of = transforms.Compose(
        [
            transforms.RandomCrop(3, padding=1),
            *([transforms.RandomHorizontalFlip()] if flip else []),
            transforms.ToTensor(),
            transforms.Normalize(**NORMALISED),
        ]
    )
    pil = Image.fromarray(IMAGE[0].numpy())
    theirs = Counter(keys(torch.stack([theirs_of(pil) for _ in range(count)])))
    assert set(ours) == set(theirs)
    assert len(ours) == outcomes
    assert chisquare(list(ours.values())).pvalue > 1e-3
    table = [[ours[key] for key in ours], [theirs[key] for key in ours]]
    assert chi2_contingency(table).pvalue > 1e-3


def test_each_image_has_its_own_draw_and_all_channels_the_same():
    spec = replace(tiny_spec(True), channels=2, mean=(0.0, 0.0), std=(1.0, 1.0))
    augment = Augmentation(spec, torch.Generator().manual_seed(0))
    both = torch.cat([IMAGE, IMAGE])
    pairs = augment(both[None].expand(4000, -1, -1, -1))
    assert pairs[:, 0].equal(pairs[:, 1])
    names = {key: i for i, key in enumerate(sorted(set(keys(pairs[:, 0]))))}
    drawn = np.array([names[key] for key in keys(pairs[:, 0])])
    table = np.zeros((18, 18))
    np.add.at(table, (drawn[::2], drawn[1::2]), 1)  # neighbours in a batch
    assert chi2_contingency(table).pvalue > 1e-3


def test_normalise_is_torchvisions_and_does_not_augment():
    augment = Augmentation(DATASETS["cifar10"], torch.Generator().manual_seed(0))
    images = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8)
    normal = transforms.Normalize(DATASETS["cifar10"].mean, DATASETS["cifar10"].std)
    torch.testing.assert_close(augment.normalise(images), normal(images / 255))
