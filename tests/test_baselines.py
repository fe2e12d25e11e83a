"""Each baseline against a case worked out by hand or by brute force, on tiny networks."""

import copy
from itertools import permutations

import pytest
import torch

from sparcl_lite.config import RunConfig
from sparcl_lite.data.sources import load
from sparcl_lite.methods.icarl import herding
from sparcl_lite.methods.packnet import FREE, LPS, prune_epoch
from sparcl_lite.registry import METHODS
from sparcl_lite.training import Trainer

DIGITS = load("digits")
SMALL = {"images_per_class": 12, "epochs": 3, "buffer_size": 20, "tasks": 5}


def trainer_of(method, **settings):
    return Trainer(RunConfig(profile="smoke", method=method, **SMALL | settings), DIGITS)


def after_first_task(method, **settings):
    """A trainer that stands at the beginning of its second task."""
    trainer = trainer_of(method, **settings)
    trainer.on_epoch = _stop_at(trainer, (1, 1))
    with pytest.raises(StopIteration):
        trainer.run()
    return trainer


def _stop_at(trainer, position):
    def stop(_):
        if trainer.position == position:
            raise StopIteration

    return stop


def batch_of(trainer, task=1, count=8):
    return trainer.stream.batch(trainer.stream.tasks[task], trainer.stream.tasks[task].samples[:count])


def flat(gradients):
    return torch.cat([g.flatten() for g in gradients])


# -- EWC


def test_fisher_is_the_mean_over_samples_of_p_times_the_squared_gradient():
    trainer = trainer_of("ewc", penalty=5.0)
    task, network = trainer.stream.tasks[0], trainer.network
    trainer.stream.augment.generator.manual_seed(1)
    trainer.method.end_task(task, trainer.stream)
    trainer.stream.augment.generator.manual_seed(1)
    expected = [torch.zeros_like(p) for p in network.parameters()]
    for sample in task.samples:
        batch = trainer.stream.batch(task, sample[None])
        network.zero_grad()
        log_p = network(batch.inputs).log_softmax(1)[0, batch.labels[0]]
        log_p.backward()
        for total, p in zip(expected, network.parameters(), strict=True):
            total += log_p.exp().item() * p.grad**2 / len(task.samples)
    for found, value in zip(trainer.method.fisher, expected, strict=True):
        torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-9)
    assert flat(trainer.method.fisher).max() > 0


def test_penalty_is_quadratic_around_the_anchor_and_fisher_decays():
    trainer = trainer_of("ewc", penalty=5.0, gamma=0.5, lr=0.01)  # the bound is 10
    method, batch = trainer.method, batch_of(trainer, task=0)
    plain, _ = method.loss(batch)
    method.fisher = [torch.full_like(p, 2.0) for p in trainer.network.parameters()]
    method.anchor = [p.detach() - 0.1 for p in trainer.network.parameters()]
    count = sum(p.numel() for p in trainer.network.parameters())
    torch.testing.assert_close(method.loss(batch)[0], plain + 5.0 * 2.0 * 0.01 * count, rtol=1e-4, atol=0)
    method.end_task(trainer.stream.tasks[0], trainer.stream)
    assert all(bool((f >= 1.0).all()) for f in method.fisher)  # 0.5 x 2 and what is new
    assert flat(method.fisher).min() == 1.0
    assert all(a.equal(p) for a, p in zip(method.anchor, trainer.network.parameters(), strict=True))


def test_a_step_takes_a_weight_of_large_fisher_information_to_its_anchor_and_not_beyond():
    trainer = trainer_of("ewc", penalty=5.0)
    method, weights, batch = trainer.method, list(trainer.network.parameters()), batch_of(trainer, task=0)
    of_the_batch = torch.autograd.grad(method.loss(batch)[0], weights)
    method.anchor = [p.detach() - 0.1 for p in weights]
    method.fisher = [torch.full_like(p, 1e6) for p in weights]
    whole = torch.autograd.grad(method.loss(batch)[0], weights)
    steps = [trainer.config.lr * (a - b) for a, b in zip(whole, of_the_batch, strict=True)]
    torch.testing.assert_close(flat(steps), torch.full_like(flat(steps), 0.1), rtol=1e-3, atol=1e-4)


# -- LwF


def test_lwf_distils_the_past_and_trains_the_classes_seen():
    trainer = trainer_of("lwf", alpha=3.0, weight_decay=5e-4)
    method, stream, network = trainer.method, trainer.stream, trainer.network
    method.begin_task(stream.tasks[0], stream)
    assert method.targets is None
    before = copy.deepcopy(network.state_dict())
    method.begin_task(stream.tasks[1], stream)
    changed = {name for name, value in network.state_dict().items() if not value.equal(before[name])}
    assert changed == {"linear.weight", "linear.bias"}
    rows = {i for i in range(10) if not network.linear.weight[i].equal(before["linear.weight"][i])}
    assert rows == set(stream.tasks[1].classes.tolist())
    batch, past = batch_of(trainer), stream.tasks[0].classes
    plain = stream.train.images[batch.samples].float() / 255
    network.eval()
    torch.testing.assert_close(method.targets[: len(plain)], network(plain), rtol=1e-4, atol=1e-5)
    logits = network(batch.inputs).detach()
    old, new = ((z[:, past] / 2).softmax(1) for z in (network(plain), logits))
    seen = torch.cat([past, stream.tasks[1].classes])
    ce = torch.stack([z[seen].logsumexp(0) - z[y] for z, y in zip(logits, batch.labels, strict=True)]).mean()
    norm = sum((p**2).sum() for p in network.parameters())
    expected = ce - 3.0 * (old * new.log()).sum(1).mean() + 5e-4 * norm
    torch.testing.assert_close(method.loss(batch)[0], expected, rtol=1e-4, atol=1e-5)


