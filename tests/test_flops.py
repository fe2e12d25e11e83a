"""FLOPs: every published value, the honest plan against real runs, and ledgers by hand."""

import copy
import os
from dataclasses import replace
from typing import Literal

import pytest
import torch

import sparcl_lite as sl
from sparcl_lite import kept, planning
from sparcl_lite.config import RunConfig
from sparcl_lite.data.sources import load
from sparcl_lite.data.streams import TaskStream
from sparcl_lite.losses import cross_entropy
from sparcl_lite.measure.flops import (
    LayerCost,
    Ledger,
    PassCounter,
    costs_of,
    density_factor,
    macs,
    paper_flops,
)
from sparcl_lite.methods.base import Passes
from sparcl_lite.models import build
from sparcl_lite.planning import planned, training_memory
from sparcl_lite.registry import DATASETS, METHODS, STRATEGIES
from sparcl_lite.sparsity import RigL, SparCL, StaticMask
from sparcl_lite.threads import using_threads
from sparcl_lite.training import Trainer

DIGITS = load("digits")


def paper(method, dataset="cifar10", **settings):
    return RunConfig(profile="paper", method=method, dataset=dataset, **settings)


@pytest.mark.parametrize(
    ("method", "cifar", "tiny"),
    [("sgd", 8.3, 13.3), ("ewc", 8.3, 13.3), ("lwf", 8.3, 13.3), ("packnet", 5.0, 7.3), ("lps", 5.0, 7.3)]
    + [(name, 11.1, 17.8) for name in ("agem", "icarl", "er", "der")]
    + [(name, 13.9, 22.2) for name in ("fdr", "der++")],
)
def test_dense_values_as_published(method, cifar, tiny):
    assert round(paper_flops(paper(method)) / 1e15, 1) == cifar
    assert round(paper_flops(paper(method, "tiny-imagenet")) / 1e16, 1) == tiny


@pytest.mark.parametrize(
    ("method", "dataset", "unit", "published"),
    [
        ("er", "cifar10", 1e15, (2.0, 0.9, 0.5)),
        ("der++", "cifar10", 1e15, (2.5, 1.1, 0.6)),
        ("er", "tiny-imagenet", 1e16, (3.2, 1.4, 0.8)),
        ("der++", "tiny-imagenet", 1e16, (4.0, 1.8, 1.0)),
    ],
)
@pytest.mark.parametrize("variant", ["paper", "official"])
def test_all_twelve_sparcl_values_as_published(method, dataset, unit, published, variant):
    sparse = [SparCL(sparsity=s, variant=variant) for s in (0.75, 0.9, 0.95)]
    found = [paper_flops(paper(method, dataset, sparse=s)) / unit for s in sparse]
    assert [round(value, 1) for value in found] == list(published)


@pytest.mark.parametrize(("sparsity", "cifar", "tiny"), [(0.90, 1.6, 2.5), (0.95, 0.9, 1.4)])
@pytest.mark.parametrize("sparse", [StaticMask(kind="snip"), RigL()], ids=["snip", "rigl"])
def test_values_of_the_sparse_rivals_as_published(sparse, sparsity, cifar, tiny):
    sparse = sparse.model_copy(update={"sparsity": sparsity})
    assert round(paper_flops(paper("der++", sparse=sparse)) / 1e15, 1) == cifar
    assert round(paper_flops(paper("der++", "tiny-imagenet", sparse=sparse)) / 1e16, 1) == tiny


def test_sparcl_value_to_four_digits_and_ablation():
    def total(**parts):
        return paper_flops(paper("der++", buffer_size=500, sparse=SparCL(sparsity=0.75, **parts))) / 1e15

    assert total() == pytest.approx(2.527, rel=1e-2)
    assert round(total(), 3) == 2.527
    assert round(total(ddr=False, dgm=False), 1) == 3.6
    assert round(total(dgm=False), 1) == 2.8
    assert round(total(ddr=False), 1) == 3.3
    assert round(total(), 1) == 2.5


def test_prunable_share_of_the_networks():
    costs = costs_of(paper("er"))
    assert macs(tuple(c for c in costs if c.prunable)) == 547_356_672
    assert [round(density_factor(costs, 1 - s), 4) for s in (0.75, 0.9, 0.95)] == [0.2609, 0.1131, 0.0638]


@pytest.mark.parametrize(("method", "honest"), [("er", 15.0), ("der++", 21.7)])
def test_honest_dense_counts_with_replay_from_the_second_task(method, honest):
    total = planned(paper(method, replay_from_task=1)).ledger.total
    assert total / 1e15 == pytest.approx(honest, rel=5e-3)
    assert planned(paper(method)).ledger.total > 1.1 * total


