"""Every test module trains on one thread: tiny networks gain nothing from more, and lose much on a busy machine."""

import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Also after a module whose benchmarks have set another number: the bits of a run depend on it."""
    torch.set_num_threads(1)