# -- A-GEM


def agem_gradients(trainer):
    """The plain gradient, the reference of the next draw, and what A-GEM makes of them."""
    method, network, batch = trainer.method, trainer.network, batch_of(trainer)
    network.zero_grad()
    method.loss(batch)[0].backward()
    plain = flat([p.grad.clone() for p in network.parameters()])
    memory = copy.deepcopy(method.buffer).sample(trainer.config.replay_batch_size)
    state = trainer.stream.augment.generator.get_state()
    logits = network(trainer.stream.augment(memory.images))
    loss = torch.nn.functional.cross_entropy(logits, memory.labels)
    reference = flat(torch.autograd.grad(loss, list(network.parameters())))
    trainer.stream.augment.generator.set_state(state)
    method.correct_gradients(batch)
    return plain, reference, flat([p.grad for p in network.parameters()])


def test_projected_gradient_never_opposes_the_reference():
    trainer = after_first_task("agem", lr=0.1)
    assert torch.bincount(trainer.buffer.labels[:4]).sum() == 4 == len(trainer.buffer)  # 20 / 5 tasks
    projected = 0
    for _ in range(5):
        plain, reference, found = agem_gradients(trainer)
        if plain @ reference < 0:
            projected += 1
            expected = plain - (plain @ reference) / (reference @ reference) * reference
            assert abs(found @ reference) < 1e-3 * found.norm() * reference.norm()
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)
        else:
            assert found.equal(plain)
    assert projected  # a new task at first raises the loss on the old one


# -- FDR


def test_fdr_gives_every_task_the_same_share_and_remembers_train_mode_logits():
    trainer = trainer_of("fdr", lr=0.05)
    trainer.run()
    buffer, tasks = trainer.buffer, trainer.stream.tasks
    held = [int(torch.isin(buffer.contents().labels, task.classes).sum()) for task in tasks]
    assert held == [4] * 5
    assert len(buffer) == 20
    assert buffer.logits.abs().sum(1).min() > 0


def test_fdr_remembers_an_odd_number_of_samples_in_batches_of_two():
    trainer = trainer_of("fdr", batch_size=2, buffer_size=6, tasks=2, images_per_class=2, epochs=1)
    trainer.run()  # a part of a single image would stop batch norm on maps of one pixel
    assert len(trainer.buffer) == 6


def test_fdr_updates_twice_and_moves_towards_the_remembered_outputs():
    trainer = after_first_task("fdr", lr=0.05)
    method, network, batch = trainer.method, trainer.network, batch_of(trainer)
    memory = copy.deepcopy(method.buffer).sample(16)
    edits = []
    twin = copy.deepcopy(network)
    twin.zero_grad()
    torch.nn.functional.cross_entropy(twin(batch.inputs), batch.labels).backward()
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.05)
    optimizer.step()
    twin.zero_grad()
    state = trainer.stream.augment.generator.get_state()
    outputs = twin(trainer.stream.augment(memory.images))
    (outputs.softmax(1) - memory.logits.softmax(1)).square().sum(1).sqrt().mean().backward()
    optimizer.step()
    trainer.stream.augment.generator.set_state(state)
    method.step(batch, torch.optim.SGD(network.parameters(), lr=0.05), lambda: edits.append(1))
    assert len(edits) == 2
    for found, expected in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


# -- iCaRL


def test_herding_equals_brute_force_on_six_points():
    points = torch.tensor([[0.0, 0.1], [1.0, 0.0], [2.0, 2.2], [0.3, 1.0], [5.0, 1.0], [1.2, 0.9]])
    chosen = []
    for number in range(1, 7):
        rest = [i for i in range(6) if i not in chosen]
        gaps = {i: (points.mean(0) - points[[*chosen, i]].sum(0) / number).norm().item() for i in rest}
        chosen.append(min(gaps, key=gaps.get))
    assert herding(points, 6).tolist() == chosen
    assert herding(points, 4).tolist() == chosen[:4]
    assert herding(points, 99).tolist() == chosen
    best_pair = min(permutations(range(6), 1), key=lambda i: (points[list(i)].mean(0) - points.mean(0)).norm())
    assert herding(points, 1).tolist() == list(best_pair)


