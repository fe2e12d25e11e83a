"""Whole smoke runs: golden values, the same bits again, and resuming at every epoch end."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sparcl_lite.config import RunConfig
from sparcl_lite.data.sources import load
from sparcl_lite.measure.metrics import final_average
from sparcl_lite.registry import METHODS
from sparcl_lite.runs.result import environment
from sparcl_lite.sparsity import RigL, SparCL, StaticMask
from sparcl_lite.training import Trainer

DIGITS = load("digits")
GOLDEN = Path(__file__).parent / "golden" / "smoke.json"
RUNS = {
    "sgd": {"method": "sgd"},
    "er": {"method": "er"},
    "der++": {"method": "der++"},
    "sparcl-der++": {"method": "der++", "sparse": SparCL()},
}


def trained(**settings):
    trainer = Trainer(RunConfig(profile="smoke", **settings), DIGITS)
    trainer.run()
    return trainer


def results(trainer):
    """Everything a run reports but the seconds."""
    return {
        "class_il": trainer.class_il.tolist(),
        "task_il": trainer.task_il.tolist(),
        "ledger": trainer.ledger.by_part(),
        "totals": trainer.totals,
        "trace": trainer.trace,
        "sparse": trainer.sparsity.report(),
        "method": trainer.method.report(),
        "pretraining": trainer.pretraining,
        "buffer": trainer.buffer.contents().labels.tolist() if trainer.buffer else None,
    }


def assert_same_bits(one, other):
    np.testing.assert_equal(results(one), results(other))
    for name, value in one.network.state_dict().items():
        assert value.equal(other.network.state_dict()[name]), name


def accuracies(trainer):
    values = {"class_il": trainer.class_il, "task_il": trainer.task_il}
    return {name: round(final_average(matrix), 5) for name, matrix in values.items()}


@pytest.fixture(scope="module")
def runs():
    """Each golden run, trained once for all tests of this file."""
    return {name: trained(**settings) for name, settings in RUNS.items()}


def arithmetic():
    """Fingerprint of how PyTorch rounds here, from steps of a plain network: names of processors do not decide it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1)]
        network = nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(64, 10)).to(
            memory_format=torch.channels_last
        )
        images, labels = torch.rand(32, 1, 8, 8), torch.arange(32) % 10
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
    values = torch.cat([p.detach().flatten() for p in network.parameters()])
    return hashlib.sha256(values.numpy().tobytes()).hexdigest()


def test_golden_values(runs, request):
    """To 5 decimals where arithmetic is that of the file's maker; `pytest --force-regen` renews it."""
    here = {"torch": torch.__version__, "arithmetic": arithmetic()}
    found = {name: accuracies(trainer) for name, trainer in runs.items()}
    if request.config.getoption("force_regen"):
        GOLDEN.parent.mkdir(exist_ok=True)
        made_by = here | {"processor": environment(1, "cpu")["processor"]}  # for a reader; arithmetic decides
        GOLDEN.write_text(json.dumps({"made_by": made_by, "runs": found}, indent=2) + "\n", encoding="utf-8")
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    same = here.items() <= golden["made_by"].items()
    tolerance = 1e-5 if same else 15  # other kernels round otherwise, and training amplifies it
    assert found.keys() == golden["runs"].keys()
    for name, values in golden["runs"].items():
        assert found[name] == pytest.approx(values, abs=tolerance), name


def test_joint_beats_replay_beats_finetuning(runs):
    joint = trained(method="joint")
    sgd, er = (accuracies(runs[name])["class_il"] for name in ("sgd", "er"))
    assert sgd == pytest.approx(20, abs=3)  # it knows the last of five tasks only
    assert accuracies(joint)["class_il"] > er + 5 > sgd + 15
    assert np.isnan(joint.class_il[:-1]).all()
    assert not np.isnan(joint.class_il[-1]).any()
    for trainer in runs.values():
        assert (trainer.task_il >= trainer.class_il)[np.tri(5, dtype=bool)].all()
        assert np.isnan(trainer.class_il).tolist() == (~np.tri(5, dtype=bool)).tolist()


def test_same_seed_same_bits_other_seed_others(runs):
    torch.manual_seed(99)  # the global generator must not matter
    assert_same_bits(runs["sparcl-der++"], trained(**RUNS["sparcl-der++"]))
    other = trained(**RUNS["sparcl-der++"], seed=1)
    assert not other.network.linear.weight.equal(runs["sparcl-der++"].network.linear.weight)
    assert results(other)["buffer"] != results(runs["sparcl-der++"])["buffer"]


def saved(trainer):
    buffer = io.BytesIO()
    torch.save(trainer.state_dict(), buffer)
    return buffer.getvalue()


RESUMED = {
    "official": {"sparse": SparCL(variant="official", gradient_interval=2)},
    "paper": {"sparse": SparCL(gradient_interval=2)},
    "rigl": {"sparse": RigL(interval=3)},
    "snip": {"sparse": StaticMask(kind="snip")},
    "frozen": {"method": "er", "freeze": "layer1"},
    "old": {"method": "lightcl", "lightcl": {"variant": "official", "reference": "old", "channels": "random"}},
    "pretrained": {"method": "lightcl", "pretraining": "disjoint", "pretraining_epochs": 1, "freeze": "layer1"},
    "pruned": {"method": "lightcl", "width": 16, "lightcl": {"variant": "official", "prune": (0.2, 0.5, 0.8)}},
} | {m: {"method": m} for m in METHODS if m not in ("sgd", "joint", "er", "der", "der++")}


@pytest.mark.parametrize("case", RESUMED)
def test_resume_at_epoch_ends_continues_bit_for_bit(case):
    given = {"method": "der++", "tasks": 2, "images_per_class": 20, "buffer_size": 60, "epochs": 4}
    config = RunConfig(profile="smoke", **given | RESUMED[case])
    states = {}
    whole = Trainer(config, DIGITS, on_epoch=lambda t: states.update({t.position: saved(t)}))
    whole.run()
    assert len(states) == 8
    many = case in ("official", "paper")
    for position in [(0, 1), (0, 3), (0, 4), (1, 2), (1, 4)] if many else [(0, 3), (1, 1), (1, 3)]:
        torch.manual_seed(sum(position))
        resumed = Trainer(config, DIGITS, from_state=True)
        resumed.load_state_dict(torch.load(io.BytesIO(states[position]), weights_only=False))
        assert resumed.position == position
        resumed.run()
        assert_same_bits(whole, resumed)
        assert resumed.seconds["train"] > 0


def test_without_its_generators_a_resumed_run_differs():
    config = RunConfig(profile="smoke", method="er", tasks=2, images_per_class=20, epochs=2)
    states = []
    whole = Trainer(config, DIGITS, on_epoch=lambda t: states.append(saved(t)))
    whole.run()
    state = torch.load(io.BytesIO(states[0]), weights_only=False)
    resumed = Trainer(config, DIGITS)
    resumed.load_state_dict(state | {"rng": Trainer(config, DIGITS).rng.state_dict()})
    resumed.run()
    assert not resumed.network.linear.weight.equal(whole.network.linear.weight)


def test_callbacks_see_every_epoch_and_step():
    config, epochs, steps = RunConfig(profile="smoke", method="sgd", tasks=2, epochs=2), [], []
    Trainer(config, DIGITS, on_epoch=lambda t: epochs.append(t.position), on_step=lambda: steps.append(1)).run()
    assert epochs == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert len(steps) == 2 * 2 * 13  # 200 samples a task in batches of 16, the last one of 8