# Stem, one prunable layer, head; costs chosen so that every part is a different number.
COSTS = (
    LayerCost("stem", macs=10, outputs=5, parameters=7, prunable=False, needs_input_gradient=False),
    LayerCost("block", macs=100, outputs=3, parameters=50, prunable=True),
    LayerCost("head", macs=1, outputs=2, parameters=4, prunable=False),
)


def test_ledger_by_hand():
    ledger = Ledger(COSTS)
    ledger.add_training(3, {"block": 0.5}, {"block": 0.25})
    assert ledger.forward == 2 * 3 * (10 + 50 + 1)
    assert ledger.input_gradient == 2 * 3 * (50 + 1)  # none at the stem
    assert ledger.weight_gradient == 2 * 3 * (10 + 25 + 1)
    ledger.add_importance(2, {"block": 0.5})
    # forward of all, input gradients of what follows the first prunable layer, weight gradients of the prunable
    assert ledger.importance == 2 * 2 * ((10 + 50 + 1) + 1 + 50)
    assert set(ledger.by_part()) == {"forward", "input_gradient", "weight_gradient", "importance", "auxiliary"}
    assert ledger.total == sum(ledger.by_part().values()) == 366 + 306 + 216 + 448
    assert macs(COSTS) == 111
    assert density_factor(COSTS, 0.1) == pytest.approx(21 / 111)


def test_ledger_of_frozen_layers_by_hand():
    frozen = tuple(replace(c, trains=False, needs_input_gradient=False) for c in COSTS[:2])
    head = replace(COSTS[2], needs_input_gradient=False)  # what it reads is constant
    ledger = Ledger((*frozen, head))
    ledger.add_training(5, {}, {}, skipped=2)
    assert ledger.forward == 2 * (3 * (10 + 100 + 1) + 2 * 1)
    assert ledger.input_gradient == 0
    assert ledger.weight_gradient == 2 * 5 * 1
    ledger.add_auxiliary(Passes(forward=3), {})
    assert ledger.auxiliary == 2 * 3 * 111


def test_pass_counter_knows_passes_that_begin_above_the_frozen_blocks():
    network = build("small", width=8, channels=1, classes=10, seed=0).train()
    network.freeze(("stem", "layer1.0"))
    counter, x = PassCounter(network), torch.zeros(3, 1, 8, 8)
    maps = network.trunk(x)
    with torch.no_grad():
        network.patterns(maps)
    assert counter.take() == Passes(forward=3)  # both parts, once
    network.patterns(maps)
    network(x)
    assert counter.take() == Passes(training=6, skipped=3)


def test_pass_counter_tells_training_from_forward_passes_and_follows_copies():
    network = build("small", width=8, channels=1, classes=10, seed=0)
    counter, x = PassCounter(network), torch.zeros(3, 1, 8, 8)
    network.train()(x)
    network(x[:2])
    with torch.no_grad():
        network.features(x)
        copy.deepcopy(network).eval()(x[:1])
    assert counter.take() == Passes(training=5, forward=4)
    assert counter.take() == Passes()


SPARSE = {
    "dense": None,
    "paper": SparCL(sparsity=0.75, gradient_interval=3),
    "official": SparCL(variant="official", sparsity=0.75, gradient_interval=3),
    "snip": StaticMask(kind="snip", sparsity=0.75),
    "rigl": RigL(sparsity=0.75, interval=3),
}


@pytest.mark.parametrize(
    ("method", "sparse"),
    [(m, s) for m in METHODS for s in SPARSE if s in ("dense", "paper") and not METHODS[m].no_sparsity]
    + [(m, "dense") for m in METHODS if METHODS[m].no_sparsity]
    + [(m, s) for m in ("sgd", "er", "der++") for s in ("official", "snip", "rigl")],
)
def test_plan_equals_the_ledger_of_a_real_run(method, sparse):
    small = {"images_per_class": 25, "epochs": 4, "buffer_size": 60, "tasks": 2}
    config = RunConfig(profile="smoke", method=method, sparse=SPARSE[sparse], **small)
    trainer = Trainer(config, DIGITS)
    trainer.evaluate = lambda seen: None
    trainer.run()
    plan, counted = planned(config).ledger.by_part(), trainer.ledger.by_part()
    assert sum(counted.values()) == trainer.ledger.total > 0
    if sparse == "official":  # weights and gradients that are zero drop out (many on digits' 1x1 maps): fewer, if any
        assert 0.95 * sum(plan.values()) < trainer.ledger.total < 1.005 * sum(plan.values())
    else:
        assert counted == pytest.approx(plan, rel=1e-12 if sparse == "dense" else 1e-2)
    assert trainer.totals["steps"] == planned(config).steps
    assert (counted["importance"] > 0) == (sparse in ("paper", "snip"))
    assert (counted["auxiliary"] > 0) == (method in ("ewc", "lwf", "icarl", "fdr", "lightcl"))


