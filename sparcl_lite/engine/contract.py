"""What the parts of the engine ask of each other, and of whoever masks the weights."""

from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn


class Masking(Protocol):
    """Masks and wanted gradients by layer; `sparsity.base.Strategy` says what each of them means."""

    reads_gradients: bool
    existing: dict[str, Tensor]
    wanted: dict[str, Tensor] | None


class Layer(Protocol):
    """A convolution with its `Shape`; `gradient` and `gradient_rows` are those of the wanted weights."""

    module: nn.Conv2d
    shape: Any
    parts: int
    gradient: np.ndarray
    gradient_rows: Any
