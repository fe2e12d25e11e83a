"""ER-ACE against arithmetic by hand: three classes, logits that are logarithms of small numbers."""

from fractions import Fraction
from math import log
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sparcl_lite.config import RunConfig
from sparcl_lite.data.streams import Batch, Task
from sparcl_lite.registry import METHODS
from sparcl_lite.replay import ReservoirBuffer

# Softmax of log(w) is w / sum(w): a row of weights for each image, which its one pixel numbers.
WEIGHTS = torch.tensor([[1.0, 2.0, 3.0], [5.0, 1.0, 1.0], [2.0, 6.0, 2.0]])


class Table(nn.Module):
    """Logits by the number of an image."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(WEIGHTS.log())

    def forward(self, x, chunks=()):
        return self.logits[x[:, 0, 0, 0].long()]


def made(task, **settings):
    """ER-ACE in the task of this number, of one class each; image 2, of class 0, is in the buffer."""
    tasks = [Task(index, torch.tensor([index]), torch.arange(1)) for index in range(3)]
    config = RunConfig(profile="smoke", method="er-ace", replay_batch_size=2, buffer_size=2, **settings)
    buffer = ReservoirBuffer(2, torch.Generator().manual_seed(0))
    if task:
        buffer.add(torch.full((1, 1, 1, 1), 2, dtype=torch.uint8), torch.tensor([0]), torch.zeros(1, 3))
    method = METHODS["er-ace"](config, Table(), buffer, lambda images: images.float())
    method.begin_task(tasks[task], SimpleNamespace(tasks=tasks))
    images = torch.arange(2, dtype=torch.uint8).view(2, 1, 1, 1)
    labels = torch.full((2,), task)
    return method, Batch(images, images.float(), labels, torch.arange(2), tasks[task])


@pytest.mark.parametrize(
    ("task", "settings", "shares"),
    [
        (0, {}, [Fraction(1, 6), Fraction(5, 7)]),  # all classes are this task's or a later one's; no replay yet
        (1, {}, [Fraction(2, 5), Fraction(1, 2), Fraction(2, 10)]),  # class 0 is earlier
        (2, {}, [Fraction(3, 3), Fraction(1, 1), Fraction(2, 10)]),  # classes 0 and 1 are
        (1, {"masked_ce": True}, [Fraction(1), Fraction(1), Fraction(2, 10)]),  # the task's own class only
        (1, {"replay_from_task": 2}, [Fraction(2, 5), Fraction(1, 2)]),
    ],
)
def test_loss_by_hand(task, settings, shares):
    method, batch = made(task, **settings)
    current, replayed = shares[:2], shares[2:]
    loss, logits = method.loss(batch)
    expected = -sum(map(log, current)) / 2 - sum(map(log, replayed))
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert torch.equal(logits, WEIGHTS.log()[:2])


def test_gradient_leaves_earlier_classes_to_the_replayed_samples():
    method, batch = made(1)
    method.loss(batch)[0].backward()
    # Of a mean of two: (softmax - one-hot) / 2. Of the replayed one: softmax - one-hot.
    expected = [[0, (2 / 5 - 1) / 2, 3 / 5 / 2], [0, (1 / 2 - 1) / 2, 1 / 2 / 2], [2 / 10 - 1, 6 / 10, 2 / 10]]
    torch.testing.assert_close(method.network.logits.grad, torch.tensor(expected))


def test_its_state_is_the_classes_that_compete():
    method, batch = made(2)
    again, _ = made(0)
    again.buffer = method.buffer
    again.load_state_dict(method.state_dict())
    assert again.loss(batch)[0].item() == method.loss(batch)[0].item()


def test_it_costs_what_er_costs():
    assert METHODS["er-ace"].forward_units == METHODS["er"].forward_units
    assert METHODS["er-ace"].keeps_to_loss
