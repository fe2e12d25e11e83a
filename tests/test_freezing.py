"""Frozen blocks: they never change, keep no maps and no gradients, and cost a forward pass only."""

import copy

import pytest
import torch
from pydantic import ValidationError

from sparcl_lite.config import RunConfig, explain
from sparcl_lite.data.sources import load
from sparcl_lite.measure.autograd import saved_bytes
from sparcl_lite.measure.flops import costs_of, macs
from sparcl_lite.models import build
from sparcl_lite.registry import METHODS
from sparcl_lite.sparsity import RigL, SparCL, StaticMask
from sparcl_lite.training import Trainer

DIGITS = load("digits")


def network(architecture="resnet18", width=8, norm="eval", boundary="layer3"):
    model = build(architecture, width=width, channels=3, classes=10, seed=0).train()
    model.freeze(model.up_to(boundary), norm)
    return model


def images(count, size=16, seed=0):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_boundaries_by_name():
    stages = ["layer1.0", "layer1", "layer2.0", "layer2", "layer3.0", "layer3", "layer4.0", "layer4"]
    resnet18, small = network(boundary="none"), network("small", boundary="none")
    assert resnet18.boundaries == ["none", "stem", *stages]
    assert small.boundaries == ["none", "stem", "layer1", "layer2", "layer3"]
    assert small.up_to("layer2") == ("stem", "layer1.0", "layer2.0")
    assert resnet18.up_to("layer1.0") == ("stem", "layer1.0")
    assert small.up_to("none") == ()
    assert resnet18.last_stage == ("layer4.0", "layer4.1")


def test_trainable_parameters_at_full_width():
    model = network(width=64)
    assert sum(p.numel() for p in model.parameters()) == 11_173_962
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 8_398_858  # layer4 and the head
    model.freeze(())
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("norm", ["eval", "train"])
@pytest.mark.parametrize("boundary", ["stem", "layer2.0", "layer3", "layer4"])
def test_frozen_blocks_neither_change_nor_hold_gradients(norm, boundary):
    model = network(norm="eval", boundary="none")
    model(images(4)).sum().backward()  # gradients of a task in which all trained
    names = model.up_to(boundary)
    model.freeze(names, norm)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for seed in range(2):
        optimizer.zero_grad(set_to_none=True)
        model(images(4, seed=seed)).square().sum().backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        block = "stem" if name.startswith(("conv1", "bn1")) else ".".join(name.split(".")[:2])
        assert (parameter.grad is None) == (block in names), name
        assert parameter.equal(before[name]) == (block in names), name
    statistics = model.bn1.running_mean.equal(before["bn1.running_mean"])
    assert statistics == (norm == "eval")


def test_frozen_trunk_is_the_same_function_in_both_modes_of_the_network():
    model = network(boundary="layer2")
    x = images(6)
    in_training = model.trunk(x)
    assert not in_training.requires_grad
    assert in_training.equal(model.eval().trunk(x))
    together = torch.cat([model.train().trunk(x[:2]), model.trunk(x[2:])])
    torch.testing.assert_close(in_training, together)


@pytest.mark.parametrize("norm", ["eval", "train"])
@pytest.mark.parametrize("boundary", ["none", "layer2", "layer3", "layer4.0"])
def test_patterns_of_the_trunk_are_the_whole_network(norm, boundary):
    model, x = network(norm=norm, boundary=boundary), images(5)
    twin = copy.deepcopy(model)
    maps, logits = model.patterns(model.trunk(x))
    torch.testing.assert_close(logits, twin(x))
    assert [m.shape[1] for m in maps] == model.pattern_widths
    assert len(maps) == (2 if boundary == "layer4.0" else 4)
    assert all(bool((m >= 0).all()) for m in maps)
    torch.testing.assert_close(twin.linear(maps[-1].mean((2, 3))), logits)


def test_gradients_above_the_boundary_are_those_of_the_unfrozen_network():
    frozen, whole = network(norm="train"), network(boundary="none")
    frozen(images(4)).square().sum().backward()
    whole(images(4)).square().sum().backward()
    gradients = dict(whole.named_parameters())
    for name, parameter in frozen.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, gradients[name].grad)


def test_frozen_blocks_keep_no_maps():
    x = images(4)
    below = [
        n for n in build("resnet18", width=8, channels=3, classes=10, seed=0).blocks if n < "layer4" or n == "stem"
    ]
    model = network()
    with torch.no_grad():
        maps = model.trunk(x)
    above_only = copy.deepcopy(model)
    expected = saved_bytes(above_only, lambda: above_only.patterns(maps)[1])
    assert len(below) == 7
    frozen, whole = (saved_bytes(of, lambda of=of: of(x).square().sum()) for of in (model, network(boundary="none")))
    assert frozen == pytest.approx(expected, rel=0.01)
    assert frozen < whole / 8  # the last stage has 1/17 of the maps, and its own inputs


