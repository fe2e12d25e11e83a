"""Every method's loss against its formula, written out from separate forward passes."""

import copy

import pytest
import torch

from sparcl_lite.config import RunConfig
from sparcl_lite.data.streams import Batch, Task
from sparcl_lite.methods.base import cross_entropy
from sparcl_lite.models import build
from sparcl_lite.registry import METHODS
from sparcl_lite.replay import ReservoirBuffer

CLASSES = torch.tensor([2, 7])


def noise(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def images(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)


def augment(raw):
    return raw.float() / 100 - 1


def batch(task=1, size=6, seed=0):
    raw = images(size, seed)
    labels = CLASSES[torch.arange(size) % 2]
    return Batch(raw, augment(raw), labels, torch.arange(size), Task(task, CLASSES, torch.arange(size)))


def make(name, filled=12, **settings):
    """A method with a tiny network in train mode and a buffer of `filled` entries."""
    own = {"alpha": 0.3, "beta": 0.7, "merge_batches": settings.pop("merge_batches", True)}
    settings |= {n: value for n, value in own.items() if n in METHODS[name].Parameters.model_fields}
    settings = {"replay_batch_size": 4, "buffer_size": 20} | settings
    config = RunConfig(profile="smoke", method=name, **settings)
    network = build("small", width=8, channels=1, classes=10, seed=3).train()
    buffer = ReservoirBuffer(config.buffer_size, torch.Generator().manual_seed(5))
    if filled:
        buffer.add(images(filled, seed=9), torch.arange(filled) % 10, noise(filled, 10, seed=8))
    return METHODS[name](config, network, buffer, augment)


def draws(method, count):
    """What the method will draw: the same sequence from a copy of the buffer."""
    twin = copy.deepcopy(method.buffer)
    return [twin.sample(method.config.replay_batch_size) for _ in range(count)]


def ce(logits, labels):
    """Mean of log sum exp(z) - z_y."""
    return torch.stack([z.exp().sum().log() - z[y] for z, y in zip(logits, labels, strict=True)]).mean()


def mse(logits, targets):
    return ((logits - targets) ** 2).sum() / logits.numel()


def formula(name, network, now, memories, *, merged=True):
    """The papers' formulas; each pass is a call of its own, with its own batch statistics."""
    if name == "er" and merged:
        outputs = network(torch.cat([now.inputs, augment(memories[0].images)]))
        return ce(outputs, torch.cat([now.labels, memories[0].labels]))
    loss = ce(network(now.inputs), now.labels)
    outputs = [network(augment(memory.images)) for memory in memories]
    if name == "er":
        return loss + 0.7 * ce(outputs[0], memories[0].labels)
    if name in ("der", "der++"):
        loss = loss + 0.3 * mse(outputs[0], memories[0].logits)
    if name == "der++":
        loss = loss + 0.7 * ce(outputs[1], memories[1].labels)
    return loss


@pytest.mark.parametrize(
    ("name", "merged", "passes"),
    [("sgd", True, 0), ("joint", True, 0), ("er", True, 1), ("er", False, 1), ("der", True, 1), ("der++", True, 2)],
)
def test_loss_gradients_and_statistics_are_those_of_the_formula(name, merged, passes):
    method, now = make(name, merge_batches=merged), batch()
    twin = copy.deepcopy(method.network)
    first_pass = copy.deepcopy(method.network)
    memories = draws(method, passes)
    expected = formula(name, twin, now, memories, merged=merged)
    loss, logits = method.loss(now)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    expected.backward()
    for ours, theirs in zip(method.network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5)
    for key, value in twin.state_dict().items():
        torch.testing.assert_close(method.network.state_dict()[key], value)
    if not (name == "er" and merged):  # there the replayed images share the batch statistics
        torch.testing.assert_close(logits, first_pass(now.inputs))


def test_two_draws_of_derpp_are_independent():
    method = make("der++")
    first, second = method.replay(batch(), draws=2)
    assert not first.images.equal(second.images)


@pytest.mark.parametrize("name", ["sgd", "er", "der++"])
def test_masked_loss_sees_the_current_task_only(name):
    now = batch()
    plain, masked = make(name, filled=0), make(name, filled=0, masked_ce=True)
    logits = copy.deepcopy(masked.network)(now.inputs)
    own = logits[:, CLASSES]
    expected = ce(own, (now.labels == CLASSES[1]).long())
    assert masked.loss(now)[0].item() == pytest.approx(expected.item(), rel=1e-5)
    assert plain.loss(now)[0].item() == pytest.approx(ce(logits, now.labels).item(), rel=1e-5)


def test_mask_does_not_touch_the_replayed_part():
    for merged in (True, False):
        method, now = make("er", masked_ce=True, merge_batches=merged), batch()
        (memory,) = draws(method, 1)
        twin = copy.deepcopy(method.network)
        if merged:
            logits, replayed = twin(torch.cat([now.inputs, augment(memory.images)])).split([6, 4])
            weights = (0.6, 0.4)
        else:
            logits, replayed = twin(now.inputs), twin(augment(memory.images))
            weights = (1.0, 0.7)
        current = ce(logits[:, CLASSES], (now.labels == CLASSES[1]).long())
        expected = weights[0] * current + weights[1] * ce(replayed, memory.labels)
        assert method.loss(now)[0].item() == pytest.approx(expected.item(), rel=1e-5)


def test_masked_cross_entropy_ignores_other_logits_and_gives_them_no_gradient():
    logits = noise(6, 10, seed=1).requires_grad_()
    labels = CLASSES[torch.tensor([0, 1, 1, 0, 0, 1])]
    loss = cross_entropy(logits, labels, CLASSES)
    (gradient,) = torch.autograd.grad(loss, logits)
    others = torch.ones(10, dtype=torch.bool).index_fill(0, CLASSES, False)
    assert not gradient[:, others].any()
    assert gradient[:, CLASSES].abs().min() > 0
    moved = logits.detach().clone()
    moved[:, others] += 50 * noise(6, 8, seed=2)
    assert cross_entropy(moved, labels, CLASSES).item() == loss.item()
    assert cross_entropy(moved, labels).item() != cross_entropy(logits, labels).item()


@pytest.mark.parametrize("name", ["er", "der", "der++"])
def test_step_remembers_raw_images_and_the_logits_before_the_update(name):
    method, now = make(name, filled=0), batch()
    before = copy.deepcopy(method.network)
    optimizer = torch.optim.SGD(method.network.parameters(), lr=0.5)
    logits = method.step(now, optimizer, lambda: None)
    expected = before(now.inputs)
    torch.testing.assert_close(logits, expected.detach())
    assert not logits.requires_grad
    buffer = method.buffer
    assert len(buffer) == 6
    assert buffer.images[:6].equal(now.images)
    assert buffer.labels[:6].equal(now.labels)
    assert buffer.logits[:6].equal(logits)
    after = copy.deepcopy(method.network)(now.inputs)
    assert not torch.allclose(after, logits, atol=1e-3)


def test_step_edits_gradients_between_backward_and_update():
    method, now = make("sgd"), batch()
    before = {name: p.detach().clone() for name, p in method.network.named_parameters()}
    optimizer = torch.optim.SGD(method.network.parameters(), lr=0.5)
    method.network.linear.bias.grad = torch.full((10,), 1e6)  # of an earlier step: must not survive

    def keep_linear_only():
        for name, parameter in method.network.named_parameters():
            if name != "linear.bias":
                parameter.grad.zero_()

    method.step(now, optimizer, keep_linear_only)
    after = dict(method.network.named_parameters())
    assert {name for name in before if not before[name].equal(after[name])} == {"linear.bias"}
    assert (after["linear.bias"] - before["linear.bias"]).abs().max() < 1


def test_replay_waits_for_its_task_and_for_a_filled_buffer():
    assert len(make("der++").replay(batch(task=0), draws=2)) == 2
    assert make("der++", filled=0).replay(batch(), draws=2) == []
    late = make("der++", replay_from_task=1)
    assert late.replay(batch(task=0), draws=2) == []
    assert len(late.replay(batch(task=1), draws=2)) == 2
    twin = copy.deepcopy(late.network)
    now = batch(task=0)
    assert late.loss(now)[0].item() == pytest.approx(ce(twin(now.inputs), now.labels).item(), rel=1e-5)


@pytest.mark.parametrize("name", ["er", "der", "der++"])
def test_an_empty_buffer_leaves_the_current_loss(name):
    method, now = make(name, filled=0), batch()
    expected = ce(copy.deepcopy(method.network)(now.inputs), now.labels)
    assert method.loss(now)[0].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("name", [name for name in METHODS if not METHODS[name].task_aware])
def test_only_replay_methods_fill_the_buffer(name):
    method = make(name, filled=0)
    optimizer = torch.optim.SGD(method.network.parameters(), lr=0.1)
    for seed in range(3):
        method.step(batch(task=0, seed=seed), optimizer, lambda: None)
    filled_each_step = ("er", "er-ace", "der", "der++")  # others fill it when a task ends
    assert len(method.buffer) == (18 if name in filled_each_step else 0)
    assert method.uses_buffer == (name in ("agem", "icarl", "fdr", "lightcl", *filled_each_step))
