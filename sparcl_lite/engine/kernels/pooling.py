"""Maxima and means over windows of a feature map, forward and backward.

Windows are given by where each output row and column begins and ends, so that all kinds of pooling are one: with
padding, overlapping, or adaptive. Places and borders as in `pointwise`.
"""

import numpy as np
from numba import njit, prange

from sparcl_lite.engine.kernels import CACHED, EXACT
from sparcl_lite.engine.kernels.simd import (
    WIDTH,
    divided,
    larger,
    load,
    nothing,
    plus,
    store,
    where_equal,
    where_unequal,
)


@njit(parallel=True, **CACHED)
def average(x, x_place, y, y_place, size, windows, divisors, first_block, blocks):
    """y = the sum over each window of x divided by its divisor; x starts at `first_block`, y is whole."""
    channels, _, columns, border = size
    tops, bottoms, lefts, rights = windows
    line = (columns + 2 * border) * WIDTH
    for unit in prange(blocks * channels):
        b, c = divmod(np.int64(unit), channels)
        source = b * x_place[0] + c * x_place[1] + border * (line + WIDTH)
        target = (first_block + b) * y_place[0] + c * y_place[1]
        for i in range(tops.size):
            for j in range(lefts.size):
                total = nothing()
                for h in range(tops[i], bottoms[i]):
                    for w in range(lefts[j], rights[j]):
                        total = plus(total, load(x, source + h * line + w * WIDTH))
                store(y, target + (i * lefts.size + j) * WIDTH, divided(total, divisors[i, j]))


@njit(parallel=True, **CACHED)
def average_gradient(dy, y_place, dx, x_place, size, windows, divisors, first_block, blocks, add):
    """dx = (or += with `add`) the gradient of `average`; dy starts at `first_block`, dx is whole."""
    channels, rows, columns, _ = size
    tops, bottoms, lefts, rights = windows
    for unit in prange(blocks * channels):
        b, c = divmod(np.int64(unit), channels)
        source, target = b * y_place[0] + c * y_place[1], (first_block + b) * x_place[0] + c * x_place[1]
        if not add:
            dx[target : target + rows * columns * WIDTH] = 0
        for i in range(tops.size):
            for j in range(lefts.size):
                share = divided(load(dy, source + (i * lefts.size + j) * WIDTH), divisors[i, j])
                for h in range(tops[i], bottoms[i]):
                    for w in range(lefts[j], rights[j]):
                        to = target + (h * columns + w) * WIDTH
                        store(dx, to, plus(load(dx, to), share))


@njit(parallel=True, **EXACT)
def maximum(x, x_place, y, y_place, size, windows, divisors, first_block, blocks):
    """y = the largest value in each window of x (`divisors` are not used)."""
    channels, _, columns, border = size
    tops, bottoms, lefts, rights = windows
    line = (columns + 2 * border) * WIDTH
    for unit in prange(blocks * channels):
        b, c = divmod(np.int64(unit), channels)
        source = b * x_place[0] + c * x_place[1] + border * (line + WIDTH)
        target = (first_block + b) * y_place[0] + c * y_place[1]
        for i in range(tops.size):
            for j in range(lefts.size):
                largest = load(x, source + tops[i] * line + lefts[j] * WIDTH)
                for h in range(tops[i], bottoms[i]):
                    for w in range(lefts[j], rights[j]):
                        largest = larger(load(x, source + h * line + w * WIDTH), largest)
                store(y, target + (i * lefts.size + j) * WIDTH, largest)


@njit(parallel=True, **EXACT)
def maximum_gradient(x, x_place, y, dy, y_place, dy_place, dx, dx_place, size, windows, first_block, blocks, add):
    """dx = (or += with `add`) dy at the first largest value of each window; x and dy start at `first_block`."""
    channels, rows, columns, border = size
    tops, bottoms, lefts, rights = windows
    line = (columns + 2 * border) * WIDTH
    for unit in prange(blocks * channels):
        b, c = divmod(np.int64(unit), channels)
        source = b * x_place[0] + c * x_place[1] + border * (line + WIDTH)
        largest, given = (first_block + b) * y_place[0] + c * y_place[1], b * dy_place[0] + c * dy_place[1]
        target = (first_block + b) * dx_place[0] + c * dx_place[1]
        if not add:
            dx[target : target + rows * columns * WIDTH] = 0
        for i in range(tops.size):
            for j in range(lefts.size):
                at = (i * lefts.size + j) * WIDTH
                left, wanted = load(dy, given + at), load(y, largest + at)
                for h in range(tops[i], bottoms[i]):
                    for w in range(lefts[j], rights[j]):
                        to, value = target + (h * columns + w) * WIDTH, load(x, source + h * line + w * WIDTH)
                        store(dx, to, plus(load(dx, to), where_equal(value, wanted, left)))
                        left = where_unequal(value, wanted, left)  # the first of equal ones has taken all