def test_costs_have_a_forward_pass_only_below_the_boundary():
    config = RunConfig(profile="paper", method="sgd", freeze="layer3")
    costs = costs_of(config, task=1)
    trained = tuple(c for c in costs if c.trains)
    assert macs(costs) == 555_422_720
    assert {c.name.split(".")[0] for c in trained} == {"layer4", "linear"}
    assert macs(trained) == pytest.approx(134.2e6, rel=1e-3)
    no_input_gradient = {c.name for c in costs if c.trains and not c.needs_input_gradient}
    assert no_input_gradient == {"layer4.0.conv1.weight", "layer4.0.shortcut.0.weight"}
    assert all(c.trains for c in costs_of(config, task=0))
    assert [c.name for c in costs_of(config, task=0) if not c.needs_input_gradient] == ["conv1.weight"]


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("pnn", "joint")])
def test_freezing_begins_after_the_first_task_unless_told(method):
    settings = {"tasks": 2, "images_per_class": 20, "epochs": 2, "freeze": "layer1"}  # two: packing prunes between them
    for first in (False, True):
        config = RunConfig(profile="smoke", method=method, freeze_first_task=first, **settings)
        states = []
        trainer = Trainer(config, DIGITS, on_epoch=lambda t, s=states: s.append(copy.deepcopy(t.network.state_dict())))
        drawn = copy.deepcopy(trainer.network.state_dict())
        trainer.run()
        for name in ("conv1.weight", "bn1.running_mean", "layer1.0.conv2.weight", "layer1.0.bn1.bias"):
            assert states[1][name].equal(states[3][name]), name
            assert states[1][name].equal(drawn[name]) == first, name
        assert not states[1]["layer2.0.conv1.weight"].equal(states[3]["layer2.0.conv1.weight"])


@pytest.mark.parametrize("method", ["der++", "ewc", "agem", "lightcl"])
@pytest.mark.parametrize("sparse", [SparCL(sparsity=0.9), RigL(sparsity=0.9, interval=2), StaticMask(kind="snip")])
@pytest.mark.parametrize("first", [False, True])
def test_strategies_leave_frozen_blocks_and_their_masks_alone(method, sparse, first):
    settings = {"tasks": 2, "images_per_class": 20, "epochs": 5, "freeze": "layer2", "freeze_first_task": first}
    config = RunConfig(profile="smoke", method=method, sparse=sparse, engine="sparse", **settings)
    states: list = []
    trainer = Trainer(config, DIGITS, on_epoch=lambda t: states.append(copy.deepcopy(t.network.state_dict())))
    trainer.run()
    below, above = "layer2.0.conv2.weight", "layer3.0.conv2.weight"
    assert states[0 if first else 4][below].equal(states[-1][below])
    assert not states[4][above].equal(states[-1][above])
    for name in (below, above):
        assert states[-1][name][~trainer.sparsity.existing[name]].count_nonzero() == 0
    assert trainer.network.engine is None  # it knows of no frozen blocks


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "sgd", "freeze": "layer4"}, "freeze = 'layer4': unknown in small; allowed: none, stem, layer1"),
        ({"method": "pnn", "freeze": "layer2"}, "freeze = 'layer2': 'pnn' trains a new network for every task"),
        ({"method": "pnn", "sparse": SparCL()}, "sparse = 'sparcl': 'pnn' has a network for every task; switch"),
        ({"method": "lps", "sparse": SparCL()}, "sparse = 'sparcl': 'lps' has masks of its own; switch sparse off"),
        ({"method": "lightcl", "lightcl": {"prune": (0.1, 0.2)}}, "2 shares; allowed: one for each of 3"),
        ({"method": "lightcl", "lightcl": {"prune": (0.2, 0.7, 0.8)}}, "leaves 5 of a stage's channels; allowed: 8"),
        ({"method": "lightcl", "lightcl": {"ratio": 1.5}}, "lightcl.ratio = 1.5"),
    ],
)
def test_what_does_not_go_together_is_said_in_one_line(settings, said):
    with pytest.raises(ValidationError) as caught:
        RunConfig(profile="smoke", **settings)
    message = explain(caught.value)
    assert said in message
    assert "\n" not in message
