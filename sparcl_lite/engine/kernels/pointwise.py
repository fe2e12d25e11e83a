"""Batch norm, bias, ReLU and sums in one pass over a feature map, forward and backward.

Maps lie as `layout` says, in places of (floats between blocks, floats between channels); one with a border of zeros has
that many more rows and columns on each side. Samples belong to chunks (current batch, replay batches), each with batch
statistics of its own: `chunk_of` is the chunk of each sample, -1 for those that fill the last block. Scale and shift
are stored for each channel and sample. They are zero for the fillers, so their activations and gradients stay zero.
"""

import numpy as np
from numba import njit, prange

from sparcl_lite.engine.kernels import CACHED, OPTIONS
from sparcl_lite.engine.kernels.simd import WIDTH, between, clip, fma, load, nothing, plus, store


@njit(parallel=True, **CACHED)
def map_sums(z, place, positions, partial):
    """Sums and sums of squares of a map by sample, as `convolution.multiply` has them: `[blocks, channels, 2, 16]`."""
    blocks, channels = partial.shape[:2]
    flat = partial.reshape(partial.size)
    for unit in prange(blocks * channels):
        b, c = divmod(np.int64(unit), channels)
        source, total, squares = b * place[0] + c * place[1], nothing(), nothing()
        for _ in range(positions):
            value = load(z, source)
            total, squares = plus(total, value), fma(value, value, squares)
            source += WIDTH
        store(flat, unit * 2 * WIDTH, total)
        store(flat, unit * 2 * WIDTH + WIDTH, squares)


@njit(parallel=True, **CACHED)
def statistics(partial, parts, chunk_of, sizes, offset, running, batch_norm, mean, inverse):
    """Mean and 1 / standard deviation `[channels, chunks]`, and the running statistics as after a pass per chunk.

    `partial` holds the sums of `convolution.multiply`; `sizes` counts the values of a channel in each chunk; `offset`
    was added to the map by a bias. `running` is (mean, variance), empty where none are kept; `batch_norm` is (momentum
    of each chunk, epsilon).
    """
    (running_mean, running_variance), (momenta, epsilon) = running, batch_norm
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
            if running_mean.size > 0:
                unbiased = variance * sizes[k] / (sizes[k] - 1)
                running_mean[c] += momenta[k] * (m + offset[c] - running_mean[c])
                running_variance[c] += momenta[k] * (unbiased - running_variance[c])


@njit(**CACHED)
def coefficients(mean, inverse, weight, bias, chunk_of, scale, shift):
    """bn(z) = scale z + shift, by channel and sample `[channels, samples]`."""
    for c in range(mean.shape[0]):
        for lane in range(chunk_of.size):
            k = chunk_of[lane]
            scale[c, lane] = inverse[c, k] * weight[c] if k >= 0 else 0
            shift[c, lane] = bias[c] - mean[c, k] * scale[c, lane] if k >= 0 else 0


@njit(**OPTIONS)
def _clear_border(y, start, rows, line, border):
    """Zeros around one channel of one block, whose rows are `line` floats long."""
    y[start : start + border * line] = 0
    y[start + (border + rows) * line : start + (2 * border + rows) * line] = 0
    for h in range(border, border + rows):
        y[start + h * line : start + h * line + border * WIDTH] = 0
        y[start + (h + 1) * line - border * WIDTH : start + (h + 1) * line] = 0


