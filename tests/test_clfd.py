"""CLFD: the transform against its filters, selection and dropout against arithmetic by hand, and whole runs."""

from copy import deepcopy
from itertools import pairwise
from math import exp, sqrt

import numpy as np
import pytest
import torch
from torch import nn

import sparcl_lite as sl
from sparcl_lite.config import RunConfig, profiles
from sparcl_lite.config.clfd import CLFD
from sparcl_lite.data.sources import load
from sparcl_lite.data.streams import Augmentation, Task
from sparcl_lite.feature_dropout import FeatureDropout, frequency_keep, semantic_keep, similarities
from sparcl_lite.measure.flops import costs_of, macs, paper_flops
from sparcl_lite.models import network_of
from sparcl_lite.models.frequency import Selection, haar, strongest
from sparcl_lite.planning import planned
from sparcl_lite.registry import DATASETS
from sparcl_lite.runs.run import run
from sparcl_lite.sparsity import SparCL
from sparcl_lite.training import Trainer

SMOKE = {"profile": "smoke", "method": "er", "epochs": 5, "images_per_class": 16}


def smoke(**settings):
    return RunConfig(**(SMOKE | {"clfd": True} | settings))


# The transform


def test_haar_is_the_product_with_the_filters_of_pywavelets():
    """Rows of the filters h = (1, 1) / sqrt(2) and g = (1, -1) / sqrt(2), from both sides: cA, cV, cH, cD of dwt2."""
    images = torch.rand(2, 3, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def matrix(filter_, size):
        rows = np.zeros((size // 2, size))
        for k in range(size // 2):
            rows[k, 2 * k : 2 * k + 2] = filter_
        return torch.from_numpy(rows)

    low, high = np.array([1, 1]) / sqrt(2), np.array([1, -1]) / sqrt(2)
    for band, (rows, columns) in zip(haar(images), [(low, low), (low, high), (high, low), (high, high)], strict=True):
        expected = matrix(rows, 8) @ images @ matrix(columns, 12).T
        torch.testing.assert_close(band, expected, rtol=0, atol=1e-12)


def test_haar_of_four_pixels_by_hand():
    bands = haar(torch.tensor([[[[1.0, 2.0], [5.0, 10.0]]]]))
    assert [band.item() for band in bands] == [9, -3, -6, 2]


def test_augmenting_before_and_after_the_transform_agree():
    """Crops at even offsets move whole coefficients, and nothing else."""
    spec, images = DATASETS["cifar10"], torch.randint(256, (64, 3, 32, 32), dtype=torch.uint8)
    augment = Augmentation(spec, torch.Generator().manual_seed(1), step=2)
    augment.flip = False
    inputs = augment(images)
    offsets = 2 * torch.randint(5, (2, 64, 1), generator=torch.Generator().manual_seed(1)).squeeze(2)
    padded = augment.normalise(nn.functional.pad(images, (4, 4, 4, 4)))
    for k, band in enumerate(haar(padded)):
        for n, (top, left) in enumerate((offsets // 2).T.tolist()):
            cropped = band[n, :, top : top + 16, left : left + 16]
            torch.testing.assert_close(haar(inputs)[k][n], cropped, rtol=0, atol=1e-5)


# Selection and both dropouts: two classes, four features


def test_the_strongest_features_go_on_and_are_counted():
    head = nn.Linear(4, 2)
    selection = Selection(classes=2, features=4, positions=3, kept=0.5)
    head.register_forward_pre_hook(selection)
    features = torch.tensor([[1.0, -4.0, 2.0, 3.0], [0.0, 0.0, 0.0, 5.0], [9.0, 8.0, 7.0, 6.0]])
    masked = torch.tensor([[0.0, -4.0, 0.0, 3.0], [0.0, 0.0, 0.0, 5.0], [9.0, 8.0, 0.0, 0.0]])
    torch.testing.assert_close(head(features), nn.functional.linear(masked, head.weight, head.bias))
    assert not selection.counts.any()  # nobody said whose features these are
    selection.expect(torch.tensor([1, 0]), torch.tensor([[True, True, True, False], [True] * 4]))
    dropped = torch.tensor([[0.0, -4.0, 2.0, 0.0], [0.0, 0.0, 0.0, 5.0], [9.0, 8.0, 0.0, 0.0]])
    torch.testing.assert_close(head(features), nn.functional.linear(dropped, head.weight, head.bias))
    assert selection.counts.tolist() == [[0, 0, 0, 1], [0, 1, 1, 0]]  # of current samples; the third was replayed
    head(features)  # said once, used once
    assert selection.counts.sum() == 3


def test_a_feature_without_response_is_never_selected():
    assert strongest(torch.tensor([[0.0, 0.0, 2.0, 0.0]]), 3).tolist() == [[False, False, True, False]]


def test_frequency_dropout_by_hand():
    """Class 0 is the least similar (.2), class 1 the most (.6): S = .4, so a- = 2 and a+ = 1.5."""
    counts = torch.tensor([[8.0, 4.0, 0.0, 2.0], [0.0, 5.0, 10.0, 1.0]])
    keep = frequency_keep(counts, torch.tensor([0.2, 0.6]), mix=0.25)
    expected = [
        0.25 * exp(-f0 / 8 * 2) + 0.75 * (1 - exp(-f1 / 10 * 1.5)) for f0, f1 in zip(*counts.tolist(), strict=True)
    ]
    torch.testing.assert_close(keep, torch.tensor(expected))
    shifted = frequency_keep(counts, torch.tensor([0.2, 0.6]), mix=0.25, shift=1.0)
    expected = [
        0.25 * exp(-f0 / 8 * (1.4 / 1.2)) + 0.75 * (1 - exp(-f1 / 10 * (1.6 / 1.4)))
        for f0, f1 in zip(*counts.tolist(), strict=True)
    ]
    torch.testing.assert_close(shifted, torch.tensor(expected))


@pytest.mark.parametrize("similarity", [[-0.5, 0.4], [-1e-8, 0.6], [0.0, 0.3], [-0.3, 0.3], [-0.6, -0.2]])
def test_with_negative_cosines_probabilities_stay_between_zero_and_one(similarity):
    counts = torch.tensor([[8.0, 4.0, 0.0, 2.0], [0.0, 5.0, 10.0, 1.0]])
    keep = frequency_keep(counts, torch.tensor(similarity), mix=0.5)
    assert ((keep >= 0) & (keep <= 1)).all()
    assert keep.max() > 0


def test_semantic_dropout_by_hand():
    counts = torch.tensor([[8.0, 4.0, 0.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    expected = [[1 - exp(-2 * f / 8) for f in (8, 4, 0, 2)], [0, 0, 0, 0]]
    torch.testing.assert_close(semantic_keep(counts, strength=2.0), torch.tensor(expected))


def test_similarity_is_the_cosine_of_summed_low_bands():
    sums = torch.tensor([[3.0, 4.0], [4.0, 3.0], [1.0, 0.0]])
    assert similarities(sums, 2, torch.tensor([0, 1])).tolist() == pytest.approx([0.6, 0.8])


class Run:
    """What `FeatureDropout` sees of a run of two tasks of one class each: 2 x 2 images of one value."""

    def __init__(self, **clfd):
        self.selection = Selection(classes=2, features=4, positions=1, kept=0.5)
        self.tasks = [Task(0, torch.tensor([0]), torch.tensor([0, 1])), Task(1, torch.tensor([1]), torch.tensor([2]))]
        images = torch.tensor([1, 2, 5]).view(3, 1, 1, 1).expand(3, 1, 2, 2)
        config = RunConfig(**(SMOKE | {"epochs": 10, "clfd": clfd or True}))
        self.train = type("Split", (), {"images": images, "labels": torch.tensor([0, 0, 1])})
        self.augment = type("Augment", (), {"normalise": staticmethod(lambda images: images.float())})
        self.dropout = FeatureDropout(config, self.selection, self, torch.Generator().manual_seed(0))


def test_the_schedule_of_a_run():
    run_ = Run()
    dropout, keep, (first, second) = run_.dropout, run_.selection.keep, run_.tasks
    dropout.begin_task(first)
    assert run_.selection.sums.tolist() == [[6], [0]]  # X_ll of equal pixels is twice their value: 2 + 4
    for epoch in range(4):  # E = 0.4 of ten epochs
        dropout.begin_epoch(first, epoch)
        assert keep.tolist() == [[1] * 4, [0] * 4]
    run_.selection.counts[0] = torch.tensor([8.0, 4.0, 0.0, 2.0])
    dropout.begin_epoch(first, 4)
    semantic = semantic_keep(run_.selection.counts[:1], 2.0)
    assert torch.equal(keep[:1], semantic)
    dropout.begin_task(second)
    assert run_.selection.sums.tolist() == [[6], [10]]
    dropout.begin_epoch(second, 0)
    frequency = frequency_keep(run_.selection.counts[:1], torch.tensor([1.0]), 0.5)
    assert torch.equal(keep[1], frequency)
    run_.selection.counts[1] = torch.tensor([1.0, 1.0, 1.0, 3.0])
    dropout.begin_epoch(second, 3)
    assert torch.equal(keep[1], frequency)  # set once in a task
    dropout.begin_epoch(second, 4)
    torch.testing.assert_close(keep[1], semantic_keep(run_.selection.counts[1:], 2.0)[0])


def test_the_authors_code_begins_after_the_first_epoch():
    run_ = Run(variant="official", kept=0.5)
    dropout, keep, (first, second) = run_.dropout, run_.selection.keep, run_.tasks
    dropout.begin_task(first)
    dropout.begin_epoch(first, 0)
    assert keep[0].tolist() == [1, 1, 0, 0]  # the first 1.1 x 0.5 x 4 features
    run_.selection.counts[0] = torch.tensor([8.0, 4.0, 0.0, 2.0])
    dropout.begin_task(second)
    dropout.begin_epoch(second, 0)
    assert keep[1].tolist() == [0.5] * 4
    dropout.begin_epoch(second, 1)
    assert torch.equal(keep[1], frequency_keep(run_.selection.counts[:1], torch.tensor([1.0]), 0.5, shift=1.0))


def test_a_feature_is_kept_as_often_as_its_probability_says():
    run_ = Run()
    run_.selection.keep[1] = torch.tensor([0.0, 0.3, 0.8, 1.0])
    kept = torch.stack([run_.dropout.drawn(torch.tensor([1, 1])) for _ in range(2000)])
    assert torch.equal(kept[:, 0], kept[:, 1])  # one draw a batch
    torch.testing.assert_close(kept[:, 0].float().mean(0), run_.selection.keep[1], rtol=0, atol=0.04)


# Configuration, costs and runs


def test_it_is_switched_on_by_true_or_by_its_fields():
    plain = RunConfig(**SMOKE)
    assert plain.clfd is None
    assert plain.key == RunConfig(**SMOKE, clfd=False).key
    assert smoke() == smoke(clfd={}) == smoke(clfd=CLFD())
    keys = [plain, smoke(), smoke(clfd={"ffe": False}), smoke(clfd={"cffs": False}), smoke(clfd={"band": "ll"})]
    assert len({config.key for config in keys}) == 5


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "sgd"}, "clfd: 'sgd' does not replay a reservoir; allowed: der, der\\+\\+, er, er-ace"),
        ({"method": "lightcl"}, "clfd: 'lightcl' does not replay"),
        ({"freeze": "stem"}, "clfd: with freeze = 'stem'; allowed: none"),
        ({"pretraining": "disjoint"}, "clfd: with pretraining = 'disjoint'; allowed: none"),
    ],
)
def test_what_it_does_not_go_with_is_one_line(settings, said):
    with pytest.raises(ValueError, match=said):
        smoke(**settings)


def test_training_flops_are_those_of_the_paper():
    """Table 3: 11.1e15 for ER and 2.8e15 for CLFD-ER; a quarter of the positions, and 24 multiplications at each."""
    er, clfd = (RunConfig(profile="paper", method="er", clfd=on) for on in (False, True))
    assert paper_flops(er) == pytest.approx(11.1e15, rel=0.01)
    assert paper_flops(clfd) == pytest.approx(2.8e15, rel=0.01)
    whole, encoded = (macs(costs_of(config)) for config in (er, clfd))
    head = 512 * 10
    assert encoded == (whole - head) / 4 + head + 24 * 16 * 16
    trains = {cost.name: cost.trains for cost in costs_of(clfd, 1)}
    assert [trains[f"entry.{name}.weight"] for name in ("low", "high", "whole")] == [False] * 3
    assert all(cost.trains for cost in costs_of(clfd, 0))
    assert [cost.needs_input_gradient for cost in costs_of(clfd, 0)] == [False] * 3 + [True] * 21
    assert planned(clfd).ledger.total < 0.26 * planned(er).ledger.total


def finished(config, tmp_path=None):
    trainer = Trainer(config, load(config.dataset))
    trainer.run()
    return trainer


def test_the_encoder_trains_in_the_first_task_only():
    trainer = Trainer(smoke(), load("digits"))
    weights = [trainer.network.entry.low.weight.clone()]
    trainer.on_epoch = lambda t: weights.append(t.network.entry.low.weight.clone())
    trainer.run()
    epochs = trainer.config.epochs
    assert not any(torch.equal(*two) for two in pairwise(weights[: epochs + 1]))
    assert all(torch.equal(weights[epochs], later) for later in weights[epochs:])
    assert trainer.network.selection.counts.sum(1).gt(0).all()
    assert trainer.buffer.images.dtype == torch.uint8


@pytest.mark.parametrize("clfd", [{"ffe": False}, {"cffs": False}, {"band": "lh"}, {"variant": "official"}])
@pytest.mark.parametrize("method", ["er", "der++", "er-ace"])
def test_each_part_runs_alone(clfd, method):
    config = smoke(method=method, clfd=clfd, epochs=2)
    network = network_of(config, seed=0)
    assert hasattr(network.selection, "counts") == config.clfd.cffs
    assert hasattr(network.entry, "low") == (config.clfd.ffe and config.clfd.band == "all")
    assert np.isfinite(np.diag(finished(config).class_il)).all()


@pytest.mark.parametrize("sparse", [None, SparCL(sparsity=0.8)], ids=["dense", "sparcl"])
def test_an_interrupted_run_goes_on_with_the_same_bits(sparse):
    config, states = smoke(sparse=sparse, epochs=4), []
    whole = Trainer(config, load("digits"))

    def save(trainer):
        if trainer.position == (2, 2):
            states.append(deepcopy(trainer.state_dict()))

    whole.on_epoch = save
    whole.run()
    again = Trainer(config, load("digits"), from_state=True)
    again.load_state_dict(states[0])
    again.run()
    assert np.array_equal(whole.class_il, again.class_il, equal_nan=True)
    for a, b in zip(whole.network.state_dict().values(), again.network.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_the_engine_runs_it(tmp_path):
    """In the first task the encoder needs the gradient of the network's input."""
    config = smoke(sparse=SparCL(sparsity=0.8), engine="sparse", lr=0.02, epochs=4)
    trainer = Trainer(config, load("digits"))
    first = {name: value.clone() for name, value in trainer.network.entry.named_parameters()}
    trainer.run()
    assert trainer.network.engine.current is not None
    assert any(not value.equal(first[name]) for name, value in trainer.network.entry.named_parameters())
    dense = finished(smoke(sparse=SparCL(sparsity=0.8), engine="dense", lr=0.02, epochs=4))
    for name, mask in trainer.sparsity.existing.items():
        assert not trainer.network.get_parameter(name)[~mask].any()
    assert abs(trainer.class_il[-1] - dense.class_il[-1]).max() < 30
    assert run(config, store=tmp_path).config.clfd == CLFD()


def test_a_dataset_of_odd_images_is_refused(tmp_path):
    images = np.zeros((8, 9, 8), np.uint8)
    sl.register.dataset("odd", train=(images, [0, 1] * 4), test=(images, [0, 1] * 4))
    try:
        with pytest.raises(ValueError, match=r"clfd: images of odd are 9 x 8; allowed: even sizes"):
            smoke(dataset="odd", tasks=2)
    finally:
        DATASETS.forget("odd")


@pytest.mark.parametrize("given", [True, {}, CLFD(), {"variant": "paper"}])
def test_rules_of_the_profiles_see_clfd_however_it_is_given(given, monkeypatch):
    rules = profiles._rules()
    rule = [{"method": "er", "clfd.ffe": True}, {"lr": 0.77}]
    monkeypatch.setattr(profiles, "_rules", lambda: rules | {"smoke": [*rules["smoke"], rule]})
    assert RunConfig(profile="smoke", method="er", clfd=given).lr == 0.77
    assert RunConfig(profile="smoke", method="er", clfd={"ffe": False}).lr != 0.77
    assert RunConfig(profile="smoke", method="er").lr != 0.77


@pytest.mark.parametrize("method", ["er", "der++", "er-ace"])
def test_the_engine_is_chosen_while_the_encoder_trains(method):
    config = smoke(method=method, clfd=True, sparse=SparCL(sparsity=0.9), engine="auto")
    trainer = Trainer(config, load("digits"))
    before = [p.detach().clone() for p in trainer.network.entry.parameters()]
    trainer.begin(0)
    trainer.train_epoch(0, 0)
    assert trainer.network.engine.choice.seconds
    assert all((p != old).any() for p, old in zip(trainer.network.entry.parameters(), before, strict=True))
