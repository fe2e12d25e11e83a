"""Tensors saved for the backward pass: by hand, and those of the papers' network beside the counted maps."""

import torch
from torch import nn

from sparcl_lite.measure.autograd import saved_bytes
from sparcl_lite.models import build
from sparcl_lite.papers.lightcl.accounting import MIB, memory


def test_saved_tensors_by_hand():
    network = nn.Sequential(nn.Linear(5, 3, bias=False), nn.ReLU(), nn.Linear(3, 2, bias=False))
    x = torch.randn(4, 5)
    # the first layer's input; the output of ReLU, which is the second layer's input as well
    assert saved_bytes(network, lambda: network(x)) == 4 * (4 * 5 + 4 * 3)
    network[0].requires_grad_(False)
    assert saved_bytes(network, lambda: network(x)) == 4 * 4 * 3  # ReLU has no gradient to pass on
    with torch.no_grad():
        assert saved_bytes(network, lambda: network(x)) == 0


def test_autograd_holds_twice_the_maps_that_the_table_counts_and_little_of_a_frozen_network():
    network = build("resnet18", width=64, channels=3, classes=10, seed=0).train()
    dense = saved_bytes(network, lambda: network(torch.randn(32, 3, 32, 32))) / MIB
    assert 143 < dense < 145
    assert 2.1 < dense / (memory("sgd", "cifar10")["activations"] / MIB) < 2.13
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(("layer4", "linear")))
    frozen = saved_bytes(network, lambda: network(torch.randn(47, 3, 32, 32))) / MIB
    assert 16 < frozen < 17
    assert frozen > 2 * memory("lightcl-15", "cifar10", "one frozen map")["activations"] / MIB
