"""A convolution's products by matrix multiplication, in the sparse kernels' layout: for layers with few zeros.

Every tap of the kernel is one product: weight of the tap times the positions that it reads, copied side by side.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor

from sparcl_lite.engine.contract import Layer
from sparcl_lite.engine.kernels.simd import WIDTH


@cache
def _scratch(name: str, size: int) -> Tensor:
    """Memory that every layer of this size uses in turn."""
    return torch.empty(size)


def _taps(layer: Layer) -> list[tuple[Tensor, int, int]]:
    """Weight `(outputs, inputs)` of each tap, and the padded row and column that output (0, 0) reads."""
    shape, shift = layer.shape, 1 - layer.shape.kernel // 2
    weight = layer.module.weight.detach()
    return [
        (weight[:, :, row, column], row + shift, column + shift)
        for row in range(shape.kernel)
        for column in range(shape.kernel)
    ]


def _read(layer: Layer, x: np.ndarray, blocks: int, row: int, column: int) -> Tensor:
    """What one tap reads `(blocks, inputs, positions)`."""
    s, step = layer.shape, layer.shape.stride
    padded = torch.from_numpy(x).view(blocks, s.inputs, s.rows + 2, s.columns + 2, WIDTH)
    seen = padded[:, :, row : row + step * s.out_rows : step, column : column + step * s.out_columns : step]
    columns = _scratch("columns", seen.numel()).view(seen.shape)
    return columns.copy_(seen).view(blocks, s.inputs, -1)


def _inside(layer: Layer, dz: np.ndarray, blocks: int) -> Tensor:
    """The output's gradient without its border `(blocks, outputs, positions)`."""
    s = layer.shape
    padded = torch.from_numpy(dz).view(blocks, s.outputs, s.out_rows + 2, s.out_columns + 2, WIDTH)
    inside = padded[:, :, 1:-1, 1:-1]
    return _scratch("gradient", inside.numel()).view(inside.shape).copy_(inside).view(blocks, s.outputs, -1)


def forward(layer: Layer, x: np.ndarray, z: np.ndarray, blocks: int, partial: np.ndarray) -> None:
    """z = conv(x), with its sums and sums of squares as `partial` has them."""
    out = torch.from_numpy(z).view(blocks, layer.shape.outputs, -1)
    for number, (weight, row, column) in enumerate(_taps(layer)):
        read = _read(layer, x, blocks, row, column)
        torch.baddbmm(out, weight.expand(blocks, -1, -1), read, beta=float(number > 0), out=out)
    sums = torch.from_numpy(partial).view(blocks, layer.parts, layer.shape.outputs, 2, WIDTH).zero_()
    by_sample = out.view(blocks, layer.shape.outputs, -1, WIDTH)
    sums[:, 0, :, 0] = by_sample.sum(2)
    sums[:, 0, :, 1] = by_sample.square().sum(2)


def input_gradient(layer: Layer, dz: np.ndarray, dx: np.ndarray, blocks: int, add: bool) -> None:
    """dx = (or += with `add`) the transposed convolution of dz."""
    s, step, inside = layer.shape, layer.shape.stride, _inside(layer, dz, blocks)
    target = torch.from_numpy(dx).view(blocks, s.inputs, s.rows, s.columns, WIDTH)
    if not add:
        target.zero_()
    back = _scratch("columns", blocks * s.inputs * s.out_rows * s.out_columns * WIDTH)
    for weight, row, column in _taps(layer):
        back = back.view(blocks, s.inputs, -1)
        torch.bmm(weight.t().expand(blocks, -1, -1), inside, out=back)
        back = back.view(blocks, s.inputs, s.out_rows, s.out_columns, WIDTH)
        first_row, rows, last_row = _overlap(row - 1, step, s.out_rows, s.rows)
        first_column, columns, last_column = _overlap(column - 1, step, s.out_columns, s.columns)
        target[:, :, first_row::step, first_column::step][:, :, : last_row - rows, : last_column - columns] += back[
            :, :, rows:last_row, columns:last_column
        ]


def _overlap(start: int, step: int, count: int, size: int) -> tuple[int, int, int]:
    """The first of start, start + step, ... inside [0, size), and the range of their indices that lie inside."""
    skipped = -(-max(0, -start) // step)
    last = min(count, -(-(size - start) // step))
    return start + skipped * step, skipped, last


def weight_gradient(layer: Layer, x: np.ndarray, dz: np.ndarray, blocks: int, add: bool) -> None:
    """The layer's `gradient` = (or += with `add`) that of the wanted weights."""
    s, inside = layer.shape, _inside(layer, dz, blocks)
    full = _scratch("weight", s.weights).view(s.outputs, s.kernel**2, s.inputs)
    for number, (_, row, column) in enumerate(_taps(layer)):
        full[:, number] = torch.bmm(inside, _read(layer, x, blocks, row, column).transpose(1, 2)).sum(0)
    found = full.view(-1).numpy()[layer.gradient_rows.source]
    layer.gradient[:] = layer.gradient + found if add else found
