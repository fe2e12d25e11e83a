"""Batch norm, ReLU and the residual sum in one pass over a feature map, forward and backward.

Feature maps are `[blocks, channels, rows, columns, 16]` as in `convolution`; a zero border adds two rows and columns.
Samples belong to chunks (current batch, replay batches), each with batch statistics of its own: `chunk_of` is the chunk
of each sample, -1 for those that pad the last block. Scale and shift are stored for each channel and sample. They are
zero for the padding, whose activations and gradients therefore stay zero.
"""

import numpy as np
from numba import njit, prange

from sparcl_lite.engine.kernels import CACHED
from sparcl_lite.engine.kernels.simd import WIDTH, fma, load, nothing, plus, store, where_positive

RELU, IDENTITY, PROJECTED = 0, 1, 2  # what is added before the ReLU: nothing, the block's input, its projection
FROM_INPUT, FROM_OUTPUT, ALL = 0, 1, 2  # where a gradient passes: where bn(z) > 0, where y > 0, everywhere


@njit(parallel=True, **CACHED)
def statistics(partial, parts, chunk_of, sizes, batch_norm, mean, inverse):
    """Mean and 1 / standard deviation `[channels, chunks]`, and the running statistics as after a pass per chunk.

    `partial` holds the sums of `convolution.multiply`; `sizes` counts the values of a channel in each chunk;
    `batch_norm` is (running mean, running variance, momentum, epsilon).
    """
    running_mean, running_variance, momentum, epsilon = batch_norm
    channels, chunks = mean.shape
    blocks = partial.shape[0] // parts
    for c in prange(channels):
        total, squares = np.zeros(chunks), np.zeros(chunks)
        for b in range(blocks):
            for part in range(parts):
                for lane in range(WIDTH):
                    k = chunk_of[b * WIDTH + lane]
                    if k >= 0:
                        total[k] += partial[b * parts + part, c, 0, lane]
                        squares[k] += partial[b * parts + part, c, 1, lane]
        for k in range(chunks):
            m = total[k] / sizes[k]
            variance = max(squares[k] / sizes[k] - m * m, 0.0)
            mean[c, k], inverse[c, k] = m, 1 / np.sqrt(variance + epsilon)
            unbiased = variance * sizes[k] / (sizes[k] - 1)
            running_mean[c] += momentum * (m - running_mean[c])
            running_variance[c] += momentum * (unbiased - running_variance[c])


@njit(**CACHED)
def coefficients(mean, inverse, weight, bias, chunk_of, scale, shift):
    """bn(z) = scale z + shift, by channel and sample `[channels, samples]`."""
    for c in range(mean.shape[0]):
        for lane in range(chunk_of.size):
            k = chunk_of[lane]
            scale[c, lane] = inverse[c, k] * weight[c] if k >= 0 else 0
            shift[c, lane] = bias[c] - mean[c, k] * scale[c, lane] if k >= 0 else 0


