"""Aligned memory, and the ways into and out of the layouts with samples innermost.

A feature map is `[blocks, channels, rows, columns, 16]`; a flat one, of features without positions, is
`[features, blocks, 16]`. Both are described by a place: the numbers of floats between two blocks and two channels.
"""

import numpy as np
from numba import njit, prange

from sparcl_lite.engine.kernels import CACHED
from sparcl_lite.engine.kernels.simd import WIDTH, load, plus, store, transpose

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
def pack(values, y, spread, blocks):
    """Values `(N, positions)`, flat, into the map y; zero for the samples that fill the last block.

    `spread` is (samples, floats between two blocks of y, floats between two positions).
    """
    samples, block, step = spread
    positions = values.size // samples
    squares = (positions + WIDTH - 1) // WIDTH
    for unit in prange(blocks * squares):
        b, square = divmod(np.int64(unit), squares)
        first, source = square * WIDTH, b * WIDTH * positions + square * WIDTH
        present, count = min(WIDTH, samples - b * WIDTH), min(WIDTH, positions - first)
        target = b * block + first * step
        if present == WIDTH and count == WIDTH:
            transpose(values, source, positions, y, target, step)
            continue
        for i in range(count):
            for lane in range(WIDTH):
                y[target + i * step + lane] = values[source + lane * positions + i] if lane < present else 0


@njit(parallel=True, **CACHED)
def unpack(x, values, spread, first_block, blocks):
    """Values `(N, positions)`, flat, of the samples from `first_block` on, from x, which starts there."""
    samples, block, step = spread
    positions = values.size // samples
    squares = (positions + WIDTH - 1) // WIDTH
    for unit in prange(blocks * squares):
        b, square = divmod(np.int64(unit), squares)
        sample, first = (first_block + b) * WIDTH, square * WIDTH
        present, count = min(WIDTH, samples - sample), min(WIDTH, positions - first)
        source, target = b * block + first * step, sample * positions + first
        if present == WIDTH and count == WIDTH:
            transpose(x, source, step, values, target, positions)
            continue
        for lane in range(present):
            for i in range(count):
                values[target + lane * positions + i] = x[source + i * step + lane]


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