@njit(parallel=True, **CACHED)
def activate(
    z, scale, shift, other, other_scale, other_shift, place, y, y_place, size, first_block, blocks, onto, bounds
):
    """y = what [onto y +] bn(z) [+ bn(other)] becomes between `bounds`, with a zero border.

    `size` is (channels, rows, columns, border); z and other are whole, y starts at `first_block`; `other` may be empty.
    """
    channels, rows, columns, border = size
    low, high = bounds
    samples = scale.size // channels
    line = (columns + 2 * border) * WIDTH
    for unit in prange(blocks * channels):
        b, c = divmod(np.int64(unit), channels)
        coefficient = c * samples + (first_block + b) * WIDTH
        a, s = load(scale, coefficient), load(shift, coefficient)
        if other.size > 0:
            a2, s2 = load(other_scale, coefficient), load(other_shift, coefficient)
        source = (first_block + b) * place[0] + c * place[1]
        target = b * y_place[0] + c * y_place[1]
        if border > 0 and not onto:
            _clear_border(y, target, rows, line, border)
        for h in range(rows):
            at = target + (h + border) * line + border * WIDTH
            for _ in range(columns):
                v = fma(load(z, source), a, s)
                if other.size > 0:
                    v = plus(v, fma(load(other, source), a2, s2))
                if onto:
                    v = plus(v, load(y, at))
                store(y, at, clip(v, low, high))
                source += WIDTH
                at += WIDTH


@njit(parallel=True, **CACHED)
def gradient_sums(dy, z, scale, place, y, y_place, size, sums, first_block, blocks, masked, bounds):
    """The sums of dy and of dy z for each channel and sample; first dy = its part where y is inside `bounds`, in place.

    Without `masked` dy stays. y, with its border, starts at `first_block`; dy and z are whole. `sums` is
    `[channels, 2, samples]`.
    """
    channels, rows, columns, border = size
    low, high = bounds
    samples = scale.size // channels
    line = (columns + 2 * border) * WIDTH
    for unit in prange(blocks * channels):
        b, c = divmod(np.int64(unit), channels)
        source = (first_block + b) * place[0] + c * place[1]
        start = b * y_place[0] + c * y_place[1] + border * (line + WIDTH)
        total, product = nothing(), nothing()
        for h in range(rows):
            at = start + h * line
            for _ in range(columns):
                value, gradient = load(z, source), load(dy, source)
                if masked:
                    gradient = between(load(y, at), low, high, gradient)
                    store(dy, source, gradient)
                    at += WIDTH
                total, product = plus(total, gradient), fma(gradient, value, product)
                source += WIDTH
        slot = 2 * c * samples + (first_block + b) * WIDTH
        store(sums, slot, total)
        store(sums, slot + samples, product)


@njit(parallel=True, **CACHED)
def gradient_coefficients(sums, chunk_of, sizes, mean, inverse, weight, training, factors, d_weight, d_bias, d_offset):
    """dz = factors[0] dy + factors[1] z + factors[2], by channel and sample, and the gradients of what is added.

    `factors` is `[channels, 3, samples]`; `d_weight` and `d_bias` are batch norm's, `d_offset` that of a bias in front.
    In evaluation mode statistics are constants.
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
        d_offset[c] = 0.0 if training else (total * inverse[c]).sum() * weight[c]
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
def input_gradient(dy, z, factors, place, dz, dz_place, size, first_block, blocks, add):
    """dz = (or += with `add`) factors[0] dy + factors[1] z + factors[2], with a zero border, from `first_block` on."""
    channels, rows, columns, border = size
    samples = factors.size // (3 * channels)
    line = (columns + 2 * border) * WIDTH
    for unit in prange(blocks * channels):
        b, c = divmod(np.int64(unit), channels)
        slot = 3 * c * samples + (first_block + b) * WIDTH
        f, g, constant = load(factors, slot), load(factors, slot + samples), load(factors, slot + 2 * samples)
        source = (first_block + b) * place[0] + c * place[1]
        target = b * dz_place[0] + c * dz_place[1]
        if border > 0 and not add:
            _clear_border(dz, target, rows, line, border)
        for h in range(rows):
            at = target + (h + border) * line + border * WIDTH
            for _ in range(columns):
                value = fma(load(dy, source), f, fma(load(z, source), g, constant))
                store(dz, at, plus(value, load(dz, at)) if add else value)
                source += WIDTH
                at += WIDTH
