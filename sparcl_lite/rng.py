"""The bundle of random generators of a run: one per purpose, all derived from the seed, all saved in checkpoints."""

from __future__ import annotations

import zlib

import numpy as np

from sparcl_lite.late import torch

PURPOSES = (
    "classes",
    "init",
    "subset",
    "order",
    "augmentation",
    "buffer",
    "mask",
    "removal",
    "probe",
    "selection",
)


def derived_seed(seed: int, purpose: str) -> int:
    """A seed for one purpose, independent of the others."""
    return int(np.random.SeedSequence([seed, zlib.crc32(purpose.encode())]).generate_state(1, np.uint64)[0] >> 1)


class Generators:
    """`generators.order`, `generators.mask`, ...: a `torch.Generator` (CPU) per purpose."""

    def __init__(self, seed: int):
        self._all = {p: torch.Generator().manual_seed(derived_seed(seed, p)) for p in PURPOSES}

    def __getattr__(self, purpose: str) -> torch.Generator:
        try:
            return self.__dict__["_all"][purpose]
        except KeyError:
            raise AttributeError(purpose) from None

    def state_dict(self) -> dict[str, torch.Tensor]:
        """State of every generator."""
        return {purpose: generator.get_state() for purpose, generator in self._all.items()}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Continue exactly where `state` was taken; it may have been moved to another device."""
        for purpose, generator in self._all.items():
            generator.set_state(state[purpose].cpu())
