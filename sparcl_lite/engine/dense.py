"""A layer's products by matrix multiplication, in the sparse kernels' layout: for layers with few zeros.

Every tap of the kernel is one product: weight of the tap times the positions that it reads, copied side by side. A
linear layer has one tap, and its samples are the positions. For layers of one group only.
"""

import math
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


def _taps(layer: Layer) -> list[tuple[int, int]]:
    """Kernel row and column of each product."""
    edge = range(1 if layer.flat else layer.shape.kernel)
    return [(row, column) for row in edge for column in edge]


def _weight(layer: Layer, row: int, column: int) -> Tensor:
    """The weight of one tap `(outputs, inputs)`."""
    return layer.weight if layer.flat else layer.weight[:, :, row, column]


def _read(layer: Layer, x: np.ndarray, blocks: int, row: int, column: int) -> Tensor:
    """What one tap reads `(blocks, inputs, positions)`."""
    s, step = layer.shape, layer.shape.stride
    if layer.flat:
        return torch.from_numpy(x).view(1, s.inputs, -1)[:, :, : blocks * WIDTH]
    padded = torch.from_numpy(x).view(blocks, s.inputs, s.rows + 2 * s.border, s.columns + 2 * s.border, WIDTH)
    row, column = row + s.border - s.padding, column + s.border - s.padding
    seen = padded[:, :, row : row + step * s.out_rows : step, column : column + step * s.out_columns : step]
    columns = _scratch("columns", seen.numel()).view(seen.shape)
    return columns.copy_(seen).view(blocks, s.inputs, -1)


def _inside(layer: Layer, dz: np.ndarray, blocks: int) -> Tensor:
    """The output's gradient without its border `(blocks, outputs, positions)`."""
    s, border = layer.shape, layer.shape.gradient_border
    if layer.flat:
        return torch.from_numpy(dz).view(1, s.outputs, -1)[:, :, : blocks * WIDTH]
    padded = torch.from_numpy(dz).view(blocks, s.outputs, s.out_rows + 2 * border, s.out_columns + 2 * border, WIDTH)
    if not border:
        return padded.view(blocks, s.outputs, -1)
    inside = padded[:, :, border:-border, border:-border]
    return _scratch("gradient", inside.numel()).view(inside.shape).copy_(inside).view(blocks, s.outputs, -1)


def _blocks_of(layer: Layer, values: np.ndarray, size: tuple[int, ...], first: int, blocks: int) -> Tensor:
    """So many blocks of a map `(blocks, channels, positions)`; of a flat one all, as positions of one."""
    if layer.flat:
        return torch.from_numpy(values).view(1, size[0], -1)[:, :, : blocks * WIDTH]
    block = math.prod(size) * WIDTH
    return torch.from_numpy(values[first * block : (first + blocks) * block]).view(blocks, size[0], -1)


def forward(layer: Layer, x: np.ndarray, z: np.ndarray, first: int, blocks: int, partial: np.ndarray) -> None:
    """As `SparseLayer.forward`."""
    s = layer.shape
    out = _blocks_of(layer, z, (s.outputs, s.out_rows, s.out_columns), first, blocks)
    for number, tap in enumerate(_taps(layer)):
        weight = _weight(layer, *tap).expand(len(out), -1, -1)
        torch.baddbmm(out, weight, _read(layer, x, blocks, *tap), beta=float(number > 0), out=out)
    if partial.size:
        sums = torch.from_numpy(partial).view(blocks, layer.parts, layer.shape.outputs, 2, WIDTH).zero_()
        by_sample = out.view(blocks, layer.shape.outputs, -1, WIDTH)
        sums[:, 0, :, 0] = by_sample.sum(2)
        sums[:, 0, :, 1] = by_sample.square().sum(2)


def input_gradient(layer: Layer, dz: np.ndarray, dx: np.ndarray, first: int, blocks: int, add: bool) -> None:
    """As `SparseLayer.input_gradient`."""
    s, step, inside = layer.shape, layer.shape.stride, _inside(layer, dz, blocks)
    target = _blocks_of(layer, dx, (s.inputs, s.rows, s.columns), first, blocks)
    if layer.flat:
        weight = layer.weight.t()[None]
        torch.baddbmm(target, weight, inside, beta=float(add), out=target)
        return
    target = target.view(blocks, s.inputs, s.rows, s.columns, WIDTH)
    if not add:
        target.zero_()
    back = _scratch("columns", blocks * s.inputs * s.out_rows * s.out_columns * WIDTH)
    for row, column in _taps(layer):
        back = back.view(blocks, s.inputs, -1)
        torch.bmm(_weight(layer, row, column).t().expand(blocks, -1, -1), inside, out=back)
        back = back.view(blocks, s.inputs, s.out_rows, s.out_columns, WIDTH)
        first_row, rows, last_row = _overlap(row - s.padding, step, s.out_rows, s.rows)
        first_column, columns, last_column = _overlap(column - s.padding, step, s.out_columns, s.columns)
        if rows < last_row and columns < last_column:
            target[:, :, first_row::step, first_column::step][:, :, : last_row - rows, : last_column - columns] += back[
                :, :, rows:last_row, columns:last_column
            ]


def _overlap(start: int, step: int, count: int, size: int) -> tuple[int, int, int]:
    """The first of start, start + step, ... inside [0, size), and the range of their indices that lie inside."""
    skipped = -(-max(0, -start) // step)
    last = min(count, -(-(size - start) // step))
    return start + skipped * step, skipped, last


def weight_gradient(layer: Layer, x: np.ndarray, dz: np.ndarray, blocks: int, add: bool) -> None:
    """As `SparseLayer.weight_gradient`."""
    s, inside = layer.shape, _inside(layer, dz, blocks)
    if layer.whole:
        layer.gradient = layer.gradient if add else np.empty(s.weights, np.float32)
        target = torch.from_numpy(layer.gradient).view(s.outputs, s.inputs)
        torch.addmm(target, inside[0], _read(layer, x, blocks, 0, 0)[0].t(), beta=float(add), out=target)
        return
    full = _scratch("weight", s.weights).view(s.outputs, s.kernel**2, s.inputs)
    for number, tap in enumerate(_taps(layer)):
        full[:, number] = torch.bmm(inside, _read(layer, x, blocks, *tap).transpose(1, 2)).sum(0)
    if not s.channels_last and s.kernel > 1:
        full = full.transpose(1, 2).contiguous()
    found = full.view(-1).numpy()[layer.gradient_rows.source]
    layer.gradient[:] = layer.gradient + found if add else found
