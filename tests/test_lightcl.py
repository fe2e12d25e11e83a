"""LightCL against its formulas, written out naively."""

import copy
from types import SimpleNamespace

import pytest
import torch

from sparcl_lite.config import RunConfig
from sparcl_lite.data.sources import load
from sparcl_lite.data.streams import TaskStream
from sparcl_lite.methods.lightcl import most_active, pattern_channels
from sparcl_lite.models import build
from sparcl_lite.registry import METHODS
from sparcl_lite.replay import ReservoirBuffer
from sparcl_lite.rng import Generators
from sparcl_lite.training import Trainer

DIGITS = load("digits")
BOTH = pytest.mark.parametrize("norm", ["eval", "train"])


def make(**settings):
    """A method between its first two tasks: patterns chosen, reference samples held; and the second task's stream."""
    config = RunConfig(profile="smoke", method="lightcl", images_per_class=20, **settings)
    rng = Generators(0)
    stream = TaskStream(config, DIGITS, rng)
    network = build("small", width=8, channels=1, classes=10, seed=3).train()
    buffer = ReservoirBuffer(config.buffer_size, rng.buffer)
    method = METHODS["lightcl"](config, network, buffer, stream.augment)
    method.begin_task(stream.tasks[0], stream)
    method.end_task(stream.tasks[0], stream)
    method.arrange(config, network, 1)
    method.begin_task(stream.tasks[1], stream)
    return method, stream


def batch_of(stream, size=16):
    task = stream.tasks[1]
    return stream.batch(task, task.samples[:size])


def moved(method):
    """Some other weights above the trunk, as after a few steps."""
    with torch.no_grad():
        for parameter in method.network.parameters():
            if parameter.requires_grad:
                parameter.mul_(0.9).add_(0.01)


def naive_activations(network, inputs):
    """All rectified maps of the last stage and the logits, layer by layer."""
    relu = torch.relu
    x = relu(network.bn1(network.conv1(inputs)))
    x = network.layer2(network.layer1(x))
    block = network.layer3[0]
    inner = relu(block.bn1(block.conv1(x)))
    out = relu(block.bn2(block.conv2(inner)) + block.shortcut(x))
    return inner, out, network.linear(out.mean((2, 3)))


def test_mask_is_the_sorted_top_by_hand():
    maps = torch.zeros(2, 5, 1, 2)
    maps[0, :, 0, 0] = torch.tensor([1.0, -8.0, 0.5, 3.0, 0.0])
    maps[1, :, 0, 1] = torch.tensor([1.0, 0.0, 0.5, -3.0, 1.5])  # sums of |.|: 2, 8, 1, 6, 1.5
    assert most_active(maps, 2).tolist() == [False, True, False, True, False]
    assert most_active(maps, 3).tolist() == [True, True, False, True, False]
    assert most_active(maps, 9).all()
    assert not most_active(maps, 0).any()


def test_mask_against_sorting_of_random_maps():
    maps = torch.randn(6, 40, 3, 3, generator=torch.Generator().manual_seed(0))
    sums = [float(sum(abs(v) for v in maps[:, c].flatten().tolist())) for c in range(40)]
    best = sorted(range(40), key=lambda c: -sums[c])[:7]
    assert most_active(maps, 7).nonzero().flatten().tolist() == sorted(best)


def test_number_of_channels_and_the_official_one_too_many():
    def count(**settings):
        return pattern_channels(RunConfig(profile="paper", method="lightcl", lightcl=settings))

    assert count() == 77  # 15 % of 512
    assert count(variant="official") == 78
    assert count(ratio=1.0) == 512
    assert count(ratio=0.0) == 0
    scores = torch.rand(512, generator=torch.Generator().manual_seed(1))
    threshold = scores.kthvalue(512 - 77).values  # as the authors' code has it
    ours = most_active(scores.view(1, 512, 1, 1), count(variant="official"))
    assert ours.equal(scores >= threshold)


