"""What the parts of the engine ask of each other, and of whoever masks the weights."""

from typing import Any, Protocol

import numpy as np
from torch import Tensor


class Masking(Protocol):
    """Masks and wanted gradients by layer; `sparsity.base.Strategy` says what each of them means."""

    reads_gradients: bool
    existing: dict[str, Tensor]
    wanted: dict[str, Tensor] | None


class Layer(Protocol):
    """A layer with its `Shape` and dense `weight`; `gradient` and `gradient_rows` are those of the wanted weights.

    The gradient of a `whole` layer is that of all weights.
    """

    shape: Any
    flat: bool
    whole: bool
    weight: Tensor
    parts: int
    gradient: np.ndarray
    gradient_rows: Any


class Host(Protocol):
    """Whose segments they are: it knows masks, and where weights and gradients are stored. See `Engine`."""

    chunks: tuple[int, ...]

    def restore(self) -> None:
        """Write all weights back to the dense parameters."""

    def prepare(self, graph: Any, work: Any) -> None:
        """Before a forward pass."""

    def prepare_backward(self, graph: Any, work: Any, states: list, needed: list[bool]) -> None:
        """Before a backward pass."""

    def gradient(self, segment: Any, layer: Any) -> Tensor | None:
        """The gradient of a layer for its `grad`, or None when it was collected."""
