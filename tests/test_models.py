"""Networks: published sizes, chunked batch norm against separate passes, reproducible initialisation."""

import copy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sparcl_lite.measure.flops import macs, measured_costs
from sparcl_lite.models import BatchNorm2d, build, frozen_statistics


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("classes", "expected"), [(10, 11_173_962), (200, 11_271_432)])
def test_resnet18_has_the_published_number_of_parameters(classes, expected):
    assert parameters(build("resnet18", width=64, channels=3, classes=classes, seed=0)) == expected


@pytest.mark.parametrize(
    ("network", "width", "channels", "size", "classes", "expected"),
    [
        ("resnet18", 64, 3, 32, 10, 555_422_720),
        ("resnet18", 64, 3, 64, 200, 2_221_772_800),
        ("resnet18", 8, 1, 28, 10, None),
        ("small", 16, 1, 28, 10, None),
        ("small", 8, 1, 8, 10, None),
    ],
)
def test_macs_are_the_published_ones_and_those_of_torchs_counter(network, width, channels, size, classes, expected):
    model = build(network, width=width, channels=channels, classes=classes, seed=0).eval()
    found = macs(measured_costs(model, channels, size))
    assert expected is None or found == expected
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, channels, size, size))
    assert counter.get_total_flops() == 2 * found


def test_layer_costs_cover_every_weight_outside_batch_norm():
    model = build("small", width=8, channels=1, classes=10, seed=0)
    norms = sum(p.numel() for m in model.modules() if isinstance(m, BatchNorm2d) for p in m.parameters())
    costs = measured_costs(model, 1, 8)
    assert sum(cost.parameters for cost in costs) == parameters(model) - norms
    assert (costs[0].name, costs[-1].name) == ("conv1.weight", "linear.weight")


def small(seed=0):
    # Not narrower: some torch releases corrupt memory in the backward of a 1x1 convolution of 4 channels.
    return build("small", width=8, channels=1, classes=5, seed=seed).train()


def inputs(count, seed=0):
    return torch.randn(count, 1, 12, 12, generator=torch.Generator().manual_seed(seed))


def test_chunks_equal_separate_passes_in_order():
    joint, separate = small(), small()
    x, chunks = inputs(13), (6, 4, 3)
    weights = torch.randn(13, 5, generator=torch.Generator().manual_seed(1))
    outputs = joint(x, chunks=chunks)
    expected = torch.cat([separate(part) for part in x.split(chunks)])
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)
    (outputs * weights).sum().backward()
    (expected * weights).sum().backward()
    for ours, theirs in zip(joint.parameters(), separate.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)
    state, other_order = joint.state_dict(), small()
    for name, value in separate.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=1e-4, atol=1e-6)
    assert state["bn1.num_batches_tracked"] == 3
    for part in reversed(x.split(chunks)):
        other_order(part)
    assert not torch.allclose(other_order.bn1.running_mean, joint.bn1.running_mean, rtol=1e-3, atol=1e-5)
    assert not torch.allclose(small()(x), outputs, atol=1e-3)  # one set of statistics gives something else


def test_chunks_do_not_outlast_their_pass_and_do_not_matter_in_evaluation():
    network, fresh = small(), small()
    x = inputs(6)
    network(x, chunks=(4, 2))
    fresh.load_state_dict(network.state_dict())
    torch.testing.assert_close(network(x), fresh(x))
    network.eval()
    assert network(x, chunks=(4, 2)).equal(network(x))


def test_frozen_statistics_keep_running_averages_and_come_back():
    network = small()
    network(inputs(6))
    before = copy.deepcopy(network.state_dict())
    expected = copy.deepcopy(network)(inputs(6, seed=1))
    with frozen_statistics(network):
        assert network(inputs(6, seed=1)).equal(expected)  # batch statistics are still those of the batch
    for name, value in network.state_dict().items():
        assert value.equal(before[name]), name

    def broken_off():
        with frozen_statistics(network):
            network(inputs(6))
            raise KeyError

    with pytest.raises(KeyError):
        broken_off()
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())
    assert network.bn1.momentum == 0.1
    network(inputs(6))
    assert not network.bn1.running_mean.equal(before["bn1.running_mean"])


def test_initialisation_depends_on_its_seed_only():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = small(seed=7).state_dict()
    assert torch.get_rng_state().equal(state)
    torch.manual_seed(2)
    again, other = small(seed=7).state_dict(), small(seed=8).state_dict()
    assert all(first[name].equal(again[name]) for name in first)
    assert not first["conv1.weight"].equal(other["conv1.weight"])
