"""Memory of passes: what they use in turn, and each affine map as the samples of a pass see it."""

import numpy as np
from torch import nn

from sparcl_lite.engine.graph import Affine, Expression, Graph, Stage
from sparcl_lite.engine.kernels import pointwise
from sparcl_lite.engine.kernels.layout import aligned
from sparcl_lite.engine.kernels.simd import WIDTH
from sparcl_lite.engine.memory import GradientPlan

GROUP_BYTES = 6_000_000  # of one feature map: blocks of samples are processed together up to this size
NOTHING = np.empty(0, np.float32)
NO_FACTORS = np.empty((0, 0), np.float32)


class Workspace:
    """What passes of so many blocks use in turn: expressions, gradients, sums."""

    def __init__(self, graph: Graph, capacity: int, *, inputs_train: bool):
        self.graph, self.capacity, self.inputs_train = graph, capacity, inputs_train
        self.plan = GradientPlan(graph, capacity, inputs_train=inputs_train)
        self.gradients = aligned(self.plan.size)
        self.groups = [self._group(stage) for stage in graph.stages]
        xs, dzs, partials, sums = [0], [m.floats(capacity) for m in graph.inputs if inputs_train], [0], [0]
        for stage, group in zip(graph.stages, self.groups, strict=True):
            like = stage.expression.like
            xs.append(like.floats(group, stage.border))
            sums.append(len(stage.expression.affines) * like.channels * 2 * capacity * WIDTH)
            for op in stage.operations:
                if op.y is not None:
                    dzs.append(op.y.floats(group, op.layer.shape.gradient_border if op.layer else 0))
                    partials.append(op.y.channels * 2 * WIDTH * capacity * (op.layer.parts if op.layer else 1))
        for m in graph.inputs:
            partials.append(m.channels * 2 * WIDTH * capacity)
        most = max((len(stage.operations) for stage in graph.stages), default=1)
        self.x, self.dz, self.sums = aligned(max(xs)), aligned(max(dzs)), aligned(max(sums))
        self.partials = [aligned(max(partials)) for _ in range(max(1, most))]
        affines = [a for stage in graph.stages for a in stage.expression.affines]
        units = {a.map.channels: self._unit(a.map.channels) for a in affines if a.norm is None}
        self.factors = {
            id(a): units[a.map.channels] if a.norm is None else aligned(a.map.channels, 3, capacity * WIDTH)
            for a in affines
        }

    def _unit(self, channels: int) -> np.ndarray:
        factors = aligned(channels, 3, self.capacity * WIDTH)
        factors[:, 0] = 1
        return factors

    def _group(self, stage: Stage) -> int:
        like = stage.expression.like
        if like.flat:
            return self.capacity
        sizes = [like.floats(1, stage.border)]
        sizes += [op.y.floats(1, op.layer.shape.gradient_border) for op in stage.operations if op.layer]
        return max(1, min(self.capacity, GROUP_BYTES // (4 * max(sizes))))

    def gradient(self, expression: Expression) -> np.ndarray | None:
        """The memory of an expression's gradient; None where nothing behind it trains."""
        start = self.plan.offsets.get(id(expression))
        return None if start is None else self.gradients[start : start + expression.like.floats(self.capacity)]


class Normed:
    """An affine map as seen by each sample of a pass.

    Attributes
    ----------
    of_batch : whether statistics are the batch's
    scale, shift : of each channel and sample
    d_weight, d_bias, d_offset : gradients of the batch norm and of the bias in front, after a backward pass
    """

    def __init__(self, affine: Affine, capacity: int):
        self.affine, channels = affine, affine.map.channels
        self.scale, self.shift = (aligned(channels, capacity * WIDTH) for _ in range(2))
        self.ones, self.zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
        self.mean = self.inverse = np.empty((0, 0), np.float32)
        self.weight = self.bias = self.offset = self.d_weight = self.d_bias = self.d_offset = self.zeros
        self.of_batch = False

    def look(self) -> None:
        """Take parameters and mode as they are now."""
        norm, biased = self.affine.norm, self.affine.biased
        if biased is not None:
            self.offset = biased.bias.detach().numpy()
        if norm is not None:
            self.of_batch = norm.training or norm.running_mean is None
            known = norm.weight is not None
            self.weight = norm.weight.detach().numpy() if known else self.ones
            self.bias = norm.bias.detach().numpy() if known else self.zeros

    def begin(self, partial: np.ndarray, parts: int, chunk_of: np.ndarray, sizes: np.ndarray) -> None:
        """Take statistics, and set scale and shift."""
        norm, shape = self.affine.norm, (len(self.ones), len(sizes))
        if norm is None:
            self.scale[:] = present = chunk_of >= 0
            np.multiply(self.offset[:, None], present, out=self.shift)
            return
        if self.of_batch:
            self.mean, self.inverse = np.empty(shape, np.float32), np.empty(shape, np.float32)
            keeps = norm.training and norm.running_mean is not None
            running = (norm.running_mean.numpy(), norm.running_var.numpy()) if keeps else (NOTHING, NOTHING)
            momenta = _momenta(norm, len(sizes)) if keeps else np.zeros(len(sizes))
            pointwise.statistics(
                partial, parts, chunk_of, sizes, self.offset, running, (momenta, norm.eps), self.mean, self.inverse
            )
        else:
            mean, variance = norm.running_mean.numpy() - self.offset, norm.running_var.numpy()
            self.mean = np.repeat(mean[:, None], len(sizes), 1)
            self.inverse = np.repeat(1 / np.sqrt(variance + norm.eps)[:, None], len(sizes), 1).astype(np.float32)
        pointwise.coefficients(self.mean, self.inverse, self.weight, self.bias, chunk_of, self.scale, self.shift)

    def gradients(self, sums: np.ndarray, chunk_of: np.ndarray, sizes: np.ndarray, factors: np.ndarray) -> None:
        """From the sums of the gradient: those of parameters, and the factors of the map's."""
        self.d_weight, self.d_bias, self.d_offset = (np.empty_like(self.zeros) for _ in range(3))
        pointwise.gradient_coefficients(
            sums, chunk_of, sizes, self.mean, self.inverse, self.weight, self.of_batch, factors,
            self.d_weight, self.d_bias, self.d_offset,
        )  # fmt: skip


def _momenta(norm: nn.Module, chunks: int) -> np.ndarray:
    """The weight of each chunk in the running statistics, as if chunks were passes one after the other."""
    tracked = norm.num_batches_tracked
    if tracked is not None:
        tracked.add_(chunks)
    if norm.momentum is None:  # the mean of all batches
        return 1 / (int(tracked) - chunks + 1 + np.arange(chunks))
    return np.full(chunks, float(norm.momentum))
