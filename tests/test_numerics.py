"""Runs at the edge of what can be computed end with one clear line or a defined result."""

import math

import numpy as np
import pytest
import torch

import sparcl_lite as sl
from sparcl_lite.config import RunConfig
from sparcl_lite.data.published import check
from sparcl_lite.data.sources import MissingData, load
from sparcl_lite.errors import KitError
from sparcl_lite.registry import DATASETS
from sparcl_lite.runs.run import run
from sparcl_lite.runs.store import Store
from sparcl_lite.training import Trainer

SMALL = {"profile": "smoke", "dataset": "digits", "tasks": 2, "images_per_class": 10, "width": 8, "buffer_size": 20}


def tiny(**values):
    return RunConfig(**(SMALL | {"method": "er", "epochs": 3} | values))


def assert_defined(result):
    """All accuracies are percentages, all shares and costs finite."""
    known = [value for row in result.accuracy_matrix for value in row if value is not None]
    assert known
    assert all(0 <= value <= 100 for value in known)
    assert math.isfinite(result.flops.honest)
    assert result.flops.honest > 0
    assert 0 <= result.weight_density <= 1


@pytest.mark.parametrize(
    "values", [{}, {"method": "der++", "sparse": sl.SparCL(sparsity=0.5, interval=0.2)}], ids=["dense", "sparse"]
)
def test_a_diverging_run_is_one_line_and_leaves_no_result(tmp_path, values):
    with pytest.raises(KitError, match=r"^training diverged in task 1, epoch 1: .* try a smaller lr than 1e\+30$"):
        run(tiny(lr=1e30, **values), store=tmp_path)
    assert list(Store(tmp_path).results()) == []


def test_statistics_that_overflow_are_a_divergence_though_weights_are_finite():
    trainer = Trainer(tiny(), load("digits"))
    trainer.begin(0)
    statistics = next(value for name, value in trainer.network.named_buffers() if name.endswith("running_var"))

    def overflow(phase, epoch):
        statistics.fill_(math.inf)
        checked(phase, epoch)

    checked, trainer._check_finite = trainer._check_finite, overflow
    with pytest.raises(KitError, match="training diverged"):
        trainer.train_epoch(0, 0)


@pytest.mark.parametrize("engine", ["dense", "sparse"])
@pytest.mark.parametrize(
    "sparse",
    [
        sl.StaticMask(kind="snip", scope="network", sparsity=0.999),
        sl.StaticMask(kind="magnitude", scope="network", sparsity=0.9995),
        sl.SparCL(interval=0.2, sparsity=0.9985, p_inter=0.0005, p_intra=0.0005),
        sl.RigL(sparsity=0.999),
    ],
    ids=["snip", "magnitude", "sparcl", "rigl"],
)
def test_layers_without_weights_give_a_defined_result(tmp_path, sparse, engine):
    config = tiny(method="der++", sparse=sparse, engine=engine)
    trainer = Trainer(config, load("digits"))
    trainer.run()
    assert all(bool(value.isfinite().all()) for value in trainer.network.state_dict().values())
    assert_defined(run(config, store=tmp_path))


def test_all_weights_of_a_layer_masked_is_a_constant_layer():
    trainer = Trainer(tiny(sparse=sl.StaticMask(kind="random", sparsity=0.5), method="der++"), load("digits"))
    first, *others = trainer.sparsity.weights
    trainer.sparsity.set_masks(
        {first: torch.zeros_like(trainer.sparsity.weights[first]).bool()}
        | {name: trainer.sparsity.masks[name] for name in others}
    )
    trainer.run()
    assert not trainer.sparsity.weights[first].count_nonzero()
    assert all(bool(value.isfinite().all()) for value in trainer.network.state_dict().values())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"tasks": 10, "images_per_class": 1}, r"images_per_class = 1: a task of 1 sample, and batch norm needs 2"),
        ({"images_per_class": 10_000}, r"images_per_class = 10000: digits has \d+ training images of class 0"),
        ({"holdout": "validation", "images_per_class": 2}, r"holdout = 'validation' has no image of some task"),
        ({"batch_size": 64, "drop_last": True}, r"batch_size = 64: a task of 50 samples has no complete batch"),
    ],
    ids=["one sample", "too many", "no held-out image", "no batch"],
)
def test_tasks_without_enough_samples_are_one_line(tmp_path, values, said):
    with pytest.raises(KitError, match=said) as error:
        run(tiny(**values), store=tmp_path)
    assert "\n" not in str(error.value)


def test_tasks_of_two_samples_train(tmp_path):
    assert_defined(run(tiny(tasks=10, images_per_class=2), store=tmp_path))


def own(labels, test_labels, **options):
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 8, 8), np.uint8)
    tests = np.random.default_rng(1).integers(0, 256, (len(test_labels), 8, 8), np.uint8)
    sl.register.dataset("edge", train=(images, labels), test=(tests, test_labels), replace=True, **options)


@pytest.mark.parametrize(
    ("labels", "test_labels"), [([0, 0, 1, 1], [0, 0]), ([0, 0, 1, 1], [0, 1, 2]), ([0, 1], ["0", "1"])]
)
def test_a_class_without_samples_is_named(labels, test_labels):
    with pytest.raises(KitError, match=r"^dataset 'edge': class .+ is not in both train and test$"):
        own(labels, test_labels)


def test_labels_of_any_numbers_are_counted_from_nought(tmp_path):
    try:
        own([-5] * 4 + [10**9] * 4, [-5, 10**9])
        assert_defined(run(RunConfig(**(SMALL | {"dataset": "edge", "images_per_class": 0, "tasks": 2, "epochs": 1}))
                           , store=tmp_path))  # fmt: skip
    finally:
        DATASETS.forget("edge")


@pytest.mark.parametrize("label", [-1, 10, 2**40])
def test_labels_beyond_the_classes_of_published_data_are_refused(label):
    spec, data = DATASETS["digits"], load("digits")
    arrays = {f"{part}_{what}": getattr(getattr(data, part), what).numpy().copy()
              for part in ("train", "test") for what in ("images", "labels")}  # fmt: skip
    check(spec, arrays)
    arrays["train_labels"][3] = label
    with pytest.raises(MissingData, match=r"train labels are not \d+ numbers from 0 to 9, each used"):
        check(spec, arrays)
