"""What reads an expression: layers, pools, and the ways between layouts and out of a segment.

Each operation computes forward and backward for a group of blocks, in the memory of a `Pass`. `x` is the expression's
value with a border, from block `first` on; `dx` is the whole gradient of the expression, written or (`add`) added to.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from sparcl_lite.engine.graph import Map
from sparcl_lite.engine.kernels import layout, pooling
from sparcl_lite.engine.kernels.index import Shape
from sparcl_lite.engine.kernels.simd import WIDTH
from sparcl_lite.engine.layers import SparseLayer, is_channels_last


class Operation:
    """Base: reads an expression and makes the map `y` (None: an output)."""

    border = 0
    layer: SparseLayer | None = None
    y: Map | None = None
    number = 0  # among those that read the same expression

    def reads(self, like: Map, border: int) -> None:
        """Learn what it will read."""
        self.size = (like.channels, like.rows, like.columns, border)
        self.like = like

    def forward(self, work: Any, x: np.ndarray, first: int, count: int) -> None:
        """Make `y` of these blocks."""
        raise NotImplementedError

    def backward(self, work: Any, x: np.ndarray, first: int, count: int, dx: np.ndarray | None, add: bool) -> None:
        """Write or add to the gradient of these blocks, if it is wanted; find those of weights."""
        raise NotImplementedError

    def _inside(self, x: np.ndarray, count: int) -> np.ndarray:
        """The value without its border, where others need one."""
        channels, rows, columns, border = self.size
        if not border:
            return x
        shaped = x[: self.like.floats(count, border)].reshape(
            -1, channels, rows + 2 * border, columns + 2 * border, WIDTH
        )
        inside = layout.aligned(self.like.floats(count))
        inside.reshape(-1, channels, rows, columns, WIDTH)[:] = shaped[:, :, border:-border, border:-border]
        return inside


class Multiply(Operation):
    """A convolution, or a linear layer of a flat map."""

    def __init__(self, name: str, module: nn.Module, like: Map):
        self.name, self.module, self.flat = name, module, like.flat
        if self.flat:
            self.y = Map(module.out_features, flat=True)
        else:
            self.border = module.padding[0]
            shape = self._shape(like, self.border)
            self.y = Map(module.out_channels, shape.out_rows, shape.out_columns)

    def _shape(self, like: Map, border: int) -> Shape:
        m = self.module
        if self.flat:
            return Shape(m.out_features, m.in_features, 1, 1, 0, 1, 1, 1, 0, False)
        return Shape(
            m.out_channels, m.in_channels, m.kernel_size[0], m.stride[0], m.padding[0], m.groups,
            like.rows, like.columns, border, is_channels_last(m.weight),
        )  # fmt: skip

    def reads(self, like: Map, border: int) -> None:
        super().reads(like, border)
        self.layer = SparseLayer(self.name, self.module, self._shape(like, border), flat=self.flat)

    def forward(self, work: Any, x: np.ndarray, first: int, count: int) -> None:
        self.layer.forward(x, work.maps[self.y], first, count, work.partial_of(self, first, count))

    def backward(self, work: Any, x: np.ndarray, first: int, count: int, dx: np.ndarray | None, add: bool) -> None:
        dz = work.gradient_of(self.y, first, count, self.layer.shape.gradient_border)
        if self.layer.trains:
            self.layer.weight_gradient(x, dz, count, first > 0)
        if dx is not None:
            self.layer.input_gradient(dz, dx, first, count, add)


class Pool(Operation):
    """Mean or maximum over windows: `rows` and `columns` are (starts, ends) of each output's window."""

    def __init__(self, like: Map, rows: tuple, columns: tuple, divisors: np.ndarray | None):
        self.windows = (*(np.array(e) for e in rows), *(np.array(e) for e in columns))
        self.y = Map(like.channels, len(rows[0]), len(columns[0]))
        self.largest = divisors is None
        self.divisors = np.ones((1, 1), np.float32) if divisors is None else divisors.astype(np.float32)

    def forward(self, work: Any, x: np.ndarray, first: int, count: int) -> None:
        kernel = pooling.maximum if self.largest else pooling.average
        kernel(
            x, work.place(self.like, self.size[3]), work.maps[self.y], work.place(self.y), self.size,
            self.windows, self.divisors, first, count,
        )  # fmt: skip

    def backward(self, work: Any, x: np.ndarray, first: int, count: int, dx: np.ndarray | None, add: bool) -> None:
        if dx is None:
            return
        dy, place, to = work.gradient_of(self.y, first, count, 0), work.place(self.y), work.place(self.like)
        if self.largest:
            pooling.maximum_gradient(
                x, work.place(self.like, self.size[3]), work.maps[self.y], dy, place, place, dx, to,
                self.size, self.windows, first, count, add,
            )  # fmt: skip
        else:
            pooling.average_gradient(dy, place, dx, to, self.size, self.windows, self.divisors, first, count, add)


