"""Networks of a user's own: what is pruned, counted and frozen in them, and that they train like the built-in ones."""

from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet18

import sparcl_lite as sl
from sparcl_lite import masks
from sparcl_lite.config import RunConfig, explain
from sparcl_lite.data.sources import load
from sparcl_lite.errors import KitError
from sparcl_lite.measure.flops import costs_of, macs, measured_costs
from sparcl_lite.measure.generalizability import block_maps, stability_by_block
from sparcl_lite.models import adapted, build
from sparcl_lite.registry import NETWORKS
from sparcl_lite.training import Trainer

DIGITS = load("digits")


class ThreeBlocks(nn.Module):
    """A plain CNN, without any attribute that the kit knows."""

    def __init__(self, channels, classes, width=8):
        super().__init__()
        widths = (channels, width, 2 * width, 4 * width)
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(2))
                for a, b in pairwise(widths)
            )
        )
        self.classifier = nn.Linear(4 * width, classes)

    def forward(self, x):
        return self.classifier(self.blocks(x).mean((2, 3)))


class Grouped(nn.Module):
    """Grouped, depthwise and pointwise convolutions, one of which runs twice, and a hidden linear layer."""

    def __init__(self, channels, classes):
        super().__init__()
        self.linear = nn.Linear(20, classes)  # registered first, executed last
        self.stem = nn.Conv2d(channels, 16, 3, padding=1)
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.pointwise = nn.Conv2d(16, 32, 1)
        self.shrink = nn.Conv2d(32, 8, 1, stride=2)
        self.hidden = nn.Linear(8, 20)

    def forward(self, x):
        x = self.stem(x).relu()
        x = self.grouped(self.grouped(x).relu()).relu()
        x = self.shrink(self.pointwise(self.depthwise(x)).relu())
        return self.linear(self.hidden(x.mean((2, 3))).relu())


class Named(ThreeBlocks):
    """Says itself what is what."""

    head = "classifier"
    prunable = ("blocks.1.0.weight",)
    stages = ("blocks.0", "blocks.1", "blocks.2")


class Around(nn.Module):
    """The layers of a network of the kit, which is no such network."""

    def __init__(self, network):
        super().__init__()
        self.run = [network]
        for name, child in network.named_children():
            self.add_module(name, child)

    def forward(self, x):
        return self.run[0](x)


def counted(network, channels, size):
    rows, columns = (size, size) if isinstance(size, int) else size
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, channels, rows, columns))
    return counter.get_total_flops()


@pytest.fixture
def registered():
    """Register for the length of a test."""
    names = []

    def register(name, function, **options):
        names.append(name)
        sl.register.network(name, **options)(function)

    yield register
    for name in set(names):
        NETWORKS.forget(name)


CASES = {
    "small": (lambda: build("small", width=8, channels=1, classes=10, seed=0), 1, 8),
    "resnet18": (lambda: build("resnet18", width=8, channels=3, classes=10, seed=0), 3, 32),
    "plain": (lambda: ThreeBlocks(3, 10), 3, (24, 40)),
    "torchvision": (lambda: resnet18(num_classes=10), 3, 64),
    "grouped": (lambda: Grouped(3, 10), 3, 12),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3, 2), nn.Flatten(), nn.Linear(4 * 81, 5)), 3, 4),
    "sequences": (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(2), nn.Conv1d(4, 6, 3, groups=2)), 1, 8),
}


@pytest.mark.parametrize("case", CASES)
def test_flops_are_those_of_torchs_counter(case):
    make, channels, size = CASES[case]
    costs = measured_costs(make(), channels, size)
    assert 2 * macs(costs) == counted(make(), channels, size)


def test_parameters_of_a_layer_that_runs_twice_are_counted_once():
    network = Grouped(3, 10)
    costs = measured_costs(network.train(), 3, 12)
    assert network.training
    assert sum(c.parameters for c in costs) == sum(p.numel() for p in network.parameters())
    assert [c.name for c in costs].count("grouped.weight") == 2


def test_prunable_weights_by_rule():
    found = list(masks.prunable_weights(adapted(resnet18(num_classes=10), torch.zeros(2, 3, 64, 64))))
    assert found == [f"layer{i}.{j}.conv{k}.weight" for i in (1, 2, 3, 4) for j in (0, 1) for k in (1, 2)]
    grouped = adapted(Grouped(3, 10), torch.zeros(2, 3, 12, 12))
    assert grouped.prunable == ("grouped.weight", "pointwise.weight", "hidden.weight")
    assert grouped.head is grouped.module.linear
    for name in ("small", "resnet18"):
        network = build(name, width=8, channels=3, classes=10, seed=0)
        assert adapted(Around(network), torch.zeros(2, 3, 16, 16)).prunable == network.prunable


