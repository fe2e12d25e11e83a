"""Where the nonzero weights of a convolution are: addresses for the products of `convolution`, from a mask."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit, prange

from sparcl_lite.engine.kernels import EXACT
from sparcl_lite.engine.kernels.simd import WIDTH

PIECE = 1 << 22  # entries of a mask that are looked at together


@dataclass(frozen=True)
class Shape:
    """A convolution of `rows x columns` inputs with a square kernel; a linear layer is one of 1x1, its blocks a row.

    `border` is the width of the zeros around the input as it is stored, at least `padding`. `channels_last` says in
    which order the weight lies in memory.
    """

    outputs: int
    inputs: int
    kernel: int
    stride: int
    padding: int
    groups: int
    rows: int
    columns: int
    border: int
    channels_last: bool

    @cached_property
    def out_rows(self) -> int:
        """Rows of the output."""
        return (self.rows + 2 * self.padding - self.kernel) // self.stride + 1

    @cached_property
    def out_columns(self) -> int:
        """Columns of the output."""
        return (self.columns + 2 * self.padding - self.kernel) // self.stride + 1

    @cached_property
    def gradient_border(self) -> int:
        """Zeros that the output's gradient needs around it, so that every input finds all outputs that read it."""
        before = -(-(self.kernel - 1 - self.padding) // self.stride)
        below = (self.rows - 1 + self.padding) // self.stride - self.out_rows + 1
        behind = (self.columns - 1 + self.padding) // self.stride - self.out_columns + 1
        return max(0, before, below, behind)

    @cached_property
    def group_inputs(self) -> int:
        """Input channels that each output channel reads."""
        return self.inputs // self.groups

    @cached_property
    def weights(self) -> int:
        """Entries of the dense weight."""
        return self.outputs * self.kernel**2 * self.group_inputs

    def numbers(self) -> tuple[int, ...]:
        """All that the kernels below need."""
        return (
            self.outputs, self.inputs, self.kernel, self.stride, self.padding, self.groups,
            self.rows + 2 * self.border, self.columns + 2 * self.border, self.border - self.padding,
            self.out_rows + 2 * self.gradient_border, self.out_columns + 2 * self.gradient_border,
            self.gradient_border, int(self.channels_last),
        )  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """Nonzeros sorted by the row of the product they belong to, and within a row by the channel that they read.

    The channels are cut into `slices`: the nonzeros of row r that read slice s are `starts[r * slices + s]` up to the
    next start. `source` says where each value comes from: the flat dense weight for `forward` and `gradients`, or the
    values of `forward` for `backward`.
    """

    starts: np.ndarray
    offsets: np.ndarray
    source: np.ndarray
    slices: int

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.starts.nbytes + self.offsets.nbytes + self.source.nbytes


def forward_rows(mask: np.ndarray, shape: Shape, slices: int = 1) -> Rows:
    """Nonzeros by output channel; `mask` is flat, in the order output channel, input channel, row, column."""
    source = _nonzeros(mask)
    area, own = shape.kernel**2, shape.group_inputs
    channels = np.arange(slices) * own // slices
    firsts = np.arange(shape.outputs)[:, None] * own * area + channels * area
    starts = np.searchsorted(source, np.append(firsts, shape.weights))
    if shape.channels_last:
        rest, tap = np.divmod(source, area)
        output, channel = np.divmod(rest, own)
        source = (output * area + tap) * own + channel
    offsets = np.empty(len(source), np.int32)
    _forward_offsets(source, shape.numbers(), offsets)
    return Rows(starts.astype(np.int64), offsets, source, slices)


def _nonzeros(mask: np.ndarray) -> np.ndarray:
    """Where a mask is not zero, piece by piece: numpy finds places of eight bytes each."""
    found, at = np.empty(np.count_nonzero(mask), np.int32), 0
    for start in range(0, mask.size, PIECE):
        here = np.flatnonzero(mask[start : start + PIECE])
        np.add(here, start, out=found[at : at + len(here)], casting="same_kind")
        at += len(here)
    return found


def backward_rows(forward: Rows, shape: Shape, slices: int = 1) -> Rows:
    """The same nonzeros by input channel; with a stride by phase of row and column first (stride squared groups)."""
    starts = np.zeros(shape.stride**2 * shape.inputs * slices + 1, np.int64)
    offsets, source = np.empty_like(forward.offsets), np.empty_like(forward.source)
    _transpose(forward.source, shape.numbers(), slices, starts, offsets, source)
    return Rows(starts, offsets, source, slices)


def places(some: Rows, among: Rows, shape: Shape) -> np.ndarray | None:
    """Positions of nonzeros within a longer list; None where some nonzero is not in that."""
    where = np.full(shape.weights, -1, np.int32)
    where[among.source] = np.arange(len(among.source), dtype=np.int32)
    found = where[some.source]
    return found if found.min(initial=0) >= 0 else None


@njit(**EXACT)
def _entry(position, numbers):
    """Output channel, input channel, kernel row and column of an entry of the flat weight."""
    outputs, inputs, kernel, groups, channels_last = numbers[0], numbers[1], numbers[2], numbers[5], numbers[12]
    own = inputs // groups
    if channels_last:
        rest, i = divmod(position, own)
        rest, kw = divmod(rest, kernel)
        o, kh = divmod(rest, kernel)
    else:
        rest, kw = divmod(position, kernel)
        rest, kh = divmod(rest, kernel)
        o, i = divmod(rest, own)
    return o, o // (outputs // groups) * own + i, kh, kw


@njit(parallel=True, **EXACT)
def _forward_offsets(source, numbers, offsets):
    height, width, shift = numbers[6], numbers[7], numbers[8]
    for k in prange(source.size):
        _, i, kh, kw = _entry(np.int64(source[k]), numbers)
        offsets[k] = ((i * height + kh + shift) * width + kw + shift) * WIDTH


@njit(**EXACT)
def _transpose(source, numbers, slices, starts, offsets, order):
    outputs, inputs, stride, padding = numbers[0], numbers[1], numbers[3], numbers[4]
    height, width, border = numbers[9], numbers[10], numbers[11]
    for filling in range(2):  # count, then fill
        for k in range(source.size):
            o, i, kh, kw = _entry(np.int64(source[k]), numbers)
            row_phase, column_phase = (kh - padding) % stride, (kw - padding) % stride
            row = ((row_phase * stride + column_phase) * inputs + i) * slices + o * slices // outputs
            if not filling:
                starts[row + 1] += 1
                continue
            down = (row_phase + padding - kh) // stride + border
            right = (column_phase + padding - kw) // stride + border
            offsets[starts[row]] = ((o * height + down) * width + right) * WIDTH
            order[starts[row]] = k
            starts[row] += 1
        if not filling:
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
    """out = 0, then out[source] = values; no place twice."""
    pieces = 64
    for piece in prange(pieces):
        out[out.size * piece // pieces : out.size * (piece + 1) // pieces] = 0
    for k in prange(source.size):
        out[source[k]] = values[k]