FROZEN = {
    "freeze-only": {"method": "sgd", "freeze": "layer2", "freeze_first_task": True},
    "er": {"method": "er", "freeze": "layer1", "buffer_size": 15},
    "official": {"method": "lightcl", "lightcl": {"variant": "official"}},
    "old": {"method": "lightcl", "lightcl": {"reference": "old", "channels": "random"}},
    "unfrozen": {"method": "lightcl", "freeze": "none"},
    "pruned": {"method": "lightcl", "width": 16, "lightcl": {"prune": (0.2, 0.5, 0.8)}},
    "pretrained": {
        "method": "lightcl",
        "width": 16,
        "pretraining": "disjoint",
        "pretraining_epochs": 1,
        "lightcl": {"variant": "official", "prune": (0.2, 0.5, 0.8)},
    },
}


@pytest.mark.parametrize("case", FROZEN)
def test_plan_equals_the_ledger_with_frozen_and_pruned_layers(case):
    config = RunConfig(profile="smoke", images_per_class=25, epochs=2, **FROZEN[case])
    trainer = Trainer(config, DIGITS)
    trainer.evaluate = lambda seen: None
    trainer.run()
    counted = trainer.ledger.by_part()
    assert counted == pytest.approx(planned(config).ledger.by_part(), rel=1e-12)
    assert trainer.totals["steps"] == planned(config).steps
    backward = counted["input_gradient"] + counted["weight_gradient"]
    assert (backward < 1.9 * counted["forward"]) == (case != "unfrozen")


@pytest.mark.parametrize(("dataset", "unit", "published"), [("cifar10", 1e15, 5.4), ("tiny-imagenet", 1e16, 8.6)])
def test_lightcl_costs_what_its_table_says(dataset, unit, published):
    """The table's training set is 90 % of ours."""
    found = 0.9 * paper_flops(paper("lightcl", dataset)) / unit
    assert found == pytest.approx(published, rel=0.02)
    assert paper_flops(paper("sgd", freeze="layer3")) < paper_flops(paper("sgd")) / 2


def test_training_memory_by_hand():
    sparse = SparCL(sparsity=0.75)
    config = RunConfig(profile="smoke", method="der++", sparse=sparse, buffer_size=30)
    # small network, width 8: 3x3 convolutions in three blocks; 8x8 images make maps of 4x4, 2x2 and 1x1
    prunable = 9 * (8 * 8 + 8 * 8 + 8 * 16 + 16 * 16 + 16 * 32 + 32 * 32)
    dense = 9 * 8 + 8 * 16 + 16 * 32 + (32 * 10 + 10)  # stem, two shortcuts, head
    maps = 3 * 8 * 16 + 3 * 16 * 4 + 3 * 32 * 1 + 10  # stem and block 1; blocks 2 and 3 with shortcuts; head
    assert training_memory(config) == {
        "weights": round(4 * (dense + 0.25 * prunable)),
        "gradients": round(4 * (dense + 0.2 * prunable)),
        "activations": 4 * (16 + 2 * 16) * maps,
        "buffer": 30 * (64 + 8 + 40),
    }
    plain = training_memory(RunConfig(profile="smoke", method="sgd"))
    assert plain["weights"] == plain["gradients"] == 4 * (dense + prunable)
    assert plain["activations"] == 4 * 16 * maps
    assert plain["buffer"] == 0
    frozen = training_memory(RunConfig(profile="smoke", method="sgd", freeze="layer2"))
    last = 9 * (16 * 32 + 32 * 32) + 16 * 32 + (32 * 10 + 10)
    assert (frozen["weights"], frozen["gradients"]) == (plain["weights"], 4 * last)
    assert frozen["activations"] == 4 * 16 * (3 * 32 + 10)
    pattern = training_memory(RunConfig(profile="smoke", method="lightcl"))
    assert pattern["activations"] == 4 * (16 + 15) * (3 * 32 + 10)


