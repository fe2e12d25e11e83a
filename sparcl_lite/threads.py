"""How many of PyTorch's threads compute."""

from collections.abc import Iterator
from contextlib import contextmanager

from sparcl_lite.late import torch


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """So many of PyTorch's threads inside; afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
