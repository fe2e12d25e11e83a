"""Progressive networks: old columns never change, new ones learn through their laterals too."""

import copy

import pytest
import torch

from sparcl_lite.config import RunConfig
from sparcl_lite.data.sources import load
from sparcl_lite.measure.flops import costs_of, macs
from sparcl_lite.models import build
from sparcl_lite.models.progressive import Adapter, Progressive
from sparcl_lite.training import Trainer

DIGITS = load("digits")


def network(columns=3):
    shape = {"width": 8, "channels": 1, "classes": 10}
    return Progressive([build("small", seed=4 + k, **shape) for k in range(columns)], seed=4).train()


def images(count=6):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_the_first_column_is_the_plain_network():
    model = network()
    plain = build("small", width=8, channels=1, classes=10, seed=4).train()
    torch.testing.assert_close(model(images()), plain(images()))


def test_adapter_by_hand():
    adapter = Adapter(channels=2, columns=2)
    with torch.no_grad():
        adapter.scales.copy_(torch.tensor([2.0, -1.0]))
        adapter.narrow.weight.copy_(torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 1]])[:, :, None, None])
        adapter.narrow.bias.copy_(torch.tensor([0.0, 1.0]))
        adapter.project.weight.copy_(torch.tensor([[1.0, 1.0], [0.0, 3.0]])[:, :, None, None])
    first, second = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1), torch.tensor([5.0, 1.0]).view(1, 2, 1, 1)
    # V: (2 - 5, 4 - 1 + 1) = (-3, 4), rectified (0, 4); U: (4, 12)
    assert adapter([first, second]).flatten().tolist() == [4.0, 12.0]


def test_a_later_column_adds_laterals_at_every_level_by_hand():
    model, x = network(columns=2), images()
    model.use(1)
    model.eval()
    first, second = model.columns
    one, two = torch.relu(first.bn1(first.conv1(x))), torch.relu(second.bn1(second.conv1(x)))
    for level in range(4):
        two = two + model.adapters[0][level]([one])
        if level < 3:
            name = f"layer{level + 1}"
            one, two = first.get_submodule(name)(one), second.get_submodule(name)(two)
    torch.testing.assert_close(model(x), second.linear(two.mean((2, 3))))


def test_only_the_column_in_use_and_its_laterals_learn():
    model = network()
    model(images()).square().sum().backward()  # gradients of the first task
    model.use(2)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.zero_grad(set_to_none=True)
    model(images()).square().sum().backward()
    optimizer.step()
    for name, value in model.state_dict().items():
        own = name.startswith(("columns.2.", "adapters.1."))
        if not own:
            assert value.equal(before[name]), name
    for name, parameter in model.named_parameters():
        own = name.startswith(("columns.2.", "adapters.1."))
        assert (parameter.grad is not None) == own, name
        if own and name.startswith("adapters") and name.endswith("weight"):
            assert parameter.grad.abs().max() > 0, name
    assert not model.adapters[1][0].project.weight.equal(before["adapters.1.0.project.weight"])


def test_nothing_is_forgotten_in_a_run():
    config = RunConfig(profile="smoke", method="pnn", images_per_class=40, epochs=5)
    trainer = Trainer(config, DIGITS)
    trainer.run()
    for task in range(5):
        column = trainer.task_il[task:, task]
        assert (column == column[0]).all()
    assert trainer.task_il[4].mean() > 85
    assert trainer.method.task_aware


@pytest.mark.parametrize("task", [0, 1, 3])
def test_costs_of_a_task_are_all_columns_forward_and_one_backward(task):
    config = RunConfig(profile="smoke", method="pnn")
    costs, base = costs_of(config, task), costs_of(RunConfig(profile="smoke", method="sgd"))
    columns = tuple(c for c in costs if c.name.startswith("columns"))
    assert macs(columns) == (task + 1) * macs(base) - task * base[-1].macs  # the heads of earlier columns do not run
    own = tuple(c for c in columns if c.trains)
    assert macs(own) == macs(base)
    laterals = tuple(c for c in costs if c.name.startswith(f"adapters.{task - 1}."))
    assert bool(laterals) == (task > 0)
    assert all(c.trains for c in laterals)
    assert all(c.needs_input_gradient for c in laterals)  # for the scalars before them