@pytest.fixture
def unequal():
    """A data set of a user's own whose classes have 12, 18, 24 and 30 images."""
    labels = torch.arange(4).repeat_interleave(torch.tensor([12, 18, 24, 30]))
    images = torch.randint(256, (len(labels), 1, 8, 12), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    sl.register.dataset("unequal", train=(images, labels), test=(images, labels))
    yield load("unequal")
    DATASETS.forget("unequal")


SETTINGS = {"profile": "smoke", "epochs": 3, "tasks": 2, "batch_size": 8, "replay_batch_size": 8, "buffer_size": 20}


@pytest.mark.parametrize("method", ["sgd", "ewc", "lwf", "icarl", "fdr", "agem", "der++", "packnet", "pnn", "lightcl"])
def test_plan_of_unequal_classes_and_images_that_are_not_square(method, unequal):
    config = RunConfig(dataset="unequal", method=method, **SETTINGS)
    trainer = Trainer(config, unequal)
    trainer.run()
    assert planned(config).ledger.by_part() == pytest.approx(trainer.ledger.by_part(), rel=1e-12)
    assert planned(config).steps == trainer.totals["steps"]


class Halving(sl.Sparse):
    kind: Literal["halving"] = "halving"


def test_plan_of_a_method_and_a_strategy_of_ones_own(request):
    """Neither says anything of its cost, but which steps of an epoch differ."""

    @sl.register.method("twice")
    class Twice(sl.Method):
        """Passes every batch twice, and once more without a graph from the second epoch on."""

        teaches = False

        def begin_epoch(self, task, epoch):
            self.teaches = epoch > 0

        def loss(self, batch):
            first, second = self.network(batch.inputs), self.network(batch.inputs)
            if self.teaches:
                with torch.no_grad():
                    self.network(batch.inputs)
            return cross_entropy(first, batch.labels) + cross_entropy(second, batch.labels), first

    @sl.register.strategy("halving", config=Halving)
    class HalvingStrategy(sl.Strategy):
        """Leaves out half of a task's data in every second epoch, and all gradients in every third step."""

        def begin_epoch(self, task, epoch, probe):
            return task.samples[: len(task.samples) // (1 + epoch % 2)]

        def kind(self, step):
            return step % 3 == 0

        def edit_gradients(self, step, probe):
            return dict.fromkeys(self.weights, float(step % 3 > 0))

    request.addfinalizer(lambda: (METHODS.forget("twice"), STRATEGIES.forget("halving")))
    config = RunConfig(profile="smoke", method="twice", sparse=Halving(), images_per_class=25, epochs=4)
    trainer = Trainer(config, DIGITS)
    trainer.evaluate = lambda seen: None
    trainer.run()
    assert planned(config).ledger.by_part() == pytest.approx(trainer.ledger.by_part(), rel=1e-12)
    assert planned(config).steps == trainer.totals["steps"]


@pytest.mark.parametrize("method", ["der++", "ewc", "lwf"])
@pytest.mark.parametrize("sparse", [None, SparCL(sparsity=0.95), RigL(sparsity=0.9)], ids=["dense", "sparcl", "rigl"])
def test_a_plan_at_the_papers_size_executes_few_steps(method, sparse, monkeypatch):
    executed, batch = [], TaskStream.batch
    monkeypatch.setattr(TaskStream, "batch", lambda *arguments: executed.append(0) or batch(*arguments))
    plan = planned(paper(method, sparse=sparse, buffer_size=200, lr=0.0301))  # a plan of its own: nobody made it yet
    fewer = 0.775 if sparse and sparse.kind == "sparcl" else 1
    assert plan.steps == pytest.approx(5 * 50 * 313 * fewer, rel=0.002)
    assert len(executed) < 500


def test_a_plan_is_kept_beside_the_data_until_the_code_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARCL_LITE_DATA", str(tmp_path))
    config = sl.RunConfig(profile="smoke", method="der++", sparse=SparCL(sparsity=0.9), lr=0.0302)
    first = planned(config)
    (plan,) = (tmp_path / "kept").rglob("*.json")
    planning._planned.cache_clear()
    monkeypatch.setattr(planning, "_made", None)  # nothing is planned again
    assert planned(config) == first
    monkeypatch.undo()
    monkeypatch.setenv("SPARCL_LITE_DATA", str(tmp_path))
    for damaged in ("", "{}", "no plan"):
        planning._planned.cache_clear()
        plan.write_text(damaged)
        assert planned(config) == first
        assert plan.read_text() not in ("", "{}", "no plan")
    used = plan.parent.name

    def kept_for(code):
        planning._planned.cache_clear()
        monkeypatch.setattr(kept, "_code", lambda: code)
        assert planned(config) == first
        return {path.parent.name for path in (tmp_path / "kept").rglob("*.json")}

    assert kept_for("changed") == {used, "changed"}  # as another checkout that shares the folder
    os.utime(plan.parent, (0, 0))
    assert kept_for("again") == {"changed", "again"}


def test_a_plan_needs_no_folder_to_be_kept_in(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPARCL_LITE_DATA", str(tmp_path / "file"))
    assert planned(paper("er", lr=0.0303)).steps > 0


def test_planning_takes_one_thread_and_leaves_the_others_as_they_were(monkeypatch):
    seen, train_epoch = set(), planning._DryTrainer.train_epoch

    def noting(*given):
        seen.add(torch.get_num_threads())
        return train_epoch(*given)

    monkeypatch.setattr(planning._DryTrainer, "train_epoch", noting)
    with using_threads(2):
        planning._made(RunConfig(profile="smoke", method="er"))
        assert torch.get_num_threads() == 2
    assert seen == {1}
