"""Forward and backward of a `Trunk`, and the memory that they need.

A forward pass keeps the outputs of the convolutions only. The backward pass computes every other activation again, for
a few blocks of 16 samples at a time, so that it is still in the cache when it is used.
"""

from collections.abc import Iterator

import numpy as np
from torch import nn

from sparcl_lite.engine.kernels import normalisation as norms
from sparcl_lite.engine.kernels.layout import aligned, blocks_for, pack, pool, spread
from sparcl_lite.engine.kernels.simd import WIDTH
from sparcl_lite.engine.layers import SparseConvolution
from sparcl_lite.engine.trunk import Block, Trunk, Unit

GROUP_BYTES = 6_000_000  # of one feature map: blocks of samples are processed together up to this size
NO_FACTORS, NO_MAP = np.empty((0, 0), np.float32), np.empty(0, np.float32)


class State:
    """What a pass keeps of one unit: its convolution's output, and its batch norm as seen by each sample."""

    def __init__(self, unit: Unit, blocks: int, level: int):
        self.unit, self.level, shape = unit, level, unit.convolution.shape
        self.z = aligned(blocks * unit.convolution.output_block)
        self.scale, self.shift = (aligned(shape.outputs, blocks * WIDTH) for _ in range(2))
        self.size = (shape.outputs, shape.out_rows, shape.out_columns)
        self.mean = self.inverse = NO_FACTORS
        self.d_weight, self.d_bias = np.empty(shape.outputs, np.float32), np.empty(shape.outputs, np.float32)