class Store(Operation):
    """Keeps the value as a map of the same size, or as a flat one whose features are channels and positions."""

    def __init__(self, like: Map, *, flatten: bool = False):
        if flatten or like.flat:
            self.y = Map(like.channels * like.rows * like.columns, flat=True)
        else:
            self.y = Map(like.channels, like.rows, like.columns)

    def _seen(self, work: Any) -> tuple[tuple[int, int], tuple[int, int]]:
        """Place and size (channels, positions) of what is read: as the map has it."""
        channels, rows, columns, _ = self.size
        place = work.place(self.like)
        if self.y.flat and not self.like.flat:  # a position of the one is a channel of the other
            return (place[0], WIDTH), (self.y.channels, 1)
        return place, (channels, rows * columns)

    def forward(self, work: Any, x: np.ndarray, first: int, count: int) -> None:
        (source, size), target = self._seen(work), work.place(self.y)
        layout.copy(self._inside(x, count), source, work.maps[self.y][first * target[0] :], target, count, size, False)

    def backward(self, work: Any, x: np.ndarray, first: int, count: int, dx: np.ndarray | None, add: bool) -> None:
        if dx is not None:
            (target, size), source = self._seen(work), work.place(self.y)
            dy = work.gradient_of(self.y, first, count, 0)
            layout.copy(dy, source, dx[first * target[0] :], target, count, size, add)


class Drop(Store):
    """Dropout: the value times noise that PyTorch's generator draws, as `F.dropout` does."""

    def __init__(self, module: nn.Module, like: Map):
        super().__init__(like)
        self.module = module

    def draw(self, samples: int) -> np.ndarray | None:
        """Factors `(samples, *shape of y)`, or None in evaluation mode."""
        if not self.module.training or self.module.p == 0:
            return None
        return F.dropout(torch.ones(samples, *self.y.shape), self.module.p, True).numpy()

    def forward(self, work: Any, x: np.ndarray, first: int, count: int) -> None:
        super().forward(work, x, first, count)
        if (noise := work.noise.get(self)) is not None:
            part = self._part(work, first, count)
            work.maps[self.y][part] *= noise[part]

    def backward(self, work: Any, x: np.ndarray, first: int, count: int, dx: np.ndarray | None, add: bool) -> None:
        if dx is None:
            return
        dy, place = work.gradient_of(self.y, first, count, 0), work.place(self.y)
        if (noise := work.noise.get(self)) is not None:
            part = noise[self._part(work, first, count)]
            dy = np.multiply(dy[: part.size], part, out=work.space.dz[: part.size])
        size = self.y.channels, self.y.rows * self.y.columns
        layout.copy(dy, place, dx[first * place[0] :], place, count, size, add)

    def _part(self, work: Any, first: int, count: int) -> slice:
        block = work.place(self.y)[0]
        return slice(None) if self.y.flat else slice(first * block, (first + count) * block)


class Output(Operation):
    """Leaves the segment as a tensor `(N, C, H, W)`, or `(N, features)` of a flat map."""

    def __init__(self, number: int):
        self.number_out = number

    def reads(self, like: Map, border: int) -> None:
        super().reads(like, border)
        self.shape = like.shape

    def forward(self, work: Any, x: np.ndarray, first: int, count: int) -> None:
        values = work.outputs[self.number_out]
        layout.unpack(self._inside(x, count), values.reshape(-1), work.spread(self.like, len(values)), first, count)

    def backward(self, work: Any, x: np.ndarray, first: int, count: int, dx: np.ndarray | None, add: bool) -> None:
        if dx is None or first > 0:
            return
        channels, rows, columns, _ = self.size
        given = work.output_gradients[self.number_out]
        place, used = work.place(self.like), work.used
        packed = layout.aligned(dx.size) if add else dx
        layout.pack(given.reshape(-1), packed, work.spread(self.like, len(given)), used)
        if not add:
            return
        layout.copy(packed, place, dx, place, used, (channels, rows * columns), True)
