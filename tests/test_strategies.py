"""Static masks, SNIP and RigL against brute force and their schedules; one-shot and random removal."""

import copy
import math

import pytest
import torch

from sparcl_lite.config import RunConfig
from sparcl_lite.data.sources import load
from sparcl_lite.masks import density, keep_top
from sparcl_lite.sparsity import RigL, SparCL, StaticMask
from sparcl_lite.sparsity.rigl import drop_fraction, schedule_at
from sparcl_lite.sparsity.schedule import data_fraction, removal_epochs, samples_in_epoch
from sparcl_lite.training import Trainer

DIGITS = load("digits")
SMALL = {"images_per_class": 20, "epochs": 3, "tasks": 2, "buffer_size": 40}


def trainer_of(sparse, method="der++", **settings):
    return Trainer(RunConfig(profile="smoke", method=method, sparse=sparse, **SMALL | settings), DIGITS)


@pytest.mark.parametrize("kind", ["random", "magnitude", "snip"])
def test_a_static_mask_has_its_density_and_never_changes(kind):
    trainer, seen = trainer_of(StaticMask(kind=kind, sparsity=0.9)), []
    trainer.on_step = lambda: seen.append({n: w.detach() != 0 for n, w in trainer.sparsity.weights.items()})
    trainer.run()
    for name, mask in trainer.sparsity.masks.items():
        assert density(mask) == pytest.approx(0.1, abs=1e-3)
        assert all(not (moment[name] & ~mask).any() for moment in seen)
        assert float((seen[-1][name] & mask).sum() / mask.sum()) > 0.9  # and inside it, weights are trained
    survival = trainer.sparsity.report()["weight_survival"]
    assert all(value == 1 for matrix in survival.values() for row in matrix for value in row)


def test_magnitude_keeps_the_largest_initial_weights():
    dense = trainer_of(None).sparsity.weights
    masks = trainer_of(StaticMask(kind="magnitude", sparsity=0.8)).sparsity.masks
    for name, mask in masks.items():
        assert dense[name].abs()[mask].min() >= dense[name].abs()[~mask].max()


def saliency(trainer, task):
    """|w dL/dw| on the batch that SNIP will draw, by autograd on a copy."""
    generator = torch.Generator()
    generator.set_state(trainer.stream.rng.probe.get_state())
    chosen = task.samples[torch.randperm(len(task.samples), generator=generator)[: trainer.config.batch_size]]
    augment = copy.copy(trainer.stream.augment)
    augment.generator = generator
    twin = copy.deepcopy(trainer.network).train()
    logits = twin(augment(trainer.stream.train.images[chosen]))
    torch.nn.functional.cross_entropy(logits, trainer.stream.train.labels[chosen]).backward()
    weights = dict(twin.named_parameters())
    return {name: (weights[name] * weights[name].grad).abs() for name in trainer.sparsity.weights}


@pytest.mark.parametrize("scope", ["layer", "network"])
def test_snip_keeps_the_most_salient_weights(scope):
    trainer = trainer_of(StaticMask(kind="snip", sparsity=0.9, scope=scope))
    task = trainer.stream.tasks[0]
    scores = saliency(trainer, task)
    trainer.sparsity.begin_task(task)
    trainer.sparsity.begin_epoch(task, 0, trainer.probe)
    masks = trainer.sparsity.masks
    if scope == "layer":
        groups = [(scores[name], masks[name]) for name in masks]
    else:
        groups = [tuple(torch.cat([part[n].flatten() for n in masks]) for part in (scores, masks))]
    for values, mask in groups:
        assert int(mask.sum()) == round(0.1 * mask.numel())
        assert values[mask].min() >= values[~mask].max() * (1 - 1e-5)
    assert trainer.ledger.importance > 0