def test_icarl_trains_on_exemplars_and_classifies_by_the_nearest_mean():
    trainer = after_first_task("icarl", lr=0.1, weight_decay=0.0)
    method, stream = trainer.method, trainer.stream
    first, second = stream.tasks[:2]
    assert {label: len(p) for label, p in method.exemplars.items()} == dict.fromkeys(first.classes.tolist(), 10)
    assert len(method.training_set(second)) == 24 + 20
    batch = batch_of(trainer)
    logits = trainer.network.train()(batch.inputs).detach()
    targets = torch.zeros(8, 10)
    targets[torch.arange(8), batch.labels] = 1
    targets[:, first.classes] = method.old(batch.inputs).sigmoid()[:, first.classes]
    seen = torch.cat([first.classes, second.classes])
    p, t = logits[:, seen].sigmoid(), targets[:, seen]
    expected = -(t * p.log() + (1 - t) * (1 - p).log()).mean()
    torch.testing.assert_close(method.loss(batch)[0], expected, rtol=1e-4, atol=1e-6)
    method.end_task(second, stream)
    assert {len(p) for p in method.exemplars.values()} == {5}
    trainer.network.eval()
    inputs = stream.augment.normalise(stream.train.images[:40])
    scores, features = method.predict(inputs), trainer.network.features(inputs)
    means = {
        c: trainer.network.features(stream.augment.normalise(stream.train.images[method.exemplars[c]])).mean(0)
        for c in seen.tolist()
    }
    nearest = [min(means, key=lambda c, f=f: (f - means[c]).norm().item()) for f in features]
    assert scores.argmax(1).tolist() == nearest
    assert sorted(set(range(10)) - set(seen.tolist())) == scores[0].isinf().nonzero().flatten().tolist()


# -- PackNet and LPS


@pytest.mark.parametrize("method", ["packnet", "lps"])
def test_packed_tasks_never_change_again(method):
    trainer = trainer_of(method, lr=0.05)
    inputs = trainer.stream.augment.normalise(trainer.stream.train.images[:30])
    found = {}

    def outputs(task):
        trainer.network.eval()
        with torch.no_grad():
            return trainer.method.predict(inputs, task)[:, task.classes]

    original = trainer.evaluate

    def evaluate(seen):
        original(seen)
        for task in trainer.stream.tasks[:seen]:
            found.setdefault(task.index, []).append(outputs(task))

    trainer.evaluate = evaluate
    trainer.run()
    assert [len(outputs) for outputs in found.values()] == [5, 4, 3, 2, 1]
    assert all(outputs[0].equal(later) for outputs in found.values() for later in outputs)
    for owner in trainer.method.owner.values():
        counts = torch.bincount(owner.flatten() - FREE, minlength=6)
        assert counts[1:].tolist() == [owner.numel() // 5] * 5
    for name, weight in trainer.method.packed.items():
        assert not weight[trainer.method.owner[name] == FREE].any()
    assert torch.isnan(torch.tensor(trainer.class_il)).all()


def test_lps_draws_the_free_weights_to_a_sparse_copy_and_learns_what_to_reuse(monkeypatch):
    monkeypatch.setattr(LPS, "SCORE_LR", 1e-3)
    trainer = trainer_of("lps", penalty=0.5, lr=0.05, epochs=6, tasks=2)
    stay = trainer_of("packnet", lr=0.05, epochs=6, tasks=2)
    small = {}
    for name, run in (("lps", trainer), ("packnet", stay)):

        def look(t, name=name):
            if t.position == (0, prune_epoch(6)):
                weight = torch.cat([p.detach().flatten().abs() for p in t.method.packed.values()])
                small[name] = float((weight / weight.max() < 0.01).float().mean())

        run.on_epoch = look
        run.run()
    assert small["lps"] > small["packnet"]  # ADMM pulls what will be pruned towards zero
    reused = [
        float(trainer.method.used[1][n][o == 0].float().mean())
        for n, o in trainer.method.owner.items()
        if (o == 0).any()
    ]
    assert 0 < min(reused) < 1


def test_pruning_needs_no_epochs_to_spare():
    assert [prune_epoch(e) for e in (1, 2, 3, 10, 50)] == [1, 1, 2, 7, 33]
    trainer = trainer_of("packnet", epochs=1, tasks=2)
    trainer.run()
    assert trainer.method.pruned


@pytest.mark.slow
def test_orderings_that_any_correct_implementation_shows():
    settings = {"images_per_class": 40, "epochs": 5, "buffer_size": 100}
    found = {}
    for name in METHODS:
        own = {"ewc": {"penalty": 1.0}, "lightcl": {"buffer_size": 15}}.get(name, {})
        trainer = trainer_of(name, **settings | own)
        trainer.run()
        found[name] = trainer.class_il[4].mean(), trainer.task_il[4].mean()
    for name in ("sgd", "ewc", "lwf", "agem"):
        assert found[name][0] < 40, name
    for name in ("er", "der++", "icarl"):
        assert found[name][0] > found["sgd"][0] + 5, name
    assert found["joint"][0] > found["sgd"][0] + 30
    for name in ("icarl", "fdr", "er", "der++", "packnet", "lps"):
        assert found[name][1] > 75, name
    assert all(task_il > 55 for _, task_il in found.values())  # 50 is chance
