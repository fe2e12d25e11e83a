"""Products of a sparse convolution with maps whose samples lie innermost.

A map is `[blocks, channels, rows, columns, 16]`: 16 samples of the batch side by side, so that every position is one
vector and a stride is a matter of addresses. Each kernel walks over tiles of positions, and over all output channels
within a tile: what the tile reads of all input channels stays in the cache meanwhile.
"""

import numpy as np
from numba import njit, prange

from sparcl_lite.sparsity.kernels.simd import (
    WIDTH,
    add_to,
    affine,
    gated,
    has_wide_registers,
    load,
    sums,
    tile_functions,
)

OPTIONS = {"nogil": True, "fastmath": True, "error_model": "numpy"}
PARTS = 4  # pieces that the rows of a block are cut into, whatever the number of threads

#: What is done with a tile of results while it is in registers: nothing; sums for batch norm's statistics; or, of a
#: gradient that goes back through a ReLU, zero where the ReLU's input or output is not above zero, then the sums.
PLAIN, STATISTICS, FROM_INPUT, FROM_OUTPUT = range(4)

#: Tiles (rows, columns): up to 16 positions, half of the 512-bit registers; fewer where a vector takes several.
SHAPES = ((1, 16), (2, 8), (1, 8), (2, 7), (1, 7), (4, 4), (1, 4), (1, 2), (1, 1))
USED = range(len(SHAPES)) if has_wide_registers() else (4, 6, 7, 8)


