"""Learning plasticity and memory stability: by hand, and on networks of which one part was changed."""

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sparcl_lite.measure.generalizability import (
    block_maps,
    general_blocks,
    learning_plasticity,
    memory_stability,
    stability_by_block,
)
from sparcl_lite.models import build

BLOCKS = ["stem", "layer1.0", "layer2.0", "layer3.0"]
IMAGES = torch.randn(7, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network():
    return build("small", width=8, channels=1, classes=10, seed=0).train()


def test_memory_stability_by_hand():
    before = torch.tensor([[[3.0, 4.0]], [[2.0, 0.0]], [[0.0, 0.0]]])
    after = torch.tensor([[[3.0, 1.0]], [[2.0, 1.0]], [[5.0, 5.0]]])
    # 9 / 25 and 1 / 4; the third was dead and has no relative change
    assert memory_stability(before, after) == pytest.approx(1 - (0.36 + 0.25) / 2)
    assert memory_stability(before, before) == 1.0
    assert memory_stability(before, 3 * before) == -3.0
    assert math.isnan(memory_stability(torch.zeros(2, 3), torch.ones(2, 3)))
    with pytest.raises(ValueError, match=r"after: got shape \(2, 3\), allowed is that of before, \(2, 4\)"):
        memory_stability(torch.ones(2, 4), torch.ones(2, 3))


def test_learning_plasticity_by_hand():
    found = learning_plasticity([[80.0, 60.0], [45.0, 99.0]], [[80.0], [90.0]])
    np.testing.assert_allclose(found, [[1.0, 0.75], [0.5, 1.1]])
    with pytest.raises(ValueError, match=r"free: got 0\.0, allowed are accuracies above 0"):
        learning_plasticity(50.0, 0.0)
    with pytest.raises(ValueError, match=r"frozen: got -1\.0"):
        learning_plasticity([-1.0], [50.0])


def test_block_maps_are_those_of_the_forward_pass_and_leave_no_trace(network):
    state = copy.deepcopy(network.state_dict())
    maps = block_maps(network, IMAGES)
    assert list(maps) == BLOCKS
    assert [tuple(m.shape) for m in maps.values()] == [(7, 8, 4, 4), (7, 8, 4, 4), (7, 16, 2, 2), (7, 32, 1, 1)]
    assert all((m >= 0).all() and (m > 0).any() for m in maps.values())
    assert network.training
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    assert not any(m._forward_hooks for m in network.modules())
    with torch.no_grad():
        network.eval()
        stem = F.relu(network.bn1(network.conv1(IMAGES)))
        torch.testing.assert_close(maps["stem"], stem)
        torch.testing.assert_close(maps["layer1.0"], network.layer1(stem))
        torch.testing.assert_close(maps["layer3.0"].mean((2, 3)), network.features(IMAGES))


def test_block_maps_do_not_go_through_an_engine(network):
    class Engine:
        def takes(self, x):
            raise AssertionError("an engine does not run the blocks that are looked at")

    network.engine = Engine()
    assert list(block_maps(network, IMAGES)) == BLOCKS


def test_stability_falls_from_the_changed_block_on(network):
    after = copy.deepcopy(network)
    with torch.no_grad():
        after.layer2[0].conv1.weight.mul_(-1.5)
    found = stability_by_block(network, after, IMAGES, batch_size=3)
    assert list(found) == BLOCKS
    assert found["stem"] == found["layer1.0"] == 1.0
    assert found["layer2.0"] < 1.0
    assert found["layer3.0"] < 1.0
    whole = {name: memory_stability(old, block_maps(after, IMAGES)[name])
             for name, old in block_maps(network, IMAGES).items()}  # fmt: skip
    assert found == pytest.approx(whole)


def test_general_blocks_end_where_one_metric_falls():
    plasticity = dict(zip(BLOCKS, (1.0, 0.9, 0.7, 0.95), strict=True))
    stability = dict(zip(BLOCKS, (0.99, 0.85, 0.95, 0.95), strict=True))
    assert general_blocks(plasticity, stability, least=0.8) == ["stem", "layer1.0"]
    assert general_blocks(plasticity, stability, least=0.7) == BLOCKS
    assert general_blocks(plasticity, stability | {"stem": math.nan}, least=0.1) == []
    with pytest.raises(ValueError, match=r"stability: got blocks \['stem'\]"):
        general_blocks(plasticity, {"stem": 1.0}, least=0.8)
