"""Where the nonzero weights of a convolution are: addresses for the products of `convolution`, from a mask."""

from dataclasses import dataclass

import numpy as np
from numba import njit, prange

from sparcl_lite.engine.kernels import CACHED
from sparcl_lite.engine.kernels.simd import WIDTH

EXACT = CACHED | {"fastmath": False}


@dataclass(frozen=True)
class Shape:
    """A convolution without bias: 3x3 with padding 1 or 1x1 without, stride 1 or 2, inputs of `rows x columns`."""

    outputs: int
    inputs: int
    kernel: int
    stride: int
    rows: int
    columns: int

    @property
    def out_rows(self) -> int:
        """Rows of the output."""
        return (self.rows - 1) // self.stride + 1

    @property
    def out_columns(self) -> int:
        """Columns of the output."""
        return (self.columns - 1) // self.stride + 1

    @property
    def weights(self) -> int:
        """Entries of the dense weight."""
        return self.outputs * self.kernel**2 * self.inputs

    def numbers(self) -> tuple[int, ...]:
        """All fields, for the kernels below."""
        return (self.outputs, self.inputs, self.kernel, self.stride, self.rows, self.columns)


@dataclass(frozen=True)
class Rows:
    """Nonzeros sorted by the row of the product they belong to: those of row r are `starts[r]` to `starts[r + 1]`.

    `source` says where each value comes from: the flat dense weight for `forward` and `gradients`, or the values of
    `forward` for `backward`.
    """

    starts: np.ndarray
    offsets: np.ndarray
    source: np.ndarray

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.starts.nbytes + self.offsets.nbytes + self.source.nbytes


def forward_rows(mask: np.ndarray, shape: Shape) -> Rows:
    """Nonzeros by output channel; `mask` is flat, in the order output, kernel row, kernel column, input."""
    source = np.flatnonzero(mask).astype(np.int32)
    starts = np.searchsorted(source, np.arange(shape.outputs + 1) * (shape.weights // shape.outputs))
    offsets = np.empty(len(source), np.int32)
    _forward_offsets(source, shape.numbers(), offsets)
    return Rows(starts.astype(np.int64), offsets, source)


def backward_rows(forward: Rows, shape: Shape) -> Rows:
    """The same nonzeros by input channel; with stride 2 by parity of row and column first (four groups)."""
    groups = shape.stride**2
    starts = np.zeros(groups * shape.inputs + 1, np.int64)
    offsets, source = np.empty_like(forward.offsets), np.empty_like(forward.source)
    _transpose(forward.source, shape.numbers(), starts, offsets, source)
    return Rows(starts, offsets, source)


def places(some: np.ndarray, among: np.ndarray) -> np.ndarray | None:
    """Positions of entries within a longer list, both ascending; None where some entry is not in the list."""
    found = np.searchsorted(among, some).astype(np.int32)
    there = len(some) == 0 or (len(among) > 0 and np.array_equal(among.take(found, mode="clip"), some))
    return found if there else None


@njit(parallel=True, **EXACT)
def _forward_offsets(source, numbers, offsets):
    _, inputs, kernel, _, rows, columns = numbers
    shift = 0 if kernel == 3 else 1  # a 1x1 kernel sits in the middle of the border's 3x3 neighbourhood
    for k in prange(source.size):
        rest, i = divmod(source[k], inputs)
        rest, kw = divmod(rest, kernel)
        kh = rest % kernel
        offsets[k] = ((i * (rows + 2) + kh + shift) * (columns + 2) + kw + shift) * WIDTH


@njit(**EXACT)
def _transpose(source, numbers, starts, offsets, order):
    _, inputs, kernel, stride, rows, columns = numbers
    shift = 0 if kernel == 3 else 1
    out_rows, out_columns = (rows - 1) // stride + 3, (columns - 1) // stride + 3  # with their border
    for pass_ in range(2):  # count, then fill
        for k in range(source.size):
            rest, i = divmod(source[k], inputs)
            rest, kw = divmod(rest, kernel)
            o, kh = divmod(rest, kernel)
            kh, kw = kh + shift, kw + shift
            row = i if stride == 1 else ((kh & 1) * 2 + (kw & 1)) * inputs + i
            if pass_ == 0:
                starts[row + 1] += 1
            else:
                down, right = (2 - kh, 2 - kw) if stride == 1 else (1 - (kh >> 1), 1 - (kw >> 1))
                offsets[starts[row]] = ((o * out_rows + down) * out_columns + right) * WIDTH
                order[starts[row]] = k
                starts[row] += 1
        if pass_ == 0:
            for r in range(1, starts.size):
                starts[r] += starts[r - 1]
    for r in range(starts.size - 1, 0, -1):  # filling has moved every start to the next row's
        starts[r] = starts[r - 1]
    starts[0] = 0


@njit(parallel=True, **EXACT)
def gather(values, source, out):
    """out = values[source]."""
    for k in prange(source.size):
        out[k] = values[source[k]]


@njit(parallel=True, **EXACT)
def add_at(out, places, values):
    """out[places] += values; no place twice."""
    for k in prange(places.size):
        out[places[k]] += values[k]


@njit(parallel=True, **EXACT)
def scatter(values, source, out):
    """out = 0, then out[source] = values; `source` ascends."""
    pieces = 64
    for piece in prange(pieces):
        first, last = out.size * piece // pieces, out.size * (piece + 1) // pieces
        out[first:last] = 0
        for k in range(np.searchsorted(source, first), np.searchsorted(source, last)):
            out[source[k]] = values[k]
