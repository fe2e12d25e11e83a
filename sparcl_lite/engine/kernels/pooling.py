"""Maxima and means over windows of a feature map, forward and backward.

Windows are given by where each output row and column begins and ends, so that all kinds of pooling are one: with
padding, overlapping, or adaptive. Places and borders as in `pointwise`.
"""

import numpy as np
from numba import njit, prange

from sparcl_lite.engine.kernels import CACHED
from sparcl_lite.engine.kernels.simd import WIDTH


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
                at = target + (i * lefts.size + j) * WIDTH
                y[at : at + WIDTH] = 0
                for h in range(tops[i], bottoms[i]):
                    for w in range(lefts[j], rights[j]):
                        for lane in range(WIDTH):
                            y[at + lane] += x[source + h * line + w * WIDTH + lane]
                for lane in range(WIDTH):
                    y[at + lane] /= divisors[i, j]


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
                at = source + (i * lefts.size + j) * WIDTH
                for h in range(tops[i], bottoms[i]):
                    for w in range(lefts[j], rights[j]):
                        to = target + (h * columns + w) * WIDTH
                        for lane in range(WIDTH):
                            dx[to + lane] += dy[at + lane] / divisors[i, j]


@njit(parallel=True, **CACHED)
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
                at = target + (i * lefts.size + j) * WIDTH
                first = source + tops[i] * line + lefts[j] * WIDTH
                for lane in range(WIDTH):
                    y[at + lane] = x[first + lane]
                for h in range(tops[i], bottoms[i]):
                    for w in range(lefts[j], rights[j]):
                        for lane in range(WIDTH):
                            value = x[source + h * line + w * WIDTH + lane]
                            if value > y[at + lane]:
                                y[at + lane] = value


@njit(parallel=True, **CACHED)
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
        left = np.empty(WIDTH, np.float32)
        if not add:
            dx[target : target + rows * columns * WIDTH] = 0
        for i in range(tops.size):
            for j in range(lefts.size):
                at = (i * lefts.size + j) * WIDTH
                left[:] = dy[given + at : given + at + WIDTH]
                for h in range(tops[i], bottoms[i]):
                    for w in range(lefts[j], rights[j]):
                        to, seen = target + (h * columns + w) * WIDTH, source + h * line + w * WIDTH
                        for lane in range(WIDTH):
                            here = x[seen + lane] == y[largest + at + lane]
                            dx[to + lane] += left[lane] if here else np.float32(0)
                            left[lane] = np.float32(0) if here else left[lane]
