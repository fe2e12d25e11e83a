"""What a segment of a network computes, as stored maps and the cheap expressions between them.

Stored are images, outputs of layers and pools. Everything else (batch norm, bias, ReLU, sums) is an `Expression` of
stored maps, computed where it is read, so that no memory holds it. A `Stage` is one expression with all that reads it.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from sparcl_lite.engine.layers import place_of

INFINITE = float("inf")
FREE, RELU, RELU6 = (-INFINITE, INFINITE), (0.0, INFINITE), (0.0, 6.0)  # bounds of what is read
DEEPEST = 2  # sums within sums, before one of them is stored


@dataclass(eq=False)
class Map:
    """A stored map `(channels, rows, columns)`; a flat one has features without positions.

    `readers` are the parts of expressions that read it, each with its expression.
    """

    channels: int
    rows: int = 1
    columns: int = 1
    flat: bool = False
    readers: list[tuple["Affine", "Expression"]] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample, as PyTorch has it."""
        return (self.channels,) if self.flat else (self.channels, self.rows, self.columns)

    def place(self, capacity: int, border: int = 0) -> tuple[int, int]:
        """Floats between blocks and between channels, stored for so many blocks."""
        return place_of(self.channels, self.rows, capacity if self.flat else self.columns, border, self.flat)

    def floats(self, blocks: int, border: int = 0) -> int:
        """Floats that so many blocks take."""
        block, channel = self.place(blocks, border)
        return self.channels * channel if self.flat else blocks * block

    def part(self, values: np.ndarray, capacity: int, first: int, blocks: int) -> np.ndarray:
        """So many blocks of what is stored for `capacity`; a flat map cannot be divided, and is whole."""
        block = self.place(capacity)[0]
        return values if self.flat else values[first * block : (first + blocks) * block]


@dataclass(eq=False)
class Affine:
    """A map, plus the bias of a layer, through a batch norm: each may be missing."""

    map: Map
    biased: nn.Module | None = None
    norm: nn.Module | None = None

    @property
    def trivial(self) -> bool:
        """Whether it is the map itself."""
        return self.norm is None and self.biased is None


@dataclass(eq=False)
class Expression:
    """The sum of affine maps and of at most one other expression, between bounds."""

    affines: tuple[Affine, ...]
    inner: "Expression | None" = None
    bounds: tuple[float, float] = FREE
    depth: int = 0

    @property
    def like(self) -> Map:
        """A map of its size."""
        return self.affines[0].map

    @property
    def is_map(self) -> bool:
        """Whether its value is that of a stored map."""
        return self.inner is None and self.bounds == FREE and len(self.affines) == 1 and self.affines[0].trivial


@dataclass(eq=False)
class Stage:
    """An expression and the operations that read it; `border` is the widest that one of them needs."""

    expression: Expression
    operations: list = field(default_factory=list)
    border: int = 0


@dataclass(frozen=True)
class Slot:
    """A parameter `name` of a module, where a pass leaves its gradient, and the stage that finds it."""

    module: nn.Module
    name: str
    source: Any
    stage: int


class Graph:
    """A segment: its stages in order of execution, the maps of its inputs, and how many outputs it has."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []
        self.inputs: list[Map] = []
        self.slots: list[Slot] = []
        self.outputs = 0
        self._stage_of: dict[int, Stage] = {}

    def stage(self, expression: Expression) -> Stage:
        """The stage of an expression; a new one comes last, after that of the expression inside."""
        if id(expression) not in self._stage_of:
            if expression.inner is not None:
                self.stage(expression.inner)
            stage = self._stage_of[id(expression)] = Stage(expression)
            self.stages.append(stage)
            for affine in expression.affines:
                affine.map.readers.append((affine, expression))
        return self._stage_of[id(expression)]

    def add(self, expression: Expression, operation) -> None:
        """Have an operation read an expression."""
        stage = self.stage(expression)
        stage.operations.append(operation)
        stage.border = max(stage.border, operation.border)

    def finish(self) -> "Graph":
        """Tell every operation how its input is stored, and list what trains."""
        for number, stage in enumerate(self.stages):
            for place, operation in enumerate(stage.operations):
                operation.reads(stage.expression.like, stage.border)
                operation.number = place
                if operation.layer:
                    self.slots.append(Slot(operation.layer.module, "weight", operation.layer, number))
            for affine in stage.expression.affines:
                if affine.biased is not None:
                    self.slots.append(Slot(affine.biased, "bias", (affine, "d_offset"), number))
                if affine.norm is not None and affine.norm.weight is not None:
                    self.slots.append(Slot(affine.norm, "weight", (affine, "d_weight"), number))
                    self.slots.append(Slot(affine.norm, "bias", (affine, "d_bias"), number))
        return self

    def first_stage(self, needed: list[bool]) -> int:
        """The first stage that a backward pass must reach for these of the slots."""
        numbers = [slot.stage for slot, need in zip(self.slots, needed, strict=True) if need]
        return min(numbers, default=len(self.stages))

    @property
    def layers(self) -> list:
        """All convolutions and linear layers, in order of execution."""
        return [op.layer for stage in self.stages for op in stage.operations if op.layer]

    @property
    def norms(self) -> list[nn.Module]:
        """All batch norms, in order of execution."""
        affines = [affine for stage in self.stages for affine in stage.expression.affines]
        return [affine.norm for affine in affines if affine.norm is not None]

    @property
    def output_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the outputs, of one sample."""
        found = {op.number_out: op.shape for s in self.stages for op in s.operations if op.y is None}
        return [found[number] for number in range(self.outputs)]
