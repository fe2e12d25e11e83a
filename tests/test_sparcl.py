"""SparCL's importance scores, DDR and DGM against hand counts and autograd; each part switched off."""

import copy

import pytest
import torch

from sparcl_lite.config import RunConfig
from sparcl_lite.data.sources import load
from sparcl_lite.data.streams import Augmentation, Batch
from sparcl_lite.masks import density
from sparcl_lite.sparsity import SparCL
from sparcl_lite.sparsity.ddr import DDR, UNKNOWN
from sparcl_lite.sparsity.dgm import DGM
from sparcl_lite.training import Trainer

DIGITS = load("digits")


def trainer_of(sparse, **settings):
    settings = {"images_per_class": 20, "epochs": 10} | settings
    return Trainer(RunConfig(profile="smoke", sparse=sparse, **settings), DIGITS)


def fill_buffer(trainer, count=50):
    train = trainer.stream.train
    trainer.buffer.add(train.images[:count], train.labels[:count], torch.zeros(count, 10))


def explicit_gradient(network, inputs, labels, classes):
    """|d mean(-log softmax over `classes`) / dw| by autograd on a copy."""
    twin = copy.deepcopy(network).train()
    logits = twin(inputs)[:, classes]
    target = (labels[:, None] == classes).int().argmax(1)
    loss = (logits.logsumexp(1) - logits[torch.arange(len(labels)), target]).mean()
    loss.backward()
    return {name: parameter.grad.abs() for name, parameter in twin.named_parameters()}


def expected_importance(trainer, task, batches):
    """Eq. 3, drawn with a copy of the probe's generator: alpha |dL~(D_t)| + beta |dL(M)|."""
    config, stream = trainer.config, trainer.stream
    generator = torch.Generator()
    generator.set_state(stream.rng.probe.get_state())
    augment = Augmentation(stream.spec, generator)
    total, everything = {}, torch.arange(10)

    def accumulate(weight, drawn, classes):
        for images, labels in drawn:
            for name, value in explicit_gradient(trainer.network, augment(images), labels, classes).items():
                total[name] = total.get(name, 0) + weight * value / batches

    chosen = [task.samples[torch.randperm(len(task.samples), generator=generator)[:16]] for _ in range(batches)]
    accumulate(config.sparse.alpha, [(stream.train.images[c], stream.train.labels[c]) for c in chosen], task.classes)
    if len(trainer.buffer) == 0:
        return total
    memories = [trainer.buffer.sample(16, generator) for _ in range(batches)]
    accumulate(config.sparse.beta, [(m.images, m.labels) for m in memories], everything)
    return total


def is_top(kept, scores, mask, count):
    """Whether `kept` are `count` best of `mask`; 1x1 maps leave many gradients zero, so ties are common."""
    dropped = scores[mask & ~kept]
    return kept.sum() == count and not (kept & ~mask).any() and scores[kept].min() >= dropped.max() * (1 - 1e-4)


def test_cwi_is_equation_1():
    trainer = trainer_of(SparCL(alpha=0.5, beta=2.0, freeze_from=0.1, ddr=False))  # epoch 1 only prunes
    fill_buffer(trainer)
    strategy, task = trainer.sparsity, trainer.stream.tasks[1]
    strategy.begin_task(task)
    strategy.begin_epoch(task, 0, trainer.probe)
    expanded, state = dict(strategy.tdm.masks), copy.deepcopy(trainer.network.state_dict())
    expected = expected_importance(trainer, task, batches=2)
    magnitudes = {name: weight.detach().abs().clone() for name, weight in strategy.weights.items()}
    strategy.begin_epoch(task, 1, trainer.probe)
    for name, weight in strategy.weights.items():
        mask, count = strategy.tdm.masks[name], round(0.25 * weight.numel())
        assert is_top(mask, magnitudes[name] + expected[name], expanded[name], count)
        assert not is_top(mask, magnitudes[name], expanded[name], count)
        assert weight.grad is None
    for name, value in trainer.network.named_buffers():  # no drift of batch norm
        assert value.equal(state[name]), name


@pytest.mark.parametrize("filled", [True, False])
def test_cgi_is_equation_3_within_the_weight_mask(filled):
    trainer = trainer_of(SparCL(alpha=0.5, beta=2.0))
    strategy, task = trainer.sparsity, trainer.stream.tasks[0]
    if filled:
        fill_buffer(trainer)
    strategy.begin_task(task)
    strategy.begin_epoch(task, 0, trainer.probe)
    batch = next(trainer.stream.epoch(task, task.samples))
    trainer.method.loss(batch)[0].backward()
    raw = {name: p.grad.clone() for name, p in trainer.network.named_parameters()}
    scores = expected_importance(trainer, task, batches=1)
    strategy.edit_gradients(0, trainer.probe)
    for name, parameter in trainer.network.named_parameters():
        if name not in strategy.weights:
            assert parameter.grad.equal(raw[name])
            continue
        mask, weights = strategy.dgm.masks[name], strategy.tdm.masks[name]
        assert parameter.grad.equal(raw[name] * mask)
        assert is_top(mask, scores[name], weights, round(0.20 * mask.numel()))