@BOTH
@pytest.mark.parametrize("logits", [True, False])
@pytest.mark.parametrize("keep_trunk", [True, False])
def test_loss_is_the_formula_term_by_term(norm, logits, keep_trunk):
    method, stream = make(frozen_norm=norm, lightcl={"logits": logits, "keep_trunk": keep_trunk})
    before = copy.deepcopy(method.network)
    moved(method)
    batch, twin = batch_of(stream), copy.deepcopy(method.network)
    with torch.no_grad():
        then, now = (naive_activations(n, method.inputs) for n in (before, twin))
    change = 0.0
    for mask, old, new in zip(method.masks, then, now, strict=False):
        for sample in range(len(method.inputs)):
            for channel in mask.nonzero().flatten().tolist():
                change += 512 / 32 * float(((new[sample, channel] - old[sample, channel]) ** 2).sum())
    if logits:
        change += float(((now[2] - then[2]) ** 2).sum())
    own = batch.task.classes
    slice_ = twin(batch.inputs)[:, own]
    ce = torch.nn.functional.cross_entropy(slice_, torch.searchsorted(own, batch.labels))
    loss, outputs = method.loss(batch)
    assert change > 0.1
    assert loss.item() == pytest.approx(ce.item() + 2e-4 * change, rel=1e-4)
    assert outputs.shape == (16, 10)


def test_gradient_is_that_of_the_formula():
    method, stream = make()
    before = copy.deepcopy(method.network)
    moved(method)
    batch, twin = batch_of(stream), copy.deepcopy(method.network)
    method.loss(batch)[0].backward()
    with torch.no_grad():
        then = naive_activations(before, method.inputs)
    now = naive_activations(twin, method.inputs)
    terms = [((n - o) * m[:, None, None]).square().sum() for m, n, o in zip(method.masks, now, then, strict=False)]
    penalty = 512 / 32 * sum(terms) + (now[2] - then[2]).square().sum()
    own = batch.task.classes
    ce = torch.nn.functional.cross_entropy(twin(batch.inputs)[:, own], torch.searchsorted(own, batch.labels))
    (ce + method.config.beta * penalty).backward()
    for ours, theirs in zip(method.network.parameters(), twin.parameters(), strict=True):
        assert (ours.grad is None) == (not ours.requires_grad)
        if ours.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5)


def holding(config, channels):
    """A method that holds zeros, and what is now said of 15 samples: logits, maps and their masks, all random."""
    generator = torch.Generator().manual_seed(4)
    maps = [torch.rand(15, channels, size, size, generator=generator).requires_grad_() for size in (4, 8)]
    masks = [torch.rand(channels, generator=generator) < 0.15 for _ in maps]
    logits = torch.randn(15, 10, generator=generator, requires_grad=True)
    network = SimpleNamespace(patterns=lambda trunk: (maps, logits))
    method = METHODS["lightcl"](config, network, None, None)
    method.masks, method.held = masks, [torch.zeros_like(part) for part in (*maps, logits)]
    return method, maps, masks, logits


@pytest.mark.parametrize("dataset", ["cifar10", "tiny-imagenet"])
def test_the_papers_network_has_the_authors_loss(dataset):
    """Beta (sum_l |(f_l - R_l) mask_l|^2 + |z - R_z|^2), summed over samples, channels and positions of any size."""
    config = RunConfig(profile="paper", method="lightcl", dataset=dataset)
    method, maps, masks, logits = holding(config, channels=512)
    theirs = sum(((m * mask.view(1, -1, 1, 1)) ** 2).sum() for m, mask in zip(maps, masks, strict=True))
    torch.testing.assert_close(method._change(), theirs + (logits**2).sum())
    assert config.beta == 2e-4


@pytest.mark.parametrize(("profile", "channels"), [("smoke", 32), ("lite", 64), ("paper", 512)])
def test_each_term_weighs_as_in_the_authors_code_at_every_width(profile, channels):
    config = RunConfig(profile=profile, method="lightcl")
    method, maps, masks, logits = holding(config, channels)
    on_logits, *on_maps = torch.autograd.grad(config.beta * method._change(), [logits, *maps])
    torch.testing.assert_close(on_logits, 2e-4 * 2 * logits)
    for gradient, part, mask in zip(on_maps, maps, masks, strict=True):
        torch.testing.assert_close(gradient, 2e-4 * 512 / channels * 2 * part * mask.view(1, -1, 1, 1))


@BOTH
def test_kept_trunk_maps_are_those_computed_again(norm):
    method, stream = make(frozen_norm=norm)
    torch.testing.assert_close(method.maps, method.network.trunk(method.inputs), rtol=0, atol=0)
    optimizer = torch.optim.SGD(method.network.parameters(), lr=0.1)
    for _ in range(3):
        method.step(batch_of(stream), optimizer, lambda: None)
    torch.testing.assert_close(method.maps, method.network.trunk(method.inputs), rtol=0, atol=0)


def test_at_first_nothing_has_moved_and_beta_0_is_plain_training():
    method, stream = make(frozen_norm="train")
    ce = method.loss(batch_of(stream))[0].item()
    none, stream = make(frozen_norm="train", beta=0.0)
    assert ce == pytest.approx(none.loss(batch_of(stream))[0].item(), rel=1e-5)
    moved(method)
    moved(none)
    assert method.loss(batch_of(stream))[0].item() > none.loss(batch_of(stream))[0].item()


