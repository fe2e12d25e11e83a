"""Products of a sparse convolution with feature maps whose innermost dimension is the sample.

A feature map is `[blocks, channels, rows, columns, 16]`: 16 samples of the batch side by side. A position is one
vector, and a stride only changes addresses. Each kernel loops over tiles of positions, and within a tile over all
output channels: the inputs that the tile reads stay in the cache.
"""

from functools import lru_cache

import numpy as np
from numba import njit, prange

from sparcl_lite.engine.kernels import CACHED, OPTIONS
from sparcl_lite.engine.kernels.index import Shape
from sparcl_lite.engine.kernels.simd import WIDTH, add_to, has_wide_registers
from sparcl_lite.engine.kernels.tiles import sums, tile_functions

INNERMOST_CACHE = 32 * 1024  # bytes; processors have 32 to 48 KiB
FEWEST = 10  # nonzeros of a row that a slice of the channels must have
ENOUGH_UNITS = 8  # pieces of work that keep a few threads evenly busy
PARTS = 4  # pieces that the rows of a block are cut into: the units of work, whatever the number of threads

#: Tiles (rows, columns): up to 16 positions, half of the 512-bit registers; fewer where a vector takes several.
WIDE = ((1, 16), (2, 8), (1, 8), (2, 7), (1, 7), (4, 4), (1, 4), (1, 2), (1, 1))
TILES = WIDE if has_wide_registers() else ((1, 7), (1, 4), (1, 2), (1, 1))


