"""The nonzero weights of one convolution or linear layer, and its three products, as the sparse kernels see them."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from sparcl_lite.engine import dense
from sparcl_lite.engine.kernels import convolution as kernels
from sparcl_lite.engine.kernels.index import Rows, Shape, add_at, backward_rows, forward_rows, gather, places, scatter
from sparcl_lite.engine.kernels.simd import WIDTH

NO_SHARES = np.empty(0, np.int64)
NO_SUMS = np.empty((0, 0, 0, 0), np.float32)
EVERYTHING = "everything"  # wanted: the gradients of all weights, also of those that do not exist
NO_ROWS = Rows(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.int32), 1)
PRODUCTS = ("forward", "input_gradient", "weight_gradient")


def is_channels_last(weight: Tensor) -> bool:
    """Whether input channels are the innermost of a convolution's weight in memory (of 1x1: as in any order)."""
    return weight.dim() == 4 and not weight.is_contiguous() and weight.is_contiguous(memory_format=torch.channels_last)


class SparseLayer:
    """The nonzero weights of a layer, where they are, and its three products.

    `mask` says which weights are active (None: all of them), `wanted` for which of these the gradient is computed.
    `dense` names the products that multiply by the zeros as well, which is faster where there are few. `collected` is
    the sum of the gradients since it was emptied, one number for each active weight. A `released` weight is stored in
    `values` only. `flat` is a linear layer, whose rows are blocks of samples: `shape.columns` of them at most. One
    with all of its weights is `whole`: three matrix products, without an index, whose gradient is that of the weight.
    """

    def __init__(self, name: str, module: nn.Module, shape: Shape, *, flat: bool):
        self.name, self.module, self.shape, self.flat = name, module, shape, flat
        self.dense: frozenset[str] = frozenset()
        self.mask: Tensor | None = None
        self.mask_version = -1
        self.wanted: Tensor | str | None = None
        self.forward_rows = self.gradient_rows = self._backward_rows = None
        self.shares = NO_SHARES
        self.places: np.ndarray | None = None  # of the wanted gradients among the weights that exist, if all do
        self.values = self.backward_values = self.gradient = np.empty(0, np.float32)
        self.turned = False  # whether `backward_values` are those of `values`
        self.weight: Tensor | None = None  # whose values were read last
        self.reading = 0  # number of the forward pass that read them
        self.collected: np.ndarray | None = None
        self.released = False
        self.given: Tensor | None = None  # the weight of the forward pass that begins
        self.shared = False  # whether the module runs more than once
        self.trains = True  # whether the backward pass that runs needs the weight's gradient

    @property
    def whole(self) -> bool:
        """Whether it is a linear layer with all of its weights."""
        return self.flat and self.mask is None

    def runs_dense(self, product: str) -> bool:
        """Whether a product multiplies by the zeros, too."""
        return self.whole or product in self.dense

    # ---- which weights there are ----------------------------------------------------------------------------------

    def index(self, mask: Tensor | None, capacity: int) -> None:
        """Take a new mask; nothing happens when it is the one already indexed.

        `capacity` is the number of blocks that flat maps are stored for.
        """
        version = -1 if mask is None else mask._version
        if self.flat and self.shape.columns != capacity:
            self.restore()
            self.shape, self.forward_rows = replace(self.shape, columns=capacity), None
        if self.forward_rows is not None and mask is self.mask and version == self.mask_version:
            return
        self.restore()
        self.mask, self.mask_version, self.reading = mask, version, 0
        self.wanted = self.collected = self.places = None
        self.forward_rows = self.gradient_rows = NO_ROWS if self.whole else self._rows(mask)
        self._backward_rows, self.shares = None, NO_SHARES
        self.values, self.gradient = (np.empty(len(self.forward_rows.source), np.float32) for _ in range(2))

    def want(self, wanted: Tensor | str | None) -> None:
        """Compute only these weights' gradients from now on (None: of all that exist; or EVERYTHING)."""
        if wanted is self.wanted:
            return
        self.wanted, self.places = wanted, None
        if self.whole or wanted is None or (wanted is EVERYTHING and self.mask is None):
            self.gradient_rows = self.forward_rows
        elif wanted is EVERYTHING:
            self.gradient_rows = self._rows(None)
        else:
            self.gradient_rows = self._rows(wanted)
            self.places = places(self.gradient_rows, self.forward_rows, self.shape)
        self.gradient = np.empty(len(self.gradient_rows.source), np.float32)
        self.shares = NO_SHARES

    @property
    def backward_rows(self) -> Rows:
        """The nonzeros by input channel, found when an input gradient first needs them."""
        if self._backward_rows is None:
            slices = kernels.slices(self.shape, len(self.forward_rows.source), back=True)
            self._backward_rows = backward_rows(self.forward_rows, self.shape, slices)
            self.backward_values = np.empty(len(self.values), np.float32)
        return self._backward_rows

    def _rows(self, mask: Tensor | None) -> Rows:
        flat = np.ones(self.shape.weights, bool) if mask is None else mask.detach().reshape(-1).numpy()
        return forward_rows(flat, self.shape, kernels.slices(self.shape, np.count_nonzero(flat)))

    def entries(self, tensor: Tensor) -> np.ndarray:
        """A weight's or mask's entries in the order of the weight in memory; shared memory if it can."""
        tensor = tensor.detach()
        if tensor.dim() == 4 and self.shape.channels_last:
            tensor = tensor.permute(0, 2, 3, 1)
        return tensor.reshape(-1).numpy()

    def per_cent(self, product: str) -> int:
        """Share of the weights that a product runs over."""
        rows = self.gradient_rows if product == "weight_gradient" else self.forward_rows
        return round(100 * len(rows.source) / self.shape.weights)

    # ---- their values -----------------------------------------------------------------------------------------------

    def read_values(self, weight: Tensor) -> None:
        """Take the weights as they are now."""
        if not self.released:
            self.weight = weight.detach()
            gather(self.entries(weight), self.forward_rows.source, self.values)
        self.turned = False

    def release(self) -> None:
        """Store the weight in `values` only: the dense parameter reads as NaN from now on."""
        if not self.released:
            self.read_values(self.module.weight)
            weight, self.released = self.module.weight, True
            self.weight = None
            weight.data = torch.full((), torch.nan).expand(weight.shape)

    def restore(self) -> None:
        """Write a released weight back to the dense parameter."""
        if self.released:
            memory, self.released = np.empty(self.shape.weights, np.float32), False
            scatter(self.values, self.forward_rows.source, memory)
            self.module.weight.data = self.shaped(memory)

    def shaped(self, memory: np.ndarray) -> Tensor:
        """Entries in the order of the weight in memory, as a tensor of its shape."""
        outputs, inputs, *kernel = self.module.weight.shape
        if self.shape.channels_last:
            return torch.from_numpy(memory).view(outputs, *kernel, inputs).permute(0, 3, 1, 2)
        return torch.from_numpy(memory).view(self.module.weight.shape)

    # ---- gradients that stay compact --------------------------------------------------------------------------------

    @property
    def collects(self) -> bool:
        """Whether gradients can stay compact: the weight is masked and trains, and only active weights are wanted."""
        exist = self.gradient_rows is self.forward_rows or self.places is not None
        weight = self.module._parameters.get("weight")  # none where it is made of others
        owned = weight is not None and weight.requires_grad and not self.shared
        return self.mask is not None and exist and not self.dense and owned

    def collect(self) -> None:
        """Add the gradient that was just computed to `collected`."""
        if self.collected is None:
            self.collected = np.zeros(len(self.forward_rows.source), np.float32)
        if self.places is None:  # of all that exist
            self.collected += self.gradient
        else:
            add_at(self.collected, self.places, self.gradient)

    def keep(self, mask: Tensor) -> None:
        """Set what was collected outside of a mask to zero."""
        if self.collected is not None:
            self.collected *= self.entries(mask)[self.forward_rows.source]

    def update(self, rate: float) -> None:
        """weight -= rate * collected; afterwards nothing is collected."""
        if self.collected is not None:
            self.release()
            self.values -= np.float32(rate) * self.collected
        self.collected = None

    # ---- the products -----------------------------------------------------------------------------------------------

    @property
    def input_place(self) -> tuple[int, int]:
        """Floats between two blocks and between two channels of the input with its border."""
        return place_of(self.shape.inputs, self.shape.rows, self.shape.columns, self.shape.border, self.flat)

    @property
    def output_place(self) -> tuple[int, int]:
        """The same of the output."""
        return place_of(self.shape.outputs, self.shape.out_rows, self.shape.out_columns, 0, self.flat)

    @property
    def gradient_place(self) -> tuple[int, int]:
        """The same of the output's gradient with its border."""
        s = self.shape
        return place_of(s.outputs, s.out_rows, s.out_columns, s.gradient_border, self.flat)

    @property
    def parts(self) -> int:
        """Pieces that the rows of the output are cut into."""
        return kernels.parts_of(self.shape.out_rows, self.shape.out_columns)

    def _extent(self, blocks: int, columns: int) -> tuple[int, int]:
        """Blocks and columns that a product runs over: of a linear layer the blocks are the columns."""
        return (1, blocks) if self.flat else (blocks, columns)

    def forward(self, x: np.ndarray, z: np.ndarray, first: int, blocks: int, partial: np.ndarray) -> None:
        """z = the layer of x, which starts at block `first` of z; sums of z go to `partial`, unless that is empty."""
        if self.runs_dense("forward"):
            return dense.forward(self, x, z, first, blocks, partial)
        shape, entries = self.shape, self.forward_rows
        line = (shape.columns + 2 * shape.border) * WIDTH
        block, channel = self.output_place
        count, columns = self._extent(blocks, shape.out_columns)
        partial[:] = 0
        kernels.multiply(
            x, (0, self.input_place[0], line * shape.stride, shape.stride),
            entries.starts, entries.slices, entries.offsets, self.values,
            z, (first * block, block, shape.out_columns * WIDTH, 1, channel),
            kernels.tiling_of(count, shape.out_rows, columns, shape.outputs), False, partial,
        )  # fmt: skip

    def input_gradient(self, dz: np.ndarray, dx: np.ndarray, first: int, blocks: int, add: bool) -> None:
        """dx = (or += with `add`) the gradient of the input; dz has a border and starts at block `first` of dx."""
        if self.runs_dense("input_gradient"):
            return dense.input_gradient(self, dz, dx, first, blocks, add)
        shape, entries, stride = self.shape, self.backward_rows, self.shape.stride
        if not self.turned:
            gather(self.values, entries.source, self.backward_values)
            self.turned = True
        line, dz_line = shape.columns * WIDTH, (shape.out_columns + 2 * shape.gradient_border) * WIDTH
        block, channel = place_of(shape.inputs, shape.rows, shape.columns, 0, self.flat)
        for row in range(stride):
            for column in range(stride):
                rows, columns = -(-(shape.rows - row) // stride), -(-(shape.columns - column) // stride)
                count, columns = self._extent(blocks, columns)
                if rows < 1 or columns < 1:
                    continue
                phase = (row * stride + column) * shape.inputs * entries.slices
                kernels.multiply(
                    dz, (0, self.gradient_place[0], dz_line, 1),
                    entries.starts[phase : phase + shape.inputs * entries.slices + 1], entries.slices,
                    entries.offsets, self.backward_values,
                    dx, (first * block + row * line + column * WIDTH, block, line * stride, stride, channel),
                    kernels.tiling_of(count, rows, columns, shape.inputs), add, NO_SUMS,
                )  # fmt: skip

    def _shares(self, threads: int) -> np.ndarray:
        """The output channels cut into a share for each thread, with about equally many wanted gradients."""
        if len(self.shares) != threads + 1:
            entries = self.gradient_rows
            ends = np.linspace(0, len(entries.source), threads + 1)
            self.shares = np.searchsorted(entries.starts[:: entries.slices], ends)
            self.shares[0], self.shares[-1] = 0, self.shape.outputs
        return self.shares

    def weight_gradient(self, x: np.ndarray, dz: np.ndarray, blocks: int, add: bool) -> None:
        """gradient = (or += with `add`) that of the wanted weights, in the order of `gradient_rows`."""
        if self.runs_dense("weight_gradient"):
            return dense.weight_gradient(self, x, dz, blocks, add)
        shape, entries = self.shape, self.gradient_rows
        line, border = (shape.columns + 2 * shape.border) * WIDTH, shape.gradient_border
        dz_line = (shape.out_columns + 2 * border) * WIDTH
        block, channel = self.gradient_place
        count, columns = self._extent(blocks, shape.out_columns)
        kernels.weight_gradient(
            x, (0, self.input_place[0], line * shape.stride, shape.stride),
            entries.starts, entries.slices, entries.offsets, self._shares(torch.get_num_threads()),
            dz, (border * (dz_line + WIDTH), block, dz_line, 1, channel),
            kernels.tiling_of(count, shape.out_rows, columns, 1), add, self.gradient,
        )  # fmt: skip


@lru_cache(maxsize=4096)
def place_of(channels: int, rows: int, columns: int, border: int, flat: bool) -> tuple[int, int]:
    """Floats between two blocks and between two channels of a map; of a flat one `columns` counts its blocks."""
    if flat:
        return WIDTH, columns * WIDTH
    channel = (rows + 2 * border) * (columns + 2 * border) * WIDTH
    return channels * channel, channel
