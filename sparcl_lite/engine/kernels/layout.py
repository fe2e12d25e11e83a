"""Aligned memory, and the ways into and out of the layouts with samples innermost.

A feature map is `[blocks, channels, rows, columns, 16]`; a flat one, of features without positions, is
`[features, blocks, 16]`. Both are described by a place: the numbers of floats between two blocks and two channels.
"""

import numpy as np
from numba import njit, prange

from sparcl_lite.engine.kernels import CACHED
from sparcl_lite.engine.kernels.simd import WIDTH, load, plus, store

ALIGNMENT = 64  # bytes: a vector, and a line of the cache


def aligned(*shape: int) -> np.ndarray:
    """Zeros (float32) that start at a multiple of 64 bytes."""
    count = int(np.prod(shape))
    memory = np.zeros(count + WIDTH, np.float32)
    start = -memory.ctypes.data % ALIGNMENT // memory.itemsize
    return memory[start : start + count].reshape(shape)


def blocks_for(samples: int) -> int:
    """Blocks of 16 that hold so many samples."""
    return -(-samples // WIDTH)


@njit(parallel=True, **CACHED)
def pack(values, y, place, blocks):
    """Values `(N, C, H, W)` of any strides into the map y; zero for the samples that fill the last block."""
    samples, channels, rows, columns = values.shape
    for unit in prange(blocks * channels):
        b, c = divmod(np.int64(unit), channels)
        start = b * place[0] + c * place[1]
        present = min(WIDTH, samples - b * WIDTH)
        for h in range(rows):
            for w in range(columns):
                at = start + (h * columns + w) * WIDTH
                for lane in range(present):
                    y[at + lane] = values[b * WIDTH + lane, c, h, w]
                for lane in range(present, WIDTH):
                    y[at + lane] = 0


@njit(parallel=True, **CACHED)
def unpack(x, place, border, first_block, blocks, values):
    """Values `(N, C, H, W)` of the samples from `first_block` on, from x, which starts there and has a border."""
    samples, channels, rows, columns = values.shape
    line = columns + 2 * border
    for unit in prange(blocks * channels):
        b, c = divmod(np.int64(unit), channels)
        first = (first_block + b) * WIDTH
        start = b * place[0] + c * place[1] + border * (line + 1) * WIDTH
        for h in range(rows):
            for w in range(columns):
                at = start + (h * line + w) * WIDTH
                for lane in range(min(WIDTH, samples - first)):
                    values[first + lane, c, h, w] = x[at + lane]


@njit(parallel=True, **CACHED)
def copy(x, x_place, y, y_place, blocks, size, add):
    """y = x, or y += x, for maps without border of `size` (channels, positions) in whatever places."""
    channels, positions = size
    for unit in prange(blocks * channels):
        b, c = divmod(np.int64(unit), channels)
        source, target = b * x_place[0] + c * x_place[1], b * y_place[0] + c * y_place[1]
        for _ in range(positions):
            value = load(x, source)
            store(y, target, plus(value, load(y, target)) if add else value)
            source += WIDTH
            target += WIDTH
