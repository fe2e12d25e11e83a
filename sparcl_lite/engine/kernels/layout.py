"""Aligned memory, and the ways into and out of the layout with samples innermost (see `convolution`)."""

import numpy as np
from numba import njit, prange

from sparcl_lite.engine.kernels import CACHED
from sparcl_lite.engine.kernels.simd import WIDTH

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
def pack(images, x, first_block):
    """Images `(N, C, H, W)` of any strides into x `[blocks, C, H + 2, W + 2, 16]`, borders and fillers zero."""
    samples, channels, rows, columns = images.shape
    x_shaped = x.reshape(
        (x.size // (channels * (rows + 2) * (columns + 2) * WIDTH), channels, rows + 2, columns + 2, WIDTH)
    )
    for unit in prange(x_shaped.shape[0] * channels):
        b, c = divmod(np.int64(unit), channels)
        plane = x_shaped[b, c]
        plane[:] = 0
        first = (first_block + b) * WIDTH
        for lane in range(min(WIDTH, samples - first)):
            for h in range(rows):
                for w in range(columns):
                    plane[h + 1, w + 1, lane] = images[first + lane, c, h, w]


@njit(parallel=True, **CACHED)
def pool(y, features, first_block, rows, columns):
    """features `(N, C)` = the mean over the positions of y `[blocks, C, rows + 2, columns + 2, 16]`."""
    samples, channels = features.shape
    line = (columns + 2) * WIDTH
    for unit in prange(y.size // ((rows + 2) * line)):
        b, c = divmod(np.int64(unit), channels)
        first = (first_block + b) * WIDTH
        for lane in range(min(WIDTH, samples - first)):
            total = np.float32(0)
            for h in range(1, rows + 1):
                for w in range(1, columns + 1):
                    total += y[unit * (rows + 2) * line + h * line + w * WIDTH + lane]
            features[first + lane, c] = total / (rows * columns)


@njit(parallel=True, **CACHED)
def spread(d_features, dy, positions):
    """The gradient of `pool`: dy `[blocks, C, positions, 16]`, zero for fillers."""
    samples, channels = d_features.shape
    for unit in prange(dy.size // (positions * WIDTH)):
        b, c = divmod(np.int64(unit), channels)
        for lane in range(WIDTH):
            sample = b * WIDTH + lane
            value = d_features[sample, c] / positions if sample < samples else np.float32(0)
            for p in range(positions):
                dy[(unit * positions + p) * WIDTH + lane] = value