def test_probe_leaves_training_as_it_was_and_counts_its_passes():
    trainer = trainer_of(SparCL())
    fill_buffer(trainer)
    states = {p: g.clone() for p, g in trainer.rng.state_dict().items()}
    counted = []
    trainer.probe.count = counted.append
    task = trainer.stream.tasks[0]
    trainer.network.train()
    trainer.probe.task_gradient(trainer.sparsity.weights, task, task.samples[:7], 3)
    trainer.probe.buffer_gradient(trainer.sparsity.weights, 2)
    assert counted == [7, 7, 7, 16, 16]
    changed = {p for p, g in trainer.rng.state_dict().items() if not g.equal(states[p])}
    assert changed == {"probe"}


# -- DDR -----------------------------------------------------------------------------------------------------

# Five presentations in the stage (1 = correct) of samples 10..16, with both scores by hand.
HISTORY = {10: "11111", 11: "10101", 12: "00000", 13: "01111", 14: "11011", 15: "00011", 16: "10000"}
WRONG = {10: 0, 11: 2, 12: 5, 13: 1, 14: 1, 15: 3, 16: 4}
EVENTS = {10: 0, 11: 2, 12: 50, 13: 0, 14: 1, 15: 0, 16: 1}


def observed(seed=0, **settings):
    """DDR at the end of a stage of five epochs (of 50); each of the 4 stages removes int(.6 * 7 / 4) = 1 sample."""
    ddr = DDR(SparCL(**{"removal": 0.6} | settings), 20, torch.Generator().manual_seed(seed), "cpu")
    samples = torch.tensor(list(HISTORY))
    ddr.begin_task(samples)
    for epoch in range(5):
        ddr.observe(samples, torch.tensor([h[epoch] == "1" for h in HISTORY.values()]))
    return ddr


@pytest.mark.parametrize(("difficulty", "scores"), [("misclassifications", WRONG), ("forgetting", EVENTS)])
def test_ddr_scores_by_hand(difficulty, scores):
    assert observed(difficulty=difficulty).difficulty().tolist() == list(scores.values())


def test_ddr_removes_the_easiest_and_starts_counting_anew():
    ddr = observed(difficulty="misclassifications")
    for epoch in (0, 4, 6, 25):
        ddr.begin_epoch(epoch, 50)
        assert len(ddr.active) == 7
    ddr.begin_epoch(5, 50)
    assert ddr.active.tolist() == [11, 12, 13, 14, 15, 16]
    assert ddr.difficulty().tolist() == [UNKNOWN] * 6
    ddr.observe(torch.tensor([11]), torch.tensor([False]))
    assert ddr.difficulty().tolist() == [1] + [UNKNOWN] * 5
    ddr.begin_task(torch.tensor([0, 1, 2]))
    assert ddr.active.tolist() == [0, 1, 2]


@pytest.mark.parametrize("difficulty", ["misclassifications", "forgetting"])
def test_ddr_removes_no_sample_that_the_stage_did_not_present(difficulty):
    ddr = DDR(SparCL(removal=0.6, difficulty=difficulty), 20, torch.Generator().manual_seed(0), "cpu")
    ddr.begin_task(torch.arange(10, 17))
    for _ in range(5):
        ddr.observe(torch.tensor([12, 15]), torch.tensor([False, True]))
    ddr.begin_epoch(5, 50)  # removes one: the easiest of those that are known
    assert ddr.removed[-1] == [[15]]


def test_ddr_does_not_count_a_tasks_first_answers_where_asked():
    ddr = DDR(SparCL(removal=0.6, interval=0.2, uncounted=0.1), 3, torch.Generator().manual_seed(0), "cpu")
    ddr.begin_task(torch.arange(3))
    for epoch, correct in enumerate([(False, True, True), (True, False, True), (True, True, False)]):
        ddr.begin_epoch(epoch, 10)
        if epoch < 2:
            ddr.observe(torch.arange(3), torch.tensor(correct))
    assert ddr.misclassified.tolist() == [1, 1, 0]  # the run's record has all of them
    ddr.begin_task(torch.arange(3))
    for epoch, correct in enumerate([(False, True, True), (True, False, True)]):
        ddr.begin_epoch(epoch, 10)
        ddr.observe(torch.arange(3), torch.tensor(correct))
    assert ddr.difficulty().tolist() == [0, 1, 0]


def test_ddr_ties_go_by_position_or_at_random():
    tied = {"difficulty": "forgetting", "removal": 0.6}
    removed = {seed: set(HISTORY) - set(_after_removal(seed, ties="index", **tied)) for seed in range(30)}
    assert set(map(frozenset, removed.values())) == {frozenset({10})}
    removed = {seed: set(HISTORY) - set(_after_removal(seed, ties="random", **tied)) for seed in range(30)}
    assert set(map(frozenset, removed.values())) == {frozenset({i}) for i in (10, 13, 15)}  # all with score 0


def _after_removal(seed, **settings):
    ddr = observed(seed, **settings)
    ddr.begin_epoch(5, 50)
    return ddr.active.tolist()


