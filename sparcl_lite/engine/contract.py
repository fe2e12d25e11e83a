"""What the engine asks of whoever masks the weights."""

from typing import Protocol

from torch import Tensor


class Masking(Protocol):
    """Masks and wanted gradients by layer; `sparsity.base.Strategy` says what each of them means."""

    reads_gradients: bool
    existing: dict[str, Tensor]
    wanted: dict[str, Tensor] | None