def cut(width: int) -> np.ndarray:
    """(rows, columns) of the tiles that a row of so many positions is cut into, left to right.

    As wide as possible, and as tall as the registers allow; the last rows of a map may take tiles of one row.
    """
    shapes = sorted((SHAPES[i] for i in USED), key=lambda shape: (-shape[1], -shape[0]))
    for rows, columns in shapes:
        if width % columns == 0 and columns >= min(4, width):
            return np.array([(rows, columns)] * (width // columns))
    rows, columns = next(shape for shape in shapes if shape[1] <= width)
    return np.concatenate([[(rows, columns)], cut(width - columns)])


def parts(rows: int, columns: int) -> int:
    """Pieces that the rows of a map are cut into: units of work, with sums of their own."""
    return min(PARTS, -(-rows // int(cut(columns)[:, 0].max())))


def _functions(rows: int, cols: int, step: int):
    """Both products on one tile, the positions of x lying `step` apart."""
    near, far = tile_functions(rows, cols, 1), tile_functions(rows, cols, 2)
    zeros, read, write, _, _ = near
    _, read_apart, write_apart, _, _ = far
    multiply_tile, dot = (near if step == 1 else far)[3:]

    @njit(**OPTIONS)
    def look(array, where, row, apart):
        return read(array, where, row) if apart == 1 else read_apart(array, where, row)

    @njit(**OPTIONS)
    def product(x, base, x_row, starts, offsets, values, first, last, y, place, y_channel, y_row, y_step, add, after):
        then, z, scale, shift, sample, out, out_at, out_row, out_channel, partial, sums_at = after
        samples = scale.size // (starts.size - 1)
        for o in range(first, last):
            where = place + o * y_channel
            tile = look(y, where, y_row, y_step) if add else zeros()
            tile = multiply_tile(tile, x, offsets, values, starts[o], starts[o + 1], base, x_row)
            factor = tile
            if then in (FROM_INPUT, FROM_OUTPUT):
                factor = look(z, where, y_row, y_step)
                if then == FROM_INPUT:
                    at = sample + o * samples
                    tile = gated(tile, affine(factor, load(scale, at), load(shift, at)))
                else:
                    tile = gated(tile, look(out, out_at + o * out_channel, out_row, y_step))
            if y_step == 1:
                write(y, where, y_row, tile)
            else:
                write_apart(y, where, y_row, tile)
            if then != PLAIN:
                total, products = sums(tile, factor)
                add_to(partial, sums_at + o * 2 * WIDTH, total)
                add_to(partial, sums_at + o * 2 * WIDTH + WIDTH, products)

    @njit(**OPTIONS)
    def dots(x, base, x_row, starts, offsets, first, last, z, place, z_channel, z_row, out):
        for o in range(first, last):
            tile = read(z, place + o * z_channel, z_row)
            for k in range(starts[o], starts[o + 1]):
                out[k] += dot(tile, x, base + offsets[k], x_row)

    return product, dots


_product_1x16_1, _dots_1x16_1 = _functions(1, 16, 1)
_product_1x16_2, _dots_1x16_2 = _functions(1, 16, 2)
_product_2x8_1, _dots_2x8_1 = _functions(2, 8, 1)
_product_2x8_2, _dots_2x8_2 = _functions(2, 8, 2)
_product_1x8_1, _dots_1x8_1 = _functions(1, 8, 1)
_product_1x8_2, _dots_1x8_2 = _functions(1, 8, 2)
_product_2x7_1, _dots_2x7_1 = _functions(2, 7, 1)
_product_2x7_2, _dots_2x7_2 = _functions(2, 7, 2)
_product_1x7_1, _dots_1x7_1 = _functions(1, 7, 1)
_product_1x7_2, _dots_1x7_2 = _functions(1, 7, 2)
_product_4x4_1, _dots_4x4_1 = _functions(4, 4, 1)
_product_4x4_2, _dots_4x4_2 = _functions(4, 4, 2)
_product_1x4_1, _dots_1x4_1 = _functions(1, 4, 1)
_product_1x4_2, _dots_1x4_2 = _functions(1, 4, 2)
_product_1x2_1, _dots_1x2_1 = _functions(1, 2, 1)
_product_1x2_2, _dots_1x2_2 = _functions(1, 2, 2)
_product_1x1_1, _dots_1x1_1 = _functions(1, 1, 1)
_product_1x1_2, _dots_1x1_2 = _functions(1, 1, 2)


@njit(**OPTIONS)
def _product(rows, cols, step, arguments):
    """The product on a tile of this shape: each is code of its own."""
    if step == 1:
        if cols == 16:
            _product_1x16_1(*arguments)
        elif cols == 8 and rows == 2:
            _product_2x8_1(*arguments)
        elif cols == 8 and rows == 1:
            _product_1x8_1(*arguments)
        elif cols == 7 and rows == 2:
            _product_2x7_1(*arguments)
        elif cols == 7 and rows == 1:
            _product_1x7_1(*arguments)
        elif cols == 4 and rows == 4:
            _product_4x4_1(*arguments)
        elif cols == 4 and rows == 1:
            _product_1x4_1(*arguments)
        elif cols == 2:
            _product_1x2_1(*arguments)
        else:
            _product_1x1_1(*arguments)
    else:
        if cols == 16:
            _product_1x16_2(*arguments)
        elif cols == 8 and rows == 2:
            _product_2x8_2(*arguments)
        elif cols == 8 and rows == 1:
            _product_1x8_2(*arguments)
        elif cols == 7 and rows == 2:
            _product_2x7_2(*arguments)
        elif cols == 7 and rows == 1:
            _product_1x7_2(*arguments)
        elif cols == 4 and rows == 4:
            _product_4x4_2(*arguments)
        elif cols == 4 and rows == 1:
            _product_1x4_2(*arguments)
        elif cols == 2:
            _product_1x2_2(*arguments)
        else:
            _product_1x1_2(*arguments)


@njit(**OPTIONS)
def _dots(rows, cols, step, arguments):
    """The product on a tile of this shape: each is code of its own."""
    if step == 1:
        if cols == 16:
            _dots_1x16_1(*arguments)
        elif cols == 8 and rows == 2:
            _dots_2x8_1(*arguments)
        elif cols == 8 and rows == 1:
            _dots_1x8_1(*arguments)
        elif cols == 7 and rows == 2:
            _dots_2x7_1(*arguments)
        elif cols == 7 and rows == 1:
            _dots_1x7_1(*arguments)
        elif cols == 4 and rows == 4:
            _dots_4x4_1(*arguments)
        elif cols == 4 and rows == 1:
            _dots_1x4_1(*arguments)
        elif cols == 2:
            _dots_1x2_1(*arguments)
        else:
            _dots_1x1_1(*arguments)
    else:
        if cols == 16:
            _dots_1x16_2(*arguments)
        elif cols == 8 and rows == 2:
            _dots_2x8_2(*arguments)
        elif cols == 8 and rows == 1:
            _dots_1x8_2(*arguments)
        elif cols == 7 and rows == 2:
            _dots_2x7_2(*arguments)
        elif cols == 7 and rows == 1:
            _dots_1x7_2(*arguments)
        elif cols == 4 and rows == 4:
            _dots_4x4_2(*arguments)
        elif cols == 4 and rows == 1:
            _dots_1x4_2(*arguments)
        elif cols == 2:
            _dots_1x2_2(*arguments)
        else:
            _dots_1x1_2(*arguments)


@njit(parallel=True, cache=True, **OPTIONS)
def multiply(x, x_place, starts, offsets, values, y, y_place, tiling, add, after):
    """y = sum over nonzeros of value * x, or y += with `add`; one row of `starts` for each output channel.

    `x_place` is (start, block, row, step) and `y_place` (start, block, row, step, channel): where the first position
    lies and how far apart the next ones are, in floats (steps in positions). `tiling` is (blocks, rows, tallest
    tile, parts, pieces of the channels, shape of each tile in a row).

    `after` is (what follows, z, scale, shift, sample, out, out_place, partial), the first one of PLAIN, STATISTICS,
    FROM_INPUT (where scale z + shift > 0) and FROM_OUTPUT (where out > 0); z lies as y does, out at its own place
    (start, block, row, channel), and `sample` is the first one's number in `[channels, samples]` of scale and shift.
    To `partial` `[blocks, parts, channels, 2, 16]` are added, by sample, the sums of y and of y times y (STATISTICS) or
    z.
    """
    x_start, x_block, x_row, x_step = x_place
    y_start, y_block, y_row, y_step, y_channel = y_place
    blocks, rows, tallest, parts, pieces, cuts = tiling
    then, z, scale, shift, sample, out, out_place, partial = after
    out_start, out_block, out_row, out_channel = out_place
    channels = starts.size - 1
    groups = (rows + tallest - 1) // tallest
    for unit in prange(blocks * parts * pieces):
        rest, piece = divmod(np.int64(unit), pieces)  # numba would mix signed and unsigned into floats
        b, part = divmod(rest, parts)
        sums_at = (b * parts + part) * channels * 2 * WIDTH
        first, last = channels * piece // pieces, channels * (piece + 1) // pieces
        column = 0
        for tile in range(len(cuts)):
            height, cols = cuts[tile]
            h, end = groups * part // parts * tallest, min(rows, groups * (part + 1) // parts * tallest)
            while h < end:
                height = height if end - h >= height else 1
                base = x_start + b * x_block + h * x_row + column * x_step * WIDTH
                place = y_start + b * y_block + h * y_row + column * y_step * WIDTH
                out_at = out_start + b * out_block + h * out_row + column * y_step * WIDTH
                _product(height, cols, x_step, (
                    x, base, x_row, starts, offsets, values, first, last, y, place, y_channel, y_row, y_step, add,
                    (then, z, scale, shift, sample + b * WIDTH, out, out_at, out_row, out_channel, partial, sums_at),
                ))  # fmt: skip
                h += height
            column += cols


@njit(parallel=True, cache=True, **OPTIONS)
def weight_gradient(x, x_place, starts, offsets, shares, z, z_place, tiling, add, out):
    """out = (or += with `add`) the gradient of each listed weight: the map it reads times the gradient it adds to.

    Arguments as in `multiply`, with z (the outputs' gradient) in the place of y. Thread i takes the output channels
    from `shares[i]` to `shares[i + 1]`, so that nothing depends on the number of threads.
    """
    x_start, x_block, x_row, x_step = x_place
    z_start, z_block, z_row, _, z_channel = z_place
    blocks, rows, _, _, _, cuts = tiling
    for share in prange(shares.size - 1):
        first, last = shares[share], shares[share + 1]
        if not add:
            out[starts[first] : starts[last]] = 0
        for b in range(blocks):
            column = 0
            for tile in range(len(cuts)):
                height, cols = cuts[tile]
                h = 0
                while h < rows:
                    height = height if rows - h >= height else 1
                    base = x_start + b * x_block + h * x_row + column * x_step * WIDTH
                    place = z_start + b * z_block + h * z_row + column * WIDTH
                    _dots(height, cols, x_step, (
                        x, base, x_row, starts, offsets, first, last, z, place, z_channel, z_row, out,
                    ))  # fmt: skip
                    h += height
                column += cols
