"""Every test trains on one thread: tiny networks gain nothing from more, and lose much on a busy machine."""

import sys

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _figures_are_closed():
    """Of every test, so that none gets the warning of too many for another one's."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")
