"""Runs on a second device: no tensor of a method, a strategy or the loop is left on the CPU, and states move over."""

import copy

import pytest
import torch
from second_device import SECOND, Elsewhere, second_device
from torch.utils._pytree import tree_iter, tree_map_only

from sparcl_lite.config import RunConfig
from sparcl_lite.data.sources import load
from sparcl_lite.registry import METHODS
from sparcl_lite.sparsity import RigL, SparCL, StaticMask
from sparcl_lite.training import Trainer

pytestmark = pytest.mark.slow

DIGITS = load("digits")
TINY = {"profile": "smoke", "images_per_class": 5, "epochs": 2, "tasks": 2, "buffer_size": 20, "width": 8}
CASES = {name: {"method": name} for name in METHODS} | {
    "sparcl": {"sparse": SparCL(gradient_interval=2, p_inter=0.1), "epochs": 5},
    "official": {"sparse": SparCL(variant="official", gradient_interval=2), "epochs": 5},
    "rigl": {"sparse": RigL(interval=2)},
    "snip": {"sparse": StaticMask(kind="snip", scope="network"), "method": "fdr"},
    "random": {"sparse": StaticMask(kind="random"), "method": "agem"},
    "lightcl": {"method": "lightcl", "lightcl": {"reference": "old", "channels": "random"}, "freeze": "layer1"},
    "pruned": {"method": "lightcl", "width": 16, "lightcl": {"prune": (0.2, 0.5, 0.5)}},
    "pretrained": {"method": "er", "pretraining": "disjoint", "pretraining_epochs": 1},
}


def trainer_of(case, device, **more):
    return Trainer(RunConfig(**TINY | CASES[case]), DIGITS, device=device, **more)


def moved(state, device):
    """As `torch.load(map_location=device)` gives it."""
    return tree_map_only(torch.Tensor, lambda tensor: tensor.to(device), state)


@pytest.mark.parametrize("case", CASES)
def test_a_run_starts_on_one_device_and_ends_on_the_other(case):
    states = {}

    def keep(trainer):
        states[trainer.position] = copy.deepcopy(moved(trainer.state_dict(), "cpu"))

    with second_device():
        whole = trainer_of(case, SECOND, on_epoch=keep)
        whole.run()
        assert all(isinstance(p, Elsewhere) for p in whole.network.parameters())
        state = states[(len(whole.phases) - 1, 1)]
        there = trainer_of(case, SECOND, from_state=True)
        there.load_state_dict(moved(state, SECOND))
        there.run()
    here = trainer_of(case, "cpu", from_state=True)
    here.load_state_dict(state)
    here.run()
    assert all(not isinstance(t, Elsewhere) for t in tree_iter(here.state_dict()))
    for trainer in (here, there):
        assert trainer.task_il[-1].tolist() == pytest.approx(whole.task_il[-1].tolist(), abs=10)


def test_the_second_device_tells_a_tensor_of_the_cpu():
    with second_device():
        there = torch.ones(3, device=SECOND)
        assert (there + 1).tolist() == [2, 2, 2]
        assert there[torch.tensor([0, 2])].tolist() == [1, 1]
        for mixed in (lambda: there + torch.ones(3), lambda: torch.cat([there, torch.ones(1)]), lambda: _put(there)):
            with pytest.raises(RuntimeError, match="a tensor of the CPU"):
                mixed()


def _put(tensor):
    tensor[torch.tensor([0, 1])] = torch.zeros(2)
