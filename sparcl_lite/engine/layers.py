"""One convolution and one batch norm of the network, as the sparse kernels see them."""

import numpy as np
import torch
from torch import Tensor, nn

from sparcl_lite.engine import dense
from sparcl_lite.engine.kernels import convolution as kernels
from sparcl_lite.engine.kernels.index import Rows, Shape, add_at, backward_rows, forward_rows, gather, places, scatter
from sparcl_lite.engine.kernels.simd import WIDTH

NO_SUMS = np.empty((0, 0, 0, 0), np.float32)
EVERYTHING = "everything"  # wanted: the gradients of all weights, also of those that do not exist
ENOUGH_UNITS = 8  # pieces of work that keep a few threads evenly busy


def flat(tensor: Tensor) -> np.ndarray:
    """A weight's (or mask's) entries in the order output, kernel row, kernel column, input; shared memory if it can."""
    return tensor.detach().permute(0, 2, 3, 1).reshape(-1).numpy()


class SparseConvolution:
    """The nonzero weights of a convolution, where they are, and its three products.

    `mask` says which weights are active (None: all of them), `wanted` for which of these the gradient is computed.
    With `dense` it multiplies by the zeros as well, which is faster where there are few. `collected` is the sum of the
    gradients since it was emptied, one number for each active weight. A `released` weight is stored in `values` only.
    """

    def __init__(self, module: nn.Conv2d, rows: int, columns: int):
        self.module = module
        self.shape = Shape(
            module.out_channels, module.in_channels, module.kernel_size[0], module.stride[0], rows, columns
        )
        self.dense = False
        self.mask: Tensor | None = None
        self.wanted: Tensor | str | None = None
        self.forward_rows = self.backward_rows = self.gradient_rows = None
        self.places: np.ndarray | None = None  # of the wanted gradients among the weights that exist, if all do
        self.values = self.backward_values = self.gradient = np.empty(0, np.float32)
        self.collected: np.ndarray | None = None
        self.released = False

    def index(self, mask: Tensor | None) -> None:
        """Take a new mask; nothing happens when it is the one already indexed."""
        if self.forward_rows is not None and mask is self.mask:
            return
        self.restore()
        self.mask, self.wanted, self.collected, self.places = mask, None, None, None
        self.forward_rows = self.gradient_rows = self._rows(mask)
        self.backward_rows = backward_rows(self.forward_rows, self.shape)
        self.values, self.backward_values, self.gradient = (
            np.empty(len(self.forward_rows.source), np.float32) for _ in range(3)
        )

    def want(self, wanted: Tensor | str | None) -> None:
        """Compute only these weights' gradients from now on (None: of all that exist; or EVERYTHING)."""
        if wanted is self.wanted:
            return
        self.wanted, self.places = wanted, None
        if wanted is None or (wanted is EVERYTHING and self.mask is None):
            self.gradient_rows = self.forward_rows
        elif wanted is EVERYTHING:
            self.gradient_rows = self._rows(None)
        else:
            self.gradient_rows = self._rows(wanted)
            self.places = places(self.gradient_rows.source, self.forward_rows.source)
        self.gradient = np.empty(len(self.gradient_rows.source), np.float32)

    @property
    def collects(self) -> bool:
        """Whether gradients can stay compact: the weight is masked and trains, and only active weights are wanted."""
        exist = self.gradient_rows is self.forward_rows or self.places is not None
        return self.mask is not None and exist and not self.dense and self.module.weight.requires_grad

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
            self.collected *= flat(mask)[self.forward_rows.source]

    def update(self, rate: float) -> None:
        """weight -= rate * collected; afterwards nothing is collected."""
        if self.collected is not None:
            self.release()
            self.values -= np.float32(rate) * self.collected
        self.collected = None

    def release(self) -> None:
        """Store the weight in `values` only: the dense parameter reads as NaN from now on."""
        if not self.released:
            self.read_values()
            weight, self.released = self.module.weight, True
            weight.data = torch.full((), torch.nan).expand(weight.shape)

    def restore(self) -> None:
        """Write a released weight back to the dense parameter."""
        if self.released:
            outputs, inputs, height, width = self.module.weight.shape
            memory, self.released = torch.empty(outputs, height, width, inputs), False
            scatter(self.values, self.forward_rows.source, memory.view(-1).numpy())
            self.module.weight.data = memory.permute(0, 3, 1, 2)

    def _rows(self, mask: Tensor | None) -> Rows:
        return forward_rows(np.ones(self.shape.weights, bool) if mask is None else flat(mask), self.shape)

    def read_values(self) -> None:
        """Take the weights as they are now."""
        if not self.released:
            gather(flat(self.module.weight), self.forward_rows.source, self.values)
        gather(self.values, self.backward_rows.source, self.backward_values)

    @property
    def density(self) -> float:
        """Share of the weights that exist."""
        return len(self.forward_rows.source) / self.shape.weights

    @property
    def input_block(self) -> int:
        """Floats of the padded input of 16 samples."""
        return self.shape.inputs * (self.shape.rows + 2) * (self.shape.columns + 2) * WIDTH

    @property
    def output_block(self) -> int:
        """Floats of the output of 16 samples."""
        return self.shape.outputs * self.shape.out_rows * self.shape.out_columns * WIDTH

    @property
    def gradient_block(self) -> int:
        """Floats of the padded gradient of the output of 16 samples."""
        return self.shape.outputs * (self.shape.out_rows + 2) * (self.shape.out_columns + 2) * WIDTH

    @property
    def parts(self) -> int:
        """Pieces that the rows of the output are cut into."""
        return min(kernels.PARTS, -(-self.shape.out_rows // self._tallest))

    @property
    def _tallest(self) -> int:
        return int(kernels.cut(self.shape.out_columns)[:, 0].max())

    def _input_place(self) -> tuple[int, int, int, int]:
        line = (self.shape.columns + 2) * WIDTH
        return 0, self.input_block, line * self.shape.stride, self.shape.stride

    def _gradient_place(self) -> tuple[int, int, int, int, int]:
        line = (self.shape.out_columns + 2) * WIDTH
        return line + WIDTH, self.gradient_block, line, 1, line * (self.shape.out_rows + 2)

    def forward(self, x: np.ndarray, z: np.ndarray, first: int, blocks: int, partial: np.ndarray) -> None:
        """z = conv(x): x (with border) starts at block `first` of z, whose sums go to `partial`."""
        line, rows = self.shape.out_columns * WIDTH, self.shape.out_rows
        place = (first * self.output_block, self.output_block, line, 1, line * rows)
        sums = partial[first * self.parts : (first + blocks) * self.parts]
        if self.dense:
            part = z[first * self.output_block : (first + blocks) * self.output_block]
            return dense.forward(self, x, part, blocks, sums)
        sums[:] = 0
        entries = self.forward_rows
        kernels.multiply(
            x, self._input_place(), entries.starts, entries.offsets, self.values, z, place,
            tiles(blocks, rows, self.shape.out_columns, self.shape.outputs), False, sums,
        )  # fmt: skip

    def input_gradient(self, dz: np.ndarray, dx: np.ndarray, first: int, blocks: int, add: bool) -> None:
        """dx = (or += with `add`) the transposed convolution of dz, which has a border and starts at `first`."""
        shape, entries, stride = self.shape, self.backward_rows, self.shape.stride
        if self.dense:
            size = shape.inputs * shape.rows * shape.columns * WIDTH
            return dense.input_gradient(self, dz, dx[first * size : (first + blocks) * size], blocks, add)
        line, dz_line = shape.columns * WIDTH, (shape.out_columns + 2) * WIDTH
        for group in range(stride**2):
            even_row, even_column = (1 - group // 2, 1 - group % 2) if stride == 2 else (0, 0)
            rows, columns = (
                n if stride == 1 else (n + 1 - even) // 2
                for n, even in ((shape.rows, even_row), (shape.columns, even_column))
            )
            if not rows or not columns:
                continue
            part = entries.starts[group * shape.inputs : (group + 1) * shape.inputs + 1]
            x_place = (even_row * dz_line + even_column * WIDTH, self.gradient_block, dz_line, 1)
            start = first * shape.inputs * shape.rows * line + even_row * line + even_column * WIDTH
            y_place = (start, shape.inputs * shape.rows * line, line * stride, stride, shape.rows * line)
            kernels.multiply(
                dz, x_place, part, entries.offsets, self.backward_values, dx, y_place,
                tiles(blocks, rows, columns, shape.inputs), add, NO_SUMS,
            )  # fmt: skip

    def weight_gradient(self, x: np.ndarray, dz: np.ndarray, blocks: int, add: bool) -> None:
        """gradient = (or += with `add`) that of the wanted weights, in the order of `gradient_rows`."""
        if self.dense:
            return dense.weight_gradient(self, x, dz, blocks, add)
        entries = self.gradient_rows
        shares = np.searchsorted(entries.starts, np.linspace(0, len(entries.source), torch.get_num_threads() + 1))
        shares[0], shares[-1] = 0, self.shape.outputs
        kernels.weight_gradient(
            x, self._input_place(), entries.starts, entries.offsets, shares, dz, self._gradient_place(),
            tiles(blocks, self.shape.out_rows, self.shape.out_columns, 1), add, self.gradient,
        )  # fmt: skip


def tiles(blocks: int, rows: int, columns: int, channels: int) -> tuple:
    """How a product of so many blocks and channels of the result is cut up (`tiling` of the kernels)."""
    cuts = kernels.cut(columns)
    tallest = int(cuts[:, 0].max())
    units = blocks * min(kernels.PARTS, -(-rows // tallest))
    pieces = min(channels, max(1, -(-ENOUGH_UNITS // units)))
    return blocks, rows, tallest, pieces, cuts
