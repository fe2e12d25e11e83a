"""Forward and backward of a `Graph`, and the memory that they need.

A forward pass keeps stored maps only. The backward pass computes every expression again, for a few blocks of 16 samples
at a time, so that it is still in the cache when it is used.
"""

import math
import sys
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparcl_lite.engine.graph import FREE, Affine, Expression, Map
from sparcl_lite.engine.kernels import pointwise
from sparcl_lite.engine.kernels.layout import aligned, blocks_for, pack, unpack
from sparcl_lite.engine.kernels.simd import WIDTH
from sparcl_lite.engine.layers import NO_SUMS, SparseLayer
from sparcl_lite.engine.operations import Drop, Multiply, Operation
from sparcl_lite.engine.workspace import NO_FACTORS, NOTHING, Normed, Workspace


def planned(method: Callable) -> Callable:
    """Have a method of a pass make what it makes of the same arguments once: its memory stays where it is."""

    @wraps(method)
    def found(self, *arguments):
        key = (method, *arguments)
        if key not in self.plans:
            self.plans[key] = method(self, *arguments)
        return self.plans[key]

    return found


class Pass:
    """One forward pass and its backward passes, for up to `capacity` blocks; the memory serves again and again."""

    def __init__(self, workspace: Workspace):
        self.space, self.graph, self.capacity = workspace, workspace.graph, workspace.capacity
        made = [op.y for stage in self.graph.stages for op in stage.operations if op.y is not None]
        self.maps = {m: aligned(m.floats(self.capacity)) for m in (*self.graph.inputs, *made)}
        affines = [a for stage in self.graph.stages for a in stage.expression.affines]
        self.normed = {a: Normed(a, self.capacity) for a in affines}
        self.chunk_of = np.full(self.capacity * WIDTH, -1, np.int64)
        self.noise: dict[Operation, np.ndarray] = {}
        self.outputs: list[np.ndarray] = []
        self.output_gradients: list[np.ndarray] = []
        self._token = np.empty(0)
        self.plans: dict[tuple, Any] = {}  # see `planned`

    @property
    def busy(self) -> bool:
        """Whether a graph of autograd may still run the backward pass."""
        return sys.getrefcount(self._token) > FREE_REFERENCES

    def token(self) -> Tensor:
        """What autograd saves for as long as a backward pass may come."""
        return torch.from_numpy(self._token)

    @planned
    def place(self, m: Map, border: int = 0) -> tuple[int, int]:
        """Floats between blocks and between channels of a map as it is stored here."""
        return m.place(self.capacity, border)

    def spread(self, m: Map, samples: int) -> tuple[int, int, int]:
        """Samples, and floats between blocks and between values of a sample, of a map without border."""
        block, channel = self.place(m)
        return samples, block, channel if m.flat else WIDTH

    def holds(self, samples: int, *, inputs_train: bool) -> bool:
        """Whether there is memory for so many samples, and for gradients of the inputs if they train."""
        return blocks_for(samples) <= self.capacity and inputs_train <= self.space.inputs_train

    def _groups(self, number: int) -> Iterator[tuple[int, int]]:
        """(first block, number of blocks) of the groups that are processed together."""
        step = self.space.groups[number]
        for first in range(0, self.used, step):
            yield first, min(step, self.used - first)

    # ---- forward ----------------------------------------------------------------------------------------------------

    def forward(self, inputs: list[np.ndarray], chunks: tuple[int, ...], outputs: list[np.ndarray]) -> None:
        """Outputs of inputs `(N, ...)`; `chunks` sum to N and keep separate batch statistics."""
        self.used, self.chunks, self.outputs = blocks_for(len(inputs[0])), np.array(chunks, float), outputs
        self.chunk_of[:] = -1
        self.chunk_of[: len(inputs[0])] = np.repeat(np.arange(len(chunks)), chunks)
        for normed in self.normed.values():
            normed.look()
        self._draw(len(inputs[0]))
        for m, values in zip(self.graph.inputs, inputs, strict=True):
            pack(values.reshape(-1), self.maps[m], self.spread(m, len(values)), self.used)
            self._finish(m, None)
        for number, stage in enumerate(self.graph.stages):
            for first, count in self._groups(number) if stage.operations else ():
                x = self._value(stage.expression, stage.border, first, count)
                for operation in stage.operations:
                    operation.forward(self, x, first, count)
            for operation in stage.operations:
                if operation.y is not None:
                    self._finish(operation.y, operation)
        self.outputs = []

    def _draw(self, samples: int) -> None:
        self.noise = {}
        for stage in self.graph.stages:
            for operation in stage.operations:
                if isinstance(operation, Drop) and (noise := operation.draw(samples)) is not None:
                    packed = self.noise[operation] = aligned(operation.y.floats(self.capacity))
                    pack(noise.reshape(-1), packed, self.spread(operation.y, samples), self.used)

    def partial_of(self, operation: Multiply, first: int, count: int) -> np.ndarray:
        """Where sums of these blocks go; empty where no batch norm wants them."""
        if operation.flat or not any(self.normed[a].of_batch for a, _ in operation.y.readers):
            return NO_SUMS
        parts = operation.layer.parts
        return self._partial(operation, parts)[first * parts : (first + count) * parts]

    def _partial(self, operation: Operation | None, parts: int, m: Map | None = None) -> np.ndarray:
        m, number = m or operation.y, operation.number if operation else 0
        shape = (self.used * parts, m.channels, 2, WIDTH)
        return self.space.partials[number][: math.prod(shape)].reshape(shape)

    def _finish(self, m: Map, operation: Operation | None) -> None:
        """A map is complete: what its batch norms make of it."""
        partial, parts = NO_SUMS, 1
        if any(self.normed[a].of_batch for a, _ in m.readers):
            if isinstance(operation, Multiply) and not m.flat:
                parts = operation.layer.parts
                partial = self._partial(operation, parts)
            else:
                partial = self._partial(operation, 1, m)
                pointwise.map_sums(self.maps[m], self.place(m), m.rows * m.columns, partial)
        for affine, _ in m.readers:
            self.normed[affine].begin(partial, parts, self.chunk_of, self.chunks * (m.rows * m.columns))

    def _value(self, expression: Expression, border: int, first: int, count: int) -> np.ndarray:
        """An expression's value with a border, from block `first` on; only to be read."""
        x, calls = self._activations(expression, border, first, count)
        for arguments in calls:
            pointwise.activate(*arguments)
        return x

    @planned
    def _activations(self, expression: Expression, border: int, first: int, count: int) -> tuple[np.ndarray, list]:
        """Where a value is, and the calls of `activate` that leave it there."""
        like = expression.like
        if expression.is_map and not border:
            return like.part(self.maps[like], self.capacity, first, count), []
        x = self.space.x[: like.floats(self.capacity if like.flat else count, border)]
        return x, self._summands(expression, x, border, first, count)

    def _summands(self, expression: Expression, x: np.ndarray, border: int, first: int, count: int) -> list[tuple]:
        inner, affines, like = expression.inner, expression.affines, expression.like
        calls = [] if inner is None else self._summands(inner, x, border, first, count)
        size = (like.channels, like.rows, like.columns, border)
        for start in range(0, len(affines), 2):
            low, high = expression.bounds if start + 2 >= len(affines) else FREE
            (z, scale, shift), (other, *more) = (self._read(a) for a in (*affines[start : start + 2], None)[:2])
            calls.append(
                (z, scale, shift, other, *more, self.place(like), x, self.place(like, border), size, first, count,
                 bool(calls), (np.float32(low), np.float32(high)))
            )  # fmt: skip
        return calls

    def _read(self, affine: Affine | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if affine is None:
            return NOTHING, NO_FACTORS, NO_FACTORS
        normed = self.normed[affine]
        return self.maps[affine.map], normed.scale, normed.shift

    # ---- backward ---------------------------------------------------------------------------------------------------

    def backward(self, output_gradients: list[np.ndarray], first_stage: int = 0) -> None:
        """Leaves gradients in `normed` and in the layers' `gradient`, of all stages down to `first_stage`."""
        self.output_gradients = output_gradients
        written: set[int] = set()
        for number in reversed(range(first_stage, len(self.graph.stages))):
            stage = self.graph.stages[number]
            expression, d = stage.expression, self.space.gradient(stage.expression)
            for first, count in self._groups(number):
                x = self._value(expression, stage.border, first, count)
                add = id(expression) in written
                for operation in stage.operations:
                    operation.backward(self, x, first, count, d, add)
                    add = True
                if d is not None:
                    for arguments in self._sums_of(expression, stage.border, first, count):
                        pointwise.gradient_sums(*arguments)
            if d is not None:
                self._factor(expression)
                if expression.inner is not None:
                    self._pass_on(expression, d, written)
        self.output_gradients = []

    @planned
    def _sums_of(self, expression: Expression, border: int, first: int, count: int) -> list[tuple]:
        """Calls of `gradient_sums`: the gradient that passes the bounds, and its sums for batch norms and biases."""
        like, (low, high) = expression.like, expression.bounds
        d, (x, _) = self.space.gradient(expression), self._activations(expression, border, first, count)
        size, masked = (like.channels, like.rows, like.columns, border), expression.bounds != FREE
        calls = []
        for number, affine in enumerate(expression.affines):
            if masked or not affine.trivial:
                calls.append(
                    (d, self.maps[affine.map], self.normed[affine].scale, self.place(like), x,
                     self.place(like, border), size, self._sums(number, like), first, count, masked,
                     (np.float32(low), np.float32(high)))
                )  # fmt: skip
            masked = False
        return calls

    @planned
    def _sums(self, number: int, like: Map) -> np.ndarray:
        shape = (like.channels, 2, self.capacity * WIDTH)
        size = math.prod(shape)
        return self.space.sums[number * size : (number + 1) * size].reshape(shape)

    def _factor(self, expression: Expression) -> None:
        """From the sums: the gradients of batch norms and biases, and the factors of the maps' gradients."""
        for number, affine in enumerate(expression.affines):
            if affine.norm is not None:
                sizes = self.chunks * (affine.map.rows * affine.map.columns)
                sums, factors = self._sums(number, expression.like), self.space.factors[id(affine)]
                self.normed[affine].gradients(sums, self.chunk_of, sizes, factors)
            elif affine.biased is not None:
                sums = self._sums(number, expression.like)[:, 0, : self.used * WIDTH]
                self.normed[affine].d_offset = sums.sum(1)

    def _pass_on(self, expression: Expression, d: np.ndarray, written: set[int]) -> None:
        """The gradient of a sum is that of the expression in it, too."""
        inner = expression.inner
        to = self.space.gradient(inner)
        if to is None:
            return
        if id(expression) not in self.space.plan.shares:
            if id(inner) in written:
                to += d
            else:
                to[:] = d
        written.add(id(inner))

    def gradient_of(self, m: Map, first: int, count: int, border: int) -> np.ndarray:
        """The gradient of a map with a border, from block `first` on, from those of all that reads it.

        Only to be read: where one expression adds nothing but a bias, it is that expression's.
        """
        dz, calls = self._gradients(m, first, count, border)
        for arguments in calls:
            pointwise.input_gradient(*arguments)
        return dz

    @planned
    def _gradients(self, m: Map, first: int, count: int, border: int) -> tuple[np.ndarray, list[tuple]]:
        """Where a gradient is, and the calls of `input_gradient` that leave it there."""
        readers = [(a, d) for a, e in m.readers if (d := self.space.gradient(e)) is not None]
        if len(readers) == 1 and readers[0][0].norm is None and not border:
            return m.part(readers[0][1], self.capacity, first, count), []
        dz = self.space.dz[: m.floats(self.capacity if m.flat else count, border)]
        size, place = (m.channels, m.rows, m.columns, border), self.place(m)
        return dz, [
            (d, self.maps[m], self.space.factors[id(a)], place, dz, self.place(m, border), size, first, count, i > 0)
            for i, (a, d) in enumerate(readers)
        ]

    def product(self, number: int, layer: SparseLayer, product: str) -> Callable[[], None]:
        """A call that runs one product of a layer of a stage once, on whatever the memory holds, to time it."""
        self.used = self.capacity
        stage = self.graph.stages[number]
        operation = next(op for op in stage.operations if op.layer is layer)
        first, count = next(self._groups(number))
        like, shape = stage.expression.like, layer.shape
        x = self.space.x[: like.floats(self.capacity if like.flat else count, stage.border)]
        dz = self.space.dz[: operation.y.floats(self.capacity if like.flat else count, shape.gradient_border)]
        dx = aligned(like.floats(self.capacity)) if product == "input_gradient" else NOTHING
        return {
            "forward": lambda: layer.forward(x, self.maps[operation.y], first, count, NO_SUMS),
            "input_gradient": lambda: layer.input_gradient(dz, dx, first, count, False),
            "weight_gradient": lambda: layer.weight_gradient(x, dz, count, False),
        }[product]

    def input_gradient(self, m: Map, values: np.ndarray) -> None:
        """The gradient of an input `(N, ...)`."""
        dz = self.gradient_of(m, 0, self.used, 0)
        unpack(dz, values.reshape(-1), self.spread(m, len(values)), 0, self.used)


class _Holder:
    def __init__(self) -> None:
        self.token = np.empty(0)

    def references(self) -> int:
        """Those that the holder and this question have."""
        return sys.getrefcount(self.token)


FREE_REFERENCES = _Holder().references()