@njit(parallel=True, **CACHED)
def activate(kind, z, scale, shift, other, other_scale, other_shift, y, first_block, channels, rows, columns):
    """y = relu(bn(z) [+ other | + bn(other)]) with a zero border; z is whole, the others start at `first_block`.

    `other` is the block's input with its border (IDENTITY, may be y itself) or a whole feature map like z (PROJECTED).
    """
    line = (columns + 2) * WIDTH
    samples = scale.size // channels
    for unit in prange(y.size // ((rows + 2) * line)):
        b, c = divmod(np.int64(unit), channels)
        coefficient = c * samples + (first_block + b) * WIDTH
        a, s = load(scale, coefficient), load(shift, coefficient)
        if kind == PROJECTED:
            a2, s2 = load(other_scale, coefficient), load(other_shift, coefficient)
        source = ((first_block + b) * channels + c) * rows * columns * WIDTH
        target = unit * (rows + 2) * line
        y[target : target + line] = 0
        y[target + (rows + 1) * line : target + (rows + 2) * line] = 0
        for h in range(rows):
            place = target + (h + 1) * line
            store(y, place, nothing())
            for _ in range(columns):
                place += WIDTH
                v = fma(load(z, source), a, s)
                if kind == IDENTITY:
                    v = plus(v, load(other, place))
                elif kind == PROJECTED:
                    v = plus(v, fma(load(other, source), a2, s2))
                store(y, place, where_positive(v, v))
                source += WIDTH
            store(y, place + WIDTH, nothing())


@njit(parallel=True, **CACHED)
def gradient_sums(passes, dy, z, scale, shift, y, sums, first_block, blocks, channels, rows, columns):
    """dy = its part that passes the ReLU, in place, and for each channel and sample the sums of dy and of dy z.

    `passes` says where the ReLU's argument was positive; y (with border) starts at `first_block`, the rest is whole.
    `sums` is `[channels, 2, samples]`.
    """
    line = (columns + 2) * WIDTH
    samples = scale.size // channels
    for unit in prange(blocks * channels):
        b, c = divmod(np.int64(unit), channels)
        coefficient = c * samples + (first_block + b) * WIDTH
        a, s = load(scale, coefficient), load(shift, coefficient)
        source = ((first_block + b) * channels + c) * rows * columns * WIDTH
        total, product = nothing(), nothing()
        for h in range(rows):
            place = unit * (rows + 2) * line + (h + 1) * line + WIDTH
            for _ in range(columns):
                value, gradient = load(z, source), load(dy, source)
                if passes == FROM_INPUT:
                    gradient = where_positive(fma(value, a, s), gradient)
                    store(dy, source, gradient)
                elif passes == FROM_OUTPUT:
                    gradient = where_positive(load(y, place), gradient)
                    store(dy, source, gradient)
                total, product = plus(total, gradient), fma(gradient, value, product)
                source += WIDTH
                place += WIDTH
        slot = 2 * c * samples + (first_block + b) * WIDTH
        store(sums, slot, total)
        store(sums, slot + samples, product)


@njit(parallel=True, **CACHED)
def gradient_coefficients(sums, chunk_of, sizes, mean, inverse, weight, training, factors, d_weight, d_bias):
    """dz = factors[0] dy + factors[1] z + factors[2], by channel and sample, and the gradients of weight and bias.

    `factors` is `[channels, 3, samples]`. In evaluation mode statistics are constants.
    """
    channels, chunks = mean.shape
    for c in prange(channels):
        total, product = np.zeros(chunks), np.zeros(chunks)
        for lane in range(chunk_of.size):
            k = chunk_of[lane]
            if k >= 0:
                total[k] += sums[c, 0, lane]
                product[k] += sums[c, 1, lane]
        product -= mean[c] * total
        d_bias[c] = total.sum()
        d_weight[c] = (product * inverse[c]).sum()
        for lane in range(chunk_of.size):
            k = chunk_of[lane]
            factors[c, :, lane] = 0
            if k >= 0:
                f = weight[c] * inverse[c, k]
                factors[c, 0, lane] = f
                if training:
                    slope = f * inverse[c, k] ** 2 * product[k] / sizes[k]
                    factors[c, 1, lane] = -slope
                    factors[c, 2, lane] = slope * mean[c, k] - f * total[k] / sizes[k]


@njit(parallel=True, **CACHED)
def input_gradient(dy, z, factors, dz, first_block, channels, rows, columns):
    """dz with a zero border, starting at `first_block`, from whole dy and z."""
    line = (columns + 2) * WIDTH
    samples = factors.size // (3 * channels)
    for unit in prange(dz.size // ((rows + 2) * line)):
        b, c = divmod(np.int64(unit), channels)
        slot = 3 * c * samples + (first_block + b) * WIDTH
        f, g, constant = load(factors, slot), load(factors, slot + samples), load(factors, slot + 2 * samples)
        source = ((first_block + b) * channels + c) * rows * columns * WIDTH
        target = unit * (rows + 2) * line
        dz[target : target + line] = 0
        dz[target + (rows + 1) * line : target + (rows + 2) * line] = 0
        for h in range(rows):
            place = target + (h + 1) * line
            store(dz, place, nothing())
            for _ in range(columns):
                place += WIDTH
                store(dz, place, fma(load(dy, source), f, fma(load(z, source), g, constant)))
                source += WIDTH
            store(dz, place + WIDTH, nothing())