def test_ddr_counts_all_class_errors_of_the_steps():
    trainer = trainer_of(SparCL(), masked_ce=True)
    task = trainer.stream.tasks[0]
    trainer.sparsity.begin_task(task)
    trainer.sparsity.begin_epoch(task, 0, trainer.probe)
    other = next(c for c in range(10) if c not in task.classes)
    logits = torch.zeros(2, 10)
    logits[0, task.classes[0]], logits[1, other] = 1, 1
    labels = task.classes[:1].repeat(2)
    trainer.sparsity.observe(Batch(None, None, labels, task.samples[:2], task), logits)
    assert trainer.sparsity.ddr.wrong[task.samples[:2]].tolist() == [0, 1]


# -- DGM and the parts switched off --------------------------------------------------------------------------


def test_dgm_is_due_every_interval_and_at_each_epoch_start():
    dgm = DGM(SparCL(), {})
    assert [step for step in range(100) if dgm.due(step)] == [0, 30, 60, 90]


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_during_training_masks_hold_and_refresh_on_time(variant, monkeypatch):
    trainer = trainer_of(SparCL(variant=variant, gradient_interval=2), epochs=4, tasks=2)
    refreshed, step, original = [], [], DGM.refresh
    edit = trainer.sparsity.edit_gradients

    def watched_edit(number, probe):
        step.append(number)
        needed = edit(number, probe)
        for name, weight in trainer.sparsity.weights.items():
            assert not (trainer.sparsity.dgm.masks[name] & ~trainer.sparsity.tdm.masks[name]).any()
            assert not weight.grad[~trainer.sparsity.dgm.masks[name]].any()
        return needed

    def watched_refresh(self, *arguments):
        refreshed.append(step[-1])
        return original(self, *arguments)

    monkeypatch.setattr(DGM, "refresh", watched_refresh)
    trainer.sparsity.edit_gradients = watched_edit
    zeros = []
    trainer.on_epoch = lambda t: zeros.extend(w[~t.sparsity.tdm.masks[n]].any() for n, w in t.sparsity.weights.items())
    trainer.run()
    assert refreshed == [s for s in step if s % 2 == 0]
    assert step.count(0) == 8
    assert refreshed.count(0) == 8
    assert len(zeros) == 8 * 6
    assert not any(zeros)


@pytest.mark.parametrize(
    ("off", "weights", "gradients", "samples"),
    [("tdm", 1.0, 0.8, 28), ("dgm", 0.25, 0.25, 28), ("ddr", 0.25, 0.2, 40)],
)
def test_each_part_can_be_switched_off(off, weights, gradients, samples):
    trainer = trainer_of(SparCL(**{off: False}), epochs=5, tasks=5)
    trainer.phases = trainer.phases[:1]
    trainer.evaluate = lambda seen: None
    trainer.run()
    last = trainer.trace[-1]
    assert last["weight_density"] == pytest.approx(weights, abs=0.002)
    assert last["gradient_density"] == pytest.approx(gradients, abs=0.002)
    assert last["samples"] == samples
    zeros = {name: density(w == 0) for name, w in trainer.sparsity.weights.items()}
    assert all(value == pytest.approx(0, abs=0.001) for value in zeros.values()) == (off == "tdm")


def test_a_run_reports_the_survival_of_its_masks_and_the_fate_of_its_samples():
    trainer = trainer_of(SparCL(sparsity=0.5, p_intra=0.1), method="der++", tasks=2)
    observed = torch.zeros(len(trainer.stream.train.labels), dtype=torch.long)
    original, masks = trainer.sparsity.observe, [dict(trainer.sparsity.tdm.masks)]

    def observe(batch, logits):
        observed.index_add_(0, batch.samples, (logits.argmax(1) != batch.labels).long())
        original(batch, logits)

    trainer.sparsity.observe = observe
    trainer.on_epoch = lambda t: masks.append(dict(t.sparsity.tdm.masks)) if t.position[1] == 10 else None
    trainer.run()
    report = trainer.sparsity.report()
    assert report["misclassified"] == observed.tolist()
    assert set(report["weight_survival"]) == set(report["gradient_survival"]) == set(trainer.sparsity.weights)
    for name, survival in report["weight_survival"].items():
        first, last = masks[0][name], masks[2][name]
        assert [row[i] for i, row in enumerate(survival)] == [1, 1, 1]
        assert survival[0][2] == round(int((first & last).sum()) / int(first.sum()), 4) < 1
    for task, stages in zip(trainer.stream.tasks, report["removed"], strict=True):
        gone = [sample for stage in stages for sample in stage]
        assert [len(stage) for stage in stages] == [7] * 4  # 0.3 x 100 samples in 4 stages
        assert len(set(gone)) == 28
        assert set(gone) <= set(task.samples.tolist())


def test_a_dense_run_has_nothing_to_report():
    assert trainer_of(None, method="sgd").sparsity.report() == {}
    report = trainer_of(SparCL(tdm=False, ddr=False)).sparsity.report()
    assert report == {"gradient_survival": {}}