def test_only_the_patterns_channels_are_held():
    method, _ = make(lightcl={"logits": False})
    outside = (~method.masks[1]).nonzero().flatten()
    block = method.network.layer3[0]
    assert 0 < len(outside) < 32
    with torch.no_grad():
        block.bn2.bias[outside] += 1.0
        assert float(method._change()) == 0
        block.bn2.bias[method.masks[1]] += 1.0
        assert float(method._change()) > 0


def test_masks_are_united_over_tasks():
    method, stream = make()
    first = [mask.clone() for mask in method.masks]
    assert [int(m.sum()) for m in first] == [5, 5]  # 15 % of 32
    moved(method)
    method.end_task(stream.tasks[1], stream)
    for old, new in zip(first, method.masks, strict=True):
        assert bool((new | ~old).all())
        assert 5 <= int(new.sum()) <= 10
    assert method.report() == {"pattern_density": [round(float(m.float().mean()), 6) for m in method.masks]}


def test_random_channels_are_as_many_and_others():
    random, _ = make(lightcl={"channels": "random"})
    chosen, _ = make()
    assert [int(m.sum()) for m in random.masks] == [5, 5]
    assert any(not a.equal(b) for a, b in zip(random.masks, chosen.masks, strict=True))


def test_reference_samples_are_the_new_tasks_or_earlier_ones():
    new, stream = make()
    held = new.buffer.contents()
    assert len(held.labels) == 15
    assert torch.isin(held.labels, stream.tasks[1].classes).all()
    old, stream = make(lightcl={"reference": "old"})
    assert torch.isin(old.buffer.contents().labels, stream.tasks[0].classes).all()
    old.end_task(stream.tasks[1], stream)
    labels = old.buffer.contents().labels
    assert torch.isin(labels, stream.tasks[1].classes).any()
    assert torch.isin(labels, torch.cat([t.classes for t in stream.tasks[:2]])).all()
    assert len(labels) == 15


def test_recording_leaves_running_statistics_alone():
    method, stream = make(frozen_norm="train")
    before = copy.deepcopy(method.network.state_dict())
    method.begin_task(stream.tasks[1], stream)
    method.end_task(stream.tasks[1], stream)
    for name, value in method.network.state_dict().items():
        assert value.equal(before[name]), name


def test_official_variant_sets_its_switches_and_each_can_be_set_alone():
    official = RunConfig(profile="paper", method="lightcl", lightcl={"variant": "official"})
    assert official.frozen_norm == "train"
    settings = official.lightcl
    assert (settings.extra_channel, settings.keep_trunk, settings.recover) == (True, False, True)
    assert (settings.ranking, settings.groups, settings.reference) == ("signed_mean", "layer", "new")
    paper = RunConfig(profile="paper", method="lightcl")
    assert (paper.frozen_norm, paper.freeze, paper.freeze_first_task) == ("eval", "layer3", False)
    assert (paper.beta, paper.lr, paper.buffer_size, paper.masked_ce) == (2e-4, 0.01, 15, True)
    alone = RunConfig(profile="paper", method="lightcl", lightcl={"variant": "official", "extra_channel": False})
    assert not alone.lightcl.extra_channel
    assert len({official.key, paper.key, alone.key}) == 3


@pytest.mark.parametrize(("freeze", "maps"), [("none", 4), ("layer4.0", 2), ("layer4", 0)])
def test_patterns_are_those_of_blocks_that_still_train(freeze, maps):
    # whole batches only: batch norm of a single position over a last batch of two makes gradients explode
    settings = {"network": "resnet18", "freeze": freeze, "tasks": 2, "epochs": 1, "images_per_class": 16}
    trainer = Trainer(RunConfig(profile="smoke", method="lightcl", **settings), DIGITS)
    trainer.run()
    assert len(trainer.method.masks) == len(trainer.method.held) - 1 == maps


def test_holding_patterns_keeps_more_of_the_first_task():
    """With everything trainable and a pull the reference's patterns barely move; without, they do."""

    def drift(beta):
        config = RunConfig(profile="smoke", method="lightcl", tasks=2, epochs=3, images_per_class=40, beta=beta)
        trainer = Trainer(config, DIGITS)
        trainer.run()
        method = trainer.method
        trainer.network.train()
        with torch.no_grad():
            return float(method._change())

    assert drift(0.003) < drift(0.0) / 2