def cut(width: int) -> np.ndarray:
    """The tiles that a row of so many positions is cut into, left to right: (rows, columns, kind, kind of one row).

    As wide as possible, and as tall as the registers allow; the last rows of a feature map may take tiles of one row.
    """
    shapes = sorted(TILES, key=lambda shape: (-shape[1], -shape[0]))
    for rows, columns in shapes:
        if width % columns == 0 and columns >= min(4, width):
            return np.array([_tile(rows, columns)] * (width // columns))
    rows, columns = next(shape for shape in shapes if shape[1] <= width)
    return np.concatenate([[_tile(rows, columns)], cut(width - columns)])


def _tile(rows: int, columns: int) -> tuple[int, int, int, int]:
    return rows, columns, TILES.index((rows, columns)), TILES.index((1, columns))


def slices(shape: Shape, nonzeros: int, *, back: bool = False) -> int:
    """Slices of the channels that a product reads, so that what a tile reads of one fits into the innermost cache.

    `back` is for the input gradient. With too few nonzeros of a row in a slice they would not pay: the results of a row
    are stored after each slice.
    """
    if shape.groups > 1:
        return 1
    step, reach = (1, -(-shape.kernel // shape.stride) - 1) if back else (shape.stride, shape.kernel - shape.stride)
    channels, rows = (shape.outputs, shape.inputs * shape.stride**2) if back else (shape.inputs, shape.outputs)
    height, width, *_ = cut(shape.out_columns)[0]
    read = channels * (height * step + reach) * (width * step + reach) * WIDTH * np.float32().nbytes
    return int(max(1, min(-(-read // INNERMOST_CACHE), nonzeros // (FEWEST * rows))))


@lru_cache(maxsize=4096)
def parts_of(rows: int, columns: int) -> int:
    """Pieces that so many rows of an output are cut into."""
    return min(PARTS, -(-rows // int(cut(columns)[:, 0].max())))


@lru_cache(maxsize=4096)
def tiling_of(blocks: int, rows: int, columns: int, channels: int) -> tuple:
    """How a product of so many blocks and channels of the result is cut up (`tiling` of the products below)."""
    cuts = cut(columns)
    tallest = int(cuts[:, 0].max())
    units = blocks * parts_of(rows, columns)
    pieces = min(channels, max(1, -(-ENOUGH_UNITS // units)))
    return blocks, rows, tallest, pieces, cuts


def _functions(rows: int, cols: int, step: int):
    """Both products on one tile, the positions of x lying `step` apart."""
    near, far = tile_functions(rows, cols, 1), tile_functions(rows, cols, 2)
    zeros, read, write, _, _, _ = near
    _, read_apart, write_apart, _, _, _ = far
    multiply_tile, dot, add_four_dots = (near if step == 1 else far)[3:]

    @njit(**OPTIONS)
    def product(_, arguments):
        x, base, x_row, nonzeros, offsets, values, outputs, y, place, y_channel, y_row, y_step, add, sums_at = arguments
        (starts, slices, number), (first, last), (partial, spot) = nonzeros, outputs, sums_at
        for o in range(first, last):
            begin, end = starts[o * slices + number], starts[o * slices + number + 1]
            where, ends = place + o * y_channel, partial.size > 0 and number == slices - 1
            if begin == end and add and not ends:
                continue
            if y_step == 1:
                tile = read(y, where, y_row) if add else zeros()
                tile = multiply_tile(tile, x, offsets, values, begin, end, base, x_row)
                write(y, where, y_row, tile)
            else:
                tile = read_apart(y, where, y_row) if add else zeros()
                tile = multiply_tile(tile, x, offsets, values, begin, end, base, x_row)
                write_apart(y, where, y_row, tile)
            if ends:
                total, squares = sums(tile)
                add_to(partial, spot + o * 2 * WIDTH, total)
                add_to(partial, spot + o * 2 * WIDTH + WIDTH, squares)

    @njit(**OPTIONS)
    def dots(_, arguments):
        x, base, x_row, nonzeros, offsets, outputs, z, place, z_channel, z_row, out = arguments
        (starts, slices, number), (first, last) = nonzeros, outputs
        for o in range(first, last):
            begin, end = starts[o * slices + number], starts[o * slices + number + 1]
            if begin == end:
                continue
            tile = read(z, place + o * z_channel, z_row)
            fours = begin + (end - begin) // 4 * 4
            for k in range(begin, fours, 4):
                add_four_dots(tile, x, base, offsets, k, x_row, out)
            for k in range(fours, end):
                out[k] += dot(tile, x, base + offsets[k], x_row)

    return product, dots


def _chosen(functions: list):
    """One function that calls the one with a given number: each tile is code of its own."""
    first, *others = functions
    if not others:
        return first
    other = _chosen(others)

    @njit(**OPTIONS)
    def chosen(number, arguments):
        if number == 0:
            first(0, arguments)
        else:
            other(number - 1, arguments)

    return chosen


KINDS = len(TILES)
_FUNCTIONS = [_functions(*tile, step) for step in (1, 2) for tile in TILES]
_product, _dots = (_chosen(list(kind)) for kind in zip(*_FUNCTIONS, strict=True))


@njit(parallel=True, **CACHED)
def multiply(x, x_place, starts, slices, offsets, values, y, y_place, tiling, add, partial):
    """y = sum over nonzeros of value * x, or y += with `add`; the nonzeros of each output channel as `Rows` has them.

    A tile takes one slice of the channels of x after the other, so that what it reads of a slice stays in the innermost
    cache while all output channels use it.

    `x_place` is (start, block, row, step) and `y_place` (start, block, row, step, channel): where the first position
    lies and how far apart the next ones are, in floats (steps in positions). `tiling` is (blocks, rows, tallest
    tile, pieces of the channels, the tiles of a row as `cut` has them). Sums and sums of squares of y, by sample, are
    added to `partial` `[blocks, parts, channels, 2, 16]` unless it is empty.
    """
    x_start, x_block, x_row, x_step = x_place
    y_start, y_block, y_row, y_step, y_channel = y_place
    blocks, rows, tallest, pieces, cuts = tiling
    channels = (starts.size - 1) // slices
    groups = (rows + tallest - 1) // tallest
    parts = min(PARTS, groups)
    for unit in prange(blocks * parts * pieces):
        rest, piece = divmod(np.int64(unit), pieces)  # numba would mix signed and unsigned into floats
        b, part = divmod(rest, parts)
        sums_at = (partial, (b * parts + part) * channels * 2 * WIDTH)
        first, last = channels * piece // pieces, channels * (piece + 1) // pieces
        column = 0
        for tile in range(len(cuts)):
            height, cols, kind, single = cuts[tile]
            h, end = groups * part // parts * tallest, min(rows, groups * (part + 1) // parts * tallest)
            while h < end:
                if end - h < height:
                    height, kind = 1, single
                base = x_start + b * x_block + h * x_row + column * x_step * WIDTH
                place = y_start + b * y_block + h * y_row + column * y_step * WIDTH
                for number in range(slices):
                    _product(kind + (x_step - 1) * KINDS, (
                        x, base, x_row, (starts, slices, number), offsets, values, (first, last),
                        y, place, y_channel, y_row, y_step, add or number > 0, sums_at,
                    ))  # fmt: skip
                h += height
            column += cols


@njit(parallel=True, **CACHED)
def weight_gradient(x, x_place, starts, slices, offsets, shares, z, z_place, tiling, add, out):
    """out = (or += with `add`) the gradient of each listed weight: its input times the gradient of its output.

    Arguments as in `multiply`, with z (the outputs' gradient) in the place of y. Thread i takes the output channels
    from `shares[i]` to `shares[i + 1]`, so that the bits do not depend on the number of threads.
    """
    x_start, x_block, x_row, x_step = x_place
    z_start, z_block, z_row, _, z_channel = z_place
    blocks, rows, _, _, cuts = tiling
    for share in prange(shares.size - 1):
        first, last = shares[share], shares[share + 1]
        if not add:
            out[starts[first * slices] : starts[last * slices]] = 0
        for b in range(blocks):
            column = 0
            for tile in range(len(cuts)):
                height, cols, kind, single = cuts[tile]
                h = 0
                while h < rows:
                    if rows - h < height:
                        height, kind = 1, single
                    base = x_start + b * x_block + h * x_row + column * x_step * WIDTH
                    place = z_start + b * z_block + h * z_row + column * WIDTH
                    for number in range(slices):
                        _dots(kind + (x_step - 1) * KINDS, (
                            x, base, x_row, (starts, slices, number), offsets, (first, last),
                            z, place, z_channel, z_row, out,
                        ))  # fmt: skip
                    h += height
                column += cols