class Pass:
    """One forward pass and its backward pass, for up to `samples` samples; the memory serves again and again."""

    def __init__(self, trunk: Trunk, samples: int):
        self.trunk, self.capacity = trunk, blocks_for(samples)
        self.chunk_of = np.full(self.capacity * WIDTH, -1, np.int64)
        self._make_states()
        layers = [u.convolution for u in trunk.units]
        largest = max(self._group(c) * max(c.input_block, c.gradient_block) for c in layers)
        self.x, self.dz, self.dz_shortcut = (aligned(largest) for _ in range(3))
        widest = max(c.shape.outputs for c in layers)
        sums = max(self.capacity * c.parts * c.shape.outputs for c in layers)
        self.partial, self.partial_shortcut = (aligned(sums * 2 * WIDTH) for _ in range(2))
        self.sums = aligned(widest * 2 * self.capacity * WIDTH)
        self.factors, self.factors_shortcut = (aligned(widest * 3 * self.capacity * WIDTH) for _ in range(2))

    def _make_states(self) -> None:
        """States, and memory for the gradients of activations: two buffers for each size of feature map ("level").

        A level's second buffer shares its memory with the buffers of all later levels: the backward pass has finished
        with those levels before it needs that buffer.
        """
        self.states, sizes = {}, []
        for unit in self.trunk.units:
            size = self.capacity * unit.convolution.output_block
            if not sizes or size != sizes[-1]:
                sizes.append(size)
            self.states[id(unit)] = State(unit, self.capacity, len(sizes) - 1)
        lengths = [0]
        for size in reversed(sizes):
            lengths.append(size + max(size, lengths[-1]))
        memory, start = aligned(lengths[-1]), 0
        self.gradients = []
        for size in sizes:
            self.gradients.append((memory[start : start + size], memory[start + size : start + 2 * size]))
            start += size

    def _group(self, convolution: SparseConvolution) -> int:
        size = 4 * max(convolution.input_block, convolution.gradient_block)
        return max(1, min(self.capacity, GROUP_BYTES // size))

    def _groups(self, unit: Unit) -> Iterator[tuple[int, int]]:
        """(first block, number of blocks) of the groups that are processed together."""
        step = self._group(unit.convolution)
        for first in range(0, self.used, step):
            yield first, min(step, self.used - first)

    def holds(self, samples: int) -> bool:
        """Whether there is memory for so many samples."""
        return blocks_for(samples) <= self.capacity

    def try_products(self, unit: Unit) -> None:
        """Run the three products of a unit once, on whatever the memory holds, to time them."""
        convolution, self.used = unit.convolution, self.capacity
        first, count = next(self._groups(unit))
        x, dz = self.x[: count * convolution.input_block], self.dz[: count * convolution.gradient_block]
        self._convolve(unit, x, first, count, self.partial)
        if unit is not self.trunk.stem:
            convolution.input_gradient(dz, self.gradients[0][0], first, count, False)
        convolution.weight_gradient(x, dz, count, False)

    # ---- forward ------------------------------------------------------------------------------------------------

    def forward(self, images: np.ndarray, chunks: tuple[int, ...], features: np.ndarray) -> None:
        """features `(N, C)` of images `(N, C, H, W)`; `chunks` sum to N and keep separate statistics."""
        self.images, self.used, self.chunks = images, blocks_for(len(images)), chunks
        self.chunk_of[:] = -1
        self.chunk_of[: len(images)] = np.repeat(np.arange(len(chunks)), chunks)
        stem = self.trunk.stem
        for first, count in self._groups(stem):
            self._convolve(stem, self._input(first, count), first, count, self.partial)
        self._normalise(stem, self.partial)
        for number, block in enumerate(self.trunk.blocks):
            for first, count in self._groups(block.first):
                x = self._output_of(number, first, count)
                self._convolve(block.first, x, first, count, self.partial)
                if block.shortcut:
                    self._convolve(block.shortcut, x, first, count, self.partial_shortcut)
            self._normalise(block.first, self.partial)
            if block.shortcut:
                self._normalise(block.shortcut, self.partial_shortcut)
            for first, count in self._groups(block.second):
                self._convolve(block.second, self._inner(block, first, count), first, count, self.partial)
            self._normalise(block.second, self.partial)
        last = self.trunk.blocks[-1].second
        for first, count in self._groups(last):
            y = self._output_of(len(self.trunk.blocks), first, count)
            pool(y, features, first, *self.states[id(last)].size[1:])

    def _input(self, first: int, count: int) -> np.ndarray:
        x = self.x[: count * self.trunk.stem.convolution.input_block]
        pack(self.images, x, first)
        return x

    def _convolve(self, unit: Unit, x: np.ndarray, first: int, count: int, partial: np.ndarray) -> None:
        unit.convolution.forward(x, self.states[id(unit)].z, first, count, self._partial(unit, partial))

    def _partial(self, unit: Unit, partial: np.ndarray) -> np.ndarray:
        convolution = unit.convolution
        shape = (self.used * convolution.parts, convolution.shape.outputs, 2, WIDTH)
        return partial[: np.prod(shape)].reshape(shape)

    def _normalise(self, unit: Unit, partial: np.ndarray) -> None:
        """The statistics that the unit's batch norm uses, and what they make of scale and shift."""
        norm, state = unit.norm, self.states[id(unit)]
        self.sizes = np.array(self.chunks, float) * np.prod(state.size[1:])
        running_mean, running_variance = norm.running_mean.numpy(), norm.running_var.numpy()
        if norm.training:
            state.mean, state.inverse = (np.empty((state.size[0], len(self.chunks)), np.float32) for _ in range(2))
            moving = (running_mean, running_variance, norm.momentum, norm.eps)
            partial = self._partial(unit, partial)
            norms.statistics(
                partial, unit.convolution.parts, self.chunk_of, self.sizes, moving, state.mean, state.inverse
            )
            norm.num_batches_tracked += len(self.chunks)
        else:
            state.mean = np.repeat(running_mean[:, None], len(self.chunks), 1)
            state.inverse = np.repeat(1 / np.sqrt(running_variance + norm.eps)[:, None], len(self.chunks), 1)
        norms.coefficients(state.mean, state.inverse, *_affine(norm), self.chunk_of, state.scale, state.shift)

    # ---- activations, computed where they are needed ------------------------------------------------------------

    def _output_of(self, number: int, first: int, count: int) -> np.ndarray:
        """The output of the first so many residual blocks (0: of the stem), with a border."""
        if number == 0:
            return self._activate(norms.RELU, self.trunk.stem, first, count)
        block = self.trunk.blocks[number - 1]
        if block.shortcut:
            return self._activate(norms.PROJECTED, block.second, first, count, self.states[id(block.shortcut)])
        self._output_of(number - 1, first, count)
        return self._activate(norms.IDENTITY, block.second, first, count)

    def _inner(self, block: Block, first: int, count: int) -> np.ndarray:
        return self._activate(norms.RELU, block.first, first, count)

    def _activate(self, kind: int, unit: Unit, first: int, count: int, other: State | None = None) -> np.ndarray:
        state, y = self.states[id(unit)], self.x[: count * unit.convolution.gradient_block]
        more = (other.z, other.scale, other.shift) if other else (y, NO_FACTORS, NO_FACTORS)
        norms.activate(kind, state.z, state.scale, state.shift, *more, y, first, *state.size)
        return y

    # ---- backward -----------------------------------------------------------------------------------------------

    def backward(self, d_features: np.ndarray) -> None:
        """Leaves the gradients in the states' `d_weight` and `d_bias` and in the convolutions' `gradient`."""
        blocks = self.trunk.blocks
        last = self.states[id(blocks[-1].second)]
        dy = self.gradients[last.level][0]
        spread(d_features, dy[: self.used * last.unit.convolution.output_block], last.size[1] * last.size[2])
        for first, count in self._groups(last.unit):
            self._through_relu(last, dy, self._output_of(len(blocks), first, count), first, count)
        for number in reversed(range(len(blocks))):
            dy = self._block_backward(number, dy)
        stem = self.trunk.stem
        self._factors(self.states[id(stem)], self.factors)
        for first, count in self._groups(stem):
            dz = self._before_norm(stem, dy, self.factors, self.dz, first, count)
            stem.convolution.weight_gradient(self._input(first, count), dz, count, first > 0)

    def _block_backward(self, number: int, dy: np.ndarray) -> np.ndarray:
        """The gradient at a block's input, before the ReLU in front of it, from the gradient at the block's output."""
        block = self.trunk.blocks[number]
        inner, second = self.states[id(block.first)], self.states[id(block.second)]
        d_inner = self.gradients[inner.level][1]
        self._factors(second, self.factors)
        for first, count in self._groups(block.second):
            dz = self._before_norm(block.second, dy, self.factors, self.dz, first, count)
            block.second.convolution.weight_gradient(self._inner(block, first, count), dz, count, first > 0)
            block.second.convolution.input_gradient(dz, d_inner, first, count, False)
            self._sum(norms.FROM_INPUT, inner, d_inner, NO_MAP, first, count)
        self._factors(inner, self.factors)
        dx = dy
        if block.shortcut:
            shortcut = self.states[id(block.shortcut)]
            self._sum(norms.ALL, shortcut, dy, NO_MAP, 0, self.used)
            self._factors(shortcut, self.factors_shortcut)
            dx = self.gradients[self._before(number).level][0]
        for first, count in self._groups(block.first):
            self._enter_block(number, dy, d_inner, dx, first, count)
        return dx

    def _enter_block(
        self, number: int, dy: np.ndarray, d_inner: np.ndarray, dx: np.ndarray, first: int, count: int
    ) -> None:
        """Backward pass of the first convolution, the shortcut and the ReLU in front of them."""
        block, before = self.trunk.blocks[number], self._before(number)
        x = self._output_of(number, first, count)
        dz = self._before_norm(block.first, d_inner, self.factors, self.dz, first, count)
        block.first.convolution.weight_gradient(x, dz, count, first > 0)
        block.first.convolution.input_gradient(dz, dx, first, count, block.shortcut is None)
        if block.shortcut:
            dz = self._before_norm(block.shortcut, dy, self.factors_shortcut, self.dz_shortcut, first, count)
            block.shortcut.convolution.weight_gradient(x, dz, count, first > 0)
            block.shortcut.convolution.input_gradient(dz, dx, first, count, True)
        self._through_relu(before, dx, x, first, count)

    def _before(self, number: int) -> State:
        """The state of the last unit before a block."""
        return self.states[id(self.trunk.blocks[number - 1].second if number else self.trunk.stem)]

    def _through_relu(self, state: State, dy: np.ndarray, y: np.ndarray, first: int, count: int) -> None:
        self._sum(norms.FROM_OUTPUT, state, dy, y, first, count)

    def _sum(self, passes: int, state: State, dy: np.ndarray, y: np.ndarray, first: int, count: int) -> None:
        norms.gradient_sums(
            passes,
            dy,
            state.z,
            state.scale,
            state.shift,
            y,
            self._shaped(self.sums, state, 2),
            first,
            count,
            *state.size,
        )

    def _shaped(self, memory: np.ndarray, state: State, numbers: int) -> np.ndarray:
        shape = (state.size[0], numbers, self.capacity * WIDTH)
        return memory[: np.prod(shape)].reshape(shape)

    def _factors(self, state: State, factors: np.ndarray) -> None:
        """From the sums of a unit's gradient: the gradients of its batch norm, and the factors of dz."""
        norm = state.unit.norm
        sizes = np.array(self.chunks, float) * np.prod(state.size[1:])
        norms.gradient_coefficients(
            self._shaped(self.sums, state, 2), self.chunk_of, sizes, state.mean, state.inverse, _affine(norm)[0],
            norm.training, self._shaped(factors, state, 3), state.d_weight, state.d_bias,
        )  # fmt: skip

    def _before_norm(
        self, unit: Unit, dy: np.ndarray, factors: np.ndarray, memory: np.ndarray, first: int, count: int
    ) -> np.ndarray:
        """The gradient at a convolution's output, with a border, from the gradient at its batch norm's output."""
        state = self.states[id(unit)]
        dz = memory[: count * unit.convolution.gradient_block]
        norms.input_gradient(dy, state.z, self._shaped(factors, state, 3), dz, first, *state.size)
        return dz


def _affine(norm: nn.BatchNorm2d) -> tuple[np.ndarray, np.ndarray]:
    return norm.weight.detach().numpy(), norm.bias.detach().numpy()
