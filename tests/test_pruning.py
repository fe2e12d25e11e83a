"""Pruned channels are really gone, and what is left computes what zeros in their place would."""

import copy

import pytest
import torch

from sparcl_lite.config import RunConfig
from sparcl_lite.data.sources import load
from sparcl_lite.measure.flops import costs_of, macs
from sparcl_lite.methods.lightcl import LightCLMethod, kept_channels
from sparcl_lite.methods.lightcl_settings import LightCL
from sparcl_lite.models import network_of, whole_network
from sparcl_lite.models.pruning import WriteNorm2d, choose_channels, filter_scores
from sparcl_lite.training import Trainer

RATES = (0.2, 0.2, 0.7, 0.8)
FULL = 11_173_962
DIGITS = load("digits")


def config(**settings):
    settings = {"variant": "official", "prune": RATES} | settings
    return RunConfig(profile="paper", method="lightcl", lightcl=settings)


def pruned(groups, *, ranking="magnitude", width=16):
    """A full network with lively batch norm, and the pruned one."""
    settings = LightCL(prune=(0.2, 0.2, 0.7, 0.8), groups=groups, ranking=ranking, extra_channel=groups == "layer")
    run = RunConfig(profile="paper", method="lightcl", width=width, lightcl=settings)
    full = whole_network(run, 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in full.state_dict().items():
            if value.dim() == 1 and value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) + ("var" in name))
    small = LightCLMethod.derive(run, full, 0)
    chosen = choose_channels(full, kept_channels(run), ranking=ranking, groups=groups)
    return full, small, chosen


def masked(full, chosen, groups):
    """The full network with zeros where channels are pruned: filters, batch norm, and inputs of the next layer."""
    network = copy.deepcopy(full)
    previous = None
    with torch.no_grad():
        for name in network.blocks:
            block = network if name == "stem" else network.get_submodule(name)
            prefix = "" if name == "stem" else f"{name}."
            layers = [("conv1", block.conv1, block.bn1)]
            if name != "stem":
                layers.append(("conv2", block.conv2, block.bn2))
                if len(block.shortcut):
                    layers.append(("shortcut.0", *block.shortcut))
            entering = previous
            for layer, convolution, norm in layers:
                keep = torch.zeros(convolution.out_channels, dtype=torch.bool)
                keep[chosen[prefix + layer]] = True
                convolution.weight[~keep] = 0
                for values in (norm.weight, norm.bias):
                    values[~keep] = 0
                reads = previous if layer == "conv2" else entering
                if reads is not None and not (layer == "shortcut.0" and groups == "layer"):
                    convolution.weight[:, ~reads] = 0
                previous = keep
        network.linear.weight[:, ~previous] = 0
    return network


def test_channels_kept_at_full_width():
    assert kept_channels(config()) == (52, 103, 78, 103)
    assert kept_channels(config(extra_channel=False)) == (51, 102, 77, 102)
    assert kept_channels(RunConfig(profile="paper", method="lightcl")) == (64, 128, 256, 512)


def test_share_of_zeros_at_full_width():
    official = sum(p.numel() for p in network_of(config(), 0).parameters())
    assert 1 - official / FULL == pytest.approx(0.9037, abs=1e-4)
    assert official == 1_076_062
    paper = sum(p.numel() for p in network_of(config(variant="paper"), 0).parameters())
    assert 0.904 < 1 - paper / FULL < 0.908


def test_costs_of_the_pruned_network_by_hand():
    stem, first = 32**2 * 9 * 3 * 52, 4 * 32**2 * 9 * 52**2
    second = 16**2 * (9 * (52 * 103 + 3 * 103**2) + 64 * 103)  # shortcuts read all channels
    third = 8**2 * (9 * (103 * 78 + 3 * 78**2) + 128 * 78)
    fourth = 4**2 * (9 * (78 * 103 + 3 * 103**2) + 256 * 103)
    costs = costs_of(config(), task=1)
    assert macs(costs) == stem + first + second + third + fourth + 103 * 10
    assert macs(tuple(c for c in costs if c.trains)) == fourth + 103 * 10