def test_a_module_may_say_itself_what_is_what():
    network = adapted(Named(3, 10))
    assert list(masks.prunable_weights(network)) == ["blocks.1.0.weight"]
    assert network.boundaries == ["none", "blocks.0", "blocks.1", "blocks.2"]
    wrong = ThreeBlocks(3, 10)
    wrong.stages = ["blocks.7"]
    with pytest.raises(KitError, match=r"stages = \['blocks.7'\]: the network has no 'blocks.7'"):
        adapted(wrong)


def test_chunks_keep_separate_batch_statistics_and_features_are_what_the_head_sees():
    joint, separate = adapted(ThreeBlocks(3, 10)), adapted(ThreeBlocks(3, 10))
    separate.load_state_dict(joint.state_dict())
    x = torch.randn(9, 3, 16, 16)
    parts = torch.cat([separate(part) for part in x.split((5, 4))])
    torch.testing.assert_close(joint(x, chunks=(5, 4)), parts)
    for name, value in joint.state_dict().items():
        assert value.equal(separate.state_dict()[name]), name
    joint.eval()
    torch.testing.assert_close(joint.head(joint.features(x)), joint(x))


@pytest.mark.parametrize("norm", ["eval", "train"])
def test_frozen_stages_do_not_change_and_what_the_user_froze_stays_frozen(norm):
    module = ThreeBlocks(3, 10)
    module.blocks[2][0].bias.requires_grad_(False)
    network = adapted(module).train()
    network.blocks = ("blocks.0", "blocks.1")
    network.freeze(network.up_to("blocks.1"), norm)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(torch.randn(4, 3, 16, 16)).square().sum().backward()
    optimizer.step()
    changed = {n for n, v in network.state_dict().items() if not v.equal(before[n])}
    assert {n for n in changed if n.startswith(("module.blocks.0", "module.blocks.1")) and "running" not in n} == {
        n for n in changed if "num_batches" in n and n.startswith(("module.blocks.0", "module.blocks.1"))
    }
    assert any("blocks.0" in n for n in changed) == (norm == "train")
    assert "module.classifier.weight" in changed
    network.freeze(())
    assert [n for n, p in network.named_parameters() if not p.requires_grad] == ["module.blocks.2.0.bias"]