def test_rigl_drops_the_smallest_and_grows_where_the_dense_gradient_is_largest():
    trainer = trainer_of(RigL(sparsity=0.8, interval=4, drop_fraction=0.5))
    strategy, moves = trainer.sparsity, []
    original = strategy.edit_gradients

    def edit(step, probe):
        before = {n: (strategy.masks[n], w.detach().clone(), w.grad.clone()) for n, w in strategy.weights.items()}
        position, needed = strategy.clock["steps"], original(step, probe)
        if position % 4 or not position:
            assert all(not w.grad[~strategy.masks[n]].any() for n, w in strategy.weights.items())
            return needed
        moved = any(not strategy.masks[n].equal(before[n][0]) for n in before)
        moves.append((position, moved))
        if moved:
            assert set(needed.values()) == {1.0}
            assert all(p.grad is None for p in trainer.network.parameters())
            check_move(before, strategy, position)
        return needed

    strategy.edit_gradients = edit
    trainer.run()
    # 3 epochs of 7 steps a task; t_end = 0.75 x 21 = 15.75; each task starts anew
    assert moves == [(p, p < 15.75) for p in range(4, 21, 4)] * 2
    assert all(density(mask) == pytest.approx(0.2, abs=2e-3) for mask in strategy.masks.values())


def check_move(before, strategy, position):
    share = 0.25 * (1 + math.cos(math.pi * position / 15.75))
    for name, (mask, weight, gradient) in before.items():
        now, after = strategy.masks[name], strategy.weights[name].detach()
        lost, gained, stayed = mask & ~now, now & ~mask, mask & now
        kept = keep_top(weight.abs(), mask, int(mask.sum()) - int(share * int(mask.sum())))
        assert int(lost.sum()) == int(gained.sum()) <= int(share * int(mask.sum()))
        assert not after[gained].any()
        assert after[stayed].equal(weight[stayed])  # also what was dropped and grows again
        if gained.any():
            assert not (lost & kept).any()
            assert gradient.abs()[gained].min() >= gradient.abs()[~now].max()


def test_rigl_keeps_the_value_of_a_weight_that_it_drops_and_regrows_at_once():
    strategy = trainer_of(RigL(sparsity=0.8, drop_fraction=0.5, interval=1)).sparsity
    name, weight = next(iter(strategy.weights.items()))
    mask = strategy.masks[name]
    least = mask & (weight.abs() == weight[mask].abs().min())  # dropped first, and grown first
    new = ~mask & ((~mask).cumsum(0) == 1)
    weight.grad = torch.zeros_like(weight).masked_fill_(least | new, 1.0)
    value = weight.detach()[least].clone()
    moved = strategy._moved(name, weight, fraction=0.5)
    assert moved[least].all()
    assert weight[least].equal(value)
    assert value.all()
    assert moved[new].any()
    assert not weight[new].any()


def test_rigl_schedule():
    sparse = RigL(interval=100, drop_fraction=0.3)
    assert drop_fraction(sparse, 0, 1000) == drop_fraction(sparse, 99, 1000) == drop_fraction(sparse, 800, 1000) == 0
    assert drop_fraction(sparse, 100, 1000) == pytest.approx(0.15 * (1 + math.cos(math.pi * 100 / 750)))
    assert drop_fraction(sparse, 700, 1000) > 0
    config = RunConfig(profile="smoke", sparse=sparse)
    assert schedule_at(config, 2, 1000) == (0, 1000)
    whole = RunConfig(profile="smoke", sparse=RigL(schedule="run"))
    assert schedule_at(whole, 2, 1000) == (2000, 5000)


def test_one_shot_removal_takes_all_at_the_cutoff_and_random_ignores_difficulty():
    stages, one_shot = SparCL(), SparCL(removal_rule="one_shot")
    assert (removal_epochs(stages, 50), removal_epochs(one_shot, 50)) == ([5, 10, 15, 20], [20])
    assert samples_in_epoch(one_shot, 1000, 19, 50) == 1000
    assert samples_in_epoch(one_shot, 1000, 20, 50) == samples_in_epoch(stages, 1000, 20, 50) == 700
    assert data_fraction(one_shot, 50) == pytest.approx(1 - 0.3 * 30 / 50)
    removed, mistakes = {}, {}
    for rule in ("stages", "one_shot", "random"):
        trainer = trainer_of(SparCL(removal_rule=rule, tdm=False, dgm=False), epochs=10)
        trainer.run()
        report = trainer.sparsity.report()
        removed[rule] = [set().union(*stages) for stages in report["removed"]]
        wrong = torch.tensor(report["misclassified"], dtype=torch.float)
        mistakes[rule] = float(wrong[sorted(set().union(*removed[rule]))].mean())
    assert max(mistakes["stages"], mistakes["one_shot"]) < mistakes["random"]
    assert len({frozenset(tasks[0]) for tasks in removed.values()}) == 3
    assert {len(tasks[0]) for tasks in removed.values()} == {28, 30}