def test_scores_of_filters_by_hand():
    weight = torch.tensor([[1.0, -5.0], [2.0, 1.0], [-1.0, -1.0]]).view(3, 2, 1, 1)
    assert filter_scores(weight, "magnitude").tolist() == [3.0, 1.5, 1.0]
    assert filter_scores(weight, "signed_mean").tolist() == [-2.0, 1.5, -1.0]


@pytest.mark.parametrize("ranking", ["magnitude", "signed_mean"])
def test_layers_keep_their_best_filters(ranking):
    full, _, chosen = pruned("layer", ranking=ranking)
    for name, kept in chosen.items():
        weight = full.get_submodule(name).weight.detach()
        scores = [float((w.abs() if ranking == "magnitude" else w).mean()) for w in weight]
        best = sorted(range(len(scores)), key=lambda c: -scores[c])[: len(kept)]
        assert kept.tolist() == sorted(best), name


def test_a_stages_sum_keeps_the_same_channels():
    _, _, chosen = pruned("stage")
    for stage in ("layer2", "layer3", "layer4"):
        added = [chosen[n] for n in (f"{stage}.0.conv2", f"{stage}.0.shortcut.0", f"{stage}.1.conv2")]
        assert added[0].equal(added[1])
        assert added[0].equal(added[2])
    assert chosen["conv1"].equal(chosen["layer1.1.conv2"])
    assert not chosen["layer1.0.conv1"].equal(chosen["layer1.1.conv1"])


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("groups", ["stage", "layer"])
def test_the_small_network_computes_what_zeros_would(groups, train):
    full, small, chosen = pruned(groups)
    zeros = masked(full, chosen, groups).train(train)
    small.train(train)
    x = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    wide, narrow = zeros.features(x), small.features(x)
    kept = chosen["layer4.1.conv2"]
    reads = kept if groups == "layer" else torch.arange(len(kept))
    torch.testing.assert_close(narrow[:, reads], wide[:, kept], rtol=1e-4, atol=1e-5)
    assert wide[:, kept].abs().max() > 0.1


def test_pruned_channels_stay_zero_in_a_run():
    settings = {"variant": "official", "prune": (0.2, 0.5, 0.8)}
    run = RunConfig(
        profile="smoke", method="lightcl", width=16, tasks=2, epochs=1, images_per_class=20, lightcl=settings
    )
    trainer = Trainer(run, DIGITS)
    wiring = {n: b.clone() for n, b in trainer.network.named_buffers() if n.endswith(("reads", "writes"))}
    trainer.run()
    assert wiring
    for name, before in wiring.items():
        assert trainer.network.get_buffer(name).equal(before), name
    norm = trainer.network.layer3[0].bn2
    assert isinstance(norm, WriteNorm2d)
    out = norm(torch.randn(4, norm.num_features, 2, 2))
    others = torch.ones(norm.width, dtype=torch.bool).index_fill(0, norm.writes, False)
    assert int(others.sum()) == 64 - 14
    assert not out[:, others].any()
    assert trainer.network.linear.weight.shape == (10, 14)


def test_official_first_task_recovers_the_last_frozen_block():
    settings = {"variant": "official", "prune": RATES}
    run = RunConfig(profile="paper", method="lightcl", freeze_first_task=True, lightcl=settings)
    assert [LightCLMethod.boundary(run, task) for task in (0, 1, 4)] == ["layer3.0", "layer3", "layer3"]
    dense = RunConfig(profile="paper", method="lightcl", freeze_first_task=True, lightcl={"variant": "official"})
    assert LightCLMethod.boundary(dense, 0) == "layer3"
    free = RunConfig(profile="paper", method="lightcl", lightcl=settings)
    assert LightCLMethod.boundary(free, 0) == "none"