GREY = {
    "plain": lambda channels, classes, size, width: ThreeBlocks(channels, classes, width),
    "grouped": lambda channels, classes, size, width: Grouped(channels, classes),
    "torchvision": lambda channels, classes, size, width: nn.Sequential(
        nn.Conv2d(channels, 3, 1), resnet18(num_classes=classes)
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", GREY)
def test_a_network_of_ones_own_trains_under_sparcl(kind, registered):
    registered("own", GREY[kind])
    config = RunConfig(
        profile="smoke", network="own", method="der++", images_per_class=10, epochs=3, tasks=2, buffer_size=20,
        batch_size=20, sparse={"kind": "sparcl", "sparsity": 0.5, "interval": 0.34},
    )  # fmt: skip
    trainer = Trainer(config, DIGITS)
    trainer.run()
    assert all(p.isfinite().all() for p in trainer.network.parameters())
    masked = trainer.sparsity.existing
    assert masked
    module = trainer.network.module
    for name, mask in masked.items():
        weight = module.get_parameter(name)
        assert not weight[~mask].any()
        assert mask.float().mean() == pytest.approx(0.5, abs=0.02)
    spared = [p for n, p in module.named_parameters() if n not in masked and n.endswith("weight")]
    assert all((weight != 0).float().mean() > 0.9 for weight in spared)
    assert 2 * macs(costs_of(config)) == counted(GREY[kind](1, 10, 8, config.width), 1, 8)
    assert trainer.ledger.total > 0


def test_costs_follow_what_a_name_stands_for(registered):
    registered("own", GREY["plain"])
    config = RunConfig(profile="smoke", network="own", method="sgd")
    first = macs(costs_of(config))
    registered("own", lambda channels, classes, size, width: ThreeBlocks(channels, classes, 2 * width), replace=True)
    assert macs(costs_of(RunConfig(profile="smoke", network="own", method="sgd"))) > 2 * first


def test_a_network_of_ones_own_can_be_frozen(registered):
    registered("own", GREY["plain"])
    shared = {"profile": "smoke", "network": "own", "method": "er", "images_per_class": 10, "epochs": 1}
    # the children up to the head: one, with all blocks
    trainer = Trainer(RunConfig(**shared, freeze="blocks"), DIGITS)
    trainer.begin(0)
    assert all(c.trains for c in trainer.ledger.costs)
    trainer.begin(1)
    assert [c.name for c in trainer.ledger.costs if c.trains] == ["classifier.weight"]
    with pytest.raises(ValidationError) as error:
        RunConfig(**shared, freeze="layer1")
    assert explain(error.value) == "freeze = 'layer1': unknown in own; allowed: none, blocks"


@pytest.mark.parametrize("method", ["pnn", "lightcl"])
def test_methods_of_residual_networks_say_so(method, registered):
    registered("own", GREY["plain"])
    with pytest.raises(ValidationError) as error:
        RunConfig(profile="smoke", network="own", method=method)
    assert explain(error.value).startswith(f"network = 'own': '{method}' ")
    assert "ResNet" in explain(error.value)


def test_a_network_that_does_not_fit_the_images_says_so_in_one_line(registered):
    registered("coloured", lambda channels, classes, size, width: ThreeBlocks(3, classes))
    with pytest.raises(KitError, match=r"^network = 'coloured': does not run on 1 x 8 x 8 images: "):
        Trainer(RunConfig(profile="smoke", network="coloured", method="sgd"), DIGITS)
    registered("short", lambda channels, classes, size, width: ThreeBlocks(channels, 3))
    with pytest.raises(KitError, match=r"network = 'short': makes \(2, 3\) of 2 images; allowed: \(2, 10\)"):
        Trainer(RunConfig(profile="smoke", network="short", method="sgd"), DIGITS)


@pytest.mark.parametrize("name", GREY)
def test_a_network_of_ones_own_runs_on_the_sparse_engine(name, registered):
    registered("own", GREY[name])
    shared = {"profile": "smoke", "network": "own", "method": "der++", "images_per_class": 4, "epochs": 10, "tasks": 2}

    def farthest(seed):
        """The largest relative difference of a weight after an epoch in both engines."""
        given = shared | {"sparse": {"kind": "sparcl", "sparsity": 0.8, "ddr": False}, "lr": 0.003, "seed": seed}
        dense, sparse = (Trainer(RunConfig(**given, engine=engine), DIGITS) for engine in ("dense", "sparse"))
        for trainer in (dense, sparse):
            trainer.begin(0)
            trainer.train_epoch(0, 0)
        assert sparse.network.engine.current is not None
        pairs = zip(sparse.network.parameters(), dense.network.parameters(), strict=True)
        return max(float(((a - b).norm() / (b.norm() + 1e-3)).detach()) for a, b in pairs)

    # a ReLU's input, almost zero, may round to the other side: then another seed has to do
    distances = [farthest(seed) for seed in range(4)]
    assert min(distances) < 1e-3


def test_a_network_without_prunable_weights_trains_dense_and_refuses_masks(registered):
    registered("mlp", lambda channels, classes, size, width: nn.Sequential(nn.Flatten(), nn.Linear(64, classes)))
    shared = {"profile": "smoke", "network": "mlp", "method": "er", "images_per_class": 10, "epochs": 1, "tasks": 2}
    trainer = Trainer(RunConfig(**shared), DIGITS)
    trainer.run()
    assert trainer.trace[-1]["weight_density"] == 1
    with pytest.raises(KitError, match="network = 'mlp': nothing in it can be pruned"):
        Trainer(RunConfig(**shared, sparse={"kind": "random"}), DIGITS)


def test_blocks_of_a_network_of_ones_own_can_be_analysed(registered):
    registered("own", lambda channels, classes, size, width: Named(channels, classes))
    network = build("own", width=8, channels=3, classes=10, seed=0, size=16)
    x = torch.randn(5, 3, 16, 16)
    maps = block_maps(network, x)
    assert list(maps) == ["blocks.0", "blocks.1", "blocks.2"]
    with torch.no_grad():
        first = network.module.blocks[0].eval()(x)
    assert maps["blocks.0"].equal(first)
    assert set(stability_by_block(network, network, x).values()) == {1.0}
