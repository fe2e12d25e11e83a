"""What the kernels know of PyTorch's operations: one method of `Builder` for each kind, and tables of who uses it."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import fx, nn

from sparcl_lite.engine.graph import DEEPEST, FREE, RELU, RELU6, Affine, Expression, Graph, Map
from sparcl_lite.engine.operations import Drop, Multiply, Output, Pool, Store
from sparcl_lite.models import BatchNorm2d


class Builder:
    """Makes a `Graph` of nodes, in their order: each gets the `Expression` that it stands for."""

    def __init__(self, module: fx.GraphModule, shapes: list[tuple[int, ...]]):
        self.module, self.graph, self.values = module, Graph(), {}
        self.shapes = iter(shapes)

    def build(self) -> Graph:
        """The graph of the whole module, all of whose operations the kernels know."""
        for node in self.module.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = self._input(next(self.shapes))
            elif node.op == "output":
                given = node.args[0]
                for value in given if isinstance(given, tuple | list) else (given,):
                    self.graph.add(self.values[value], Output(self.graph.outputs))
                    self.graph.outputs += 1
            else:
                reader = reader_of(node, self.module)
                self.values[node] = reader(self, node)
        return self.graph.finish()

    def _input(self, shape: tuple[int, ...]) -> Expression:
        m = Map(*shape[1:], flat=len(shape) == 2)
        self.graph.inputs.append(m)
        return Expression((Affine(m),))

    def value(self, node: fx.Node, number: int = 0) -> Expression:
        """What an argument of a node stands for."""
        return self.values[node.args[number]]

    def submodule(self, node: fx.Node) -> nn.Module:
        """The module that a node calls."""
        return self.module.get_submodule(node.target)

    def made(self, expression: Expression, operation: Any, **affine: nn.Module) -> Expression:
        """The map that an operation makes of an expression."""
        self.graph.add(expression, operation)
        return Expression((Affine(operation.y, **affine),))

    def own(self, node: fx.Node) -> Expression:
        """What a node's argument stands for, to become part of another expression: stored if others read it, too."""
        given, x = node.args[0], self.value(node)
        if len(given.users) > 1 and any(a.norm is not None or a.biased is not None for a in x.affines):
            x = self.values[given] = self.stored(x)
        return x

    def stored(self, expression: Expression) -> Expression:
        """The same value as a map."""
        return self.made(expression, Store(expression.like))

    # one method a kind of operation

    def multiply(self, node: fx.Node) -> Expression:
        module, x = self.submodule(node), self.value(node)
        biased = {} if module.bias is None else {"biased": module}
        return self.made(x, Multiply(f"{node.target}.weight", module, x.like), **biased)

    def norm(self, node: fx.Node) -> Expression:
        x = self.own(node)
        if len(x.affines) > 1 or x.inner is not None or x.bounds != FREE or x.affines[0].norm is not None:
            x = self.stored(x)
        (affine,) = x.affines
        return Expression((Affine(affine.map, affine.biased, self.submodule(node)),))

    def bounded(self, node: fx.Node, bounds: tuple[float, float]) -> Expression:
        x = self.own(node)
        if x.bounds != FREE:
            x = self.stored(x)
        return Expression(x.affines, x.inner, bounds, x.depth)

    def relu(self, node: fx.Node) -> Expression:
        return self.bounded(node, RELU)

    def relu6(self, node: fx.Node) -> Expression:
        return self.bounded(node, RELU6)

    def sum(self, node: fx.Node) -> Expression:
        affines, inner = [], []
        for number in (0, 1):
            x = self.value(node, number)
            if x.bounds == FREE and x.inner is None and len(node.args[number].users) == 1:
                affines += x.affines
            else:
                inner.append(x)
        if len(inner) == 2 and inner[0] is inner[1]:
            inner[1:] = [self.stored(inner[0])]
        inner.sort(key=lambda x: x.depth)
        while inner and (len(inner) > 1 or not affines or inner[0].depth >= DEEPEST):
            affines += self.stored(inner.pop()).affines
        return Expression(tuple(affines), inner[0] if inner else None, FREE, 1 + inner[0].depth if inner else 0)

    def flatten(self, node: fx.Node) -> Expression:
        x = self.value(node)
        return x if x.like.flat else self.made(x, Store(x.like, flatten=True))

    def dropout(self, node: fx.Node) -> Expression:
        x = self.value(node)
        return self.made(x, Drop(self.submodule(node), x.like))

    def same(self, node: fx.Node) -> Expression:
        return self.value(node)

    def pooled(self, x: Expression, rows: tuple, columns: tuple, divisors: Any) -> Expression:
        return self.made(x, Pool(x.like, rows, columns, divisors))

    def mean(self, node: fx.Node) -> Expression:
        like = self.value(node).like
        x = self.pooled(
            self.value(node), ([0], [like.rows]), ([0], [like.columns]), np.array([[like.rows * like.columns]])
        )
        keeps = node.kwargs.get("keepdim", node.args[2] if len(node.args) > 2 else False)
        return x if keeps else self.made(x, Store(x.like, flatten=True))

    def adaptive(self, node: fx.Node) -> Expression:
        x, like = self.value(node), self.value(node).like
        size = self.submodule(node).output_size if node.op == "call_module" else argument(node, 1, "output_size")
        out = [given or whole for given, whole in zip(pair(size), (like.rows, like.columns), strict=True)]
        rows, columns = (
            ([i * whole // m for i in range(m)], [-(-(i + 1) * whole // m) for i in range(m)])
            for m, whole in zip(out, (like.rows, like.columns), strict=True)
        )
        heights, widths = (np.subtract(ends, starts) for starts, ends in (rows, columns))
        return self.pooled(x, rows, columns, np.outer(heights, widths))

    def pool(self, node: fx.Node) -> Expression:
        x, like, settings = self.value(node), self.value(node).like, pool_settings(node, self.module)
        kernel, stride, padding = (pair(settings[name]) for name in ("kernel_size", "stride", "padding"))
        spans = [
            _windows(whole, k, s, p, settings["ceil_mode"])
            for whole, k, s, p in zip((like.rows, like.columns), kernel, stride, padding, strict=True)
        ]
        divisors = None
        if not settings["largest"]:
            counted = "all" if settings["count_include_pad"] else "inside"
            divisors = settings["divisor_override"] or np.outer(*(span[counted] for span in spans))
            divisors = np.broadcast_to(divisors, [len(span["starts"]) for span in spans])
        return self.pooled(x, *((span["starts"], span["ends"]) for span in spans), divisors)


def pair(value: Any) -> tuple[int, int]:
    return tuple(value) if isinstance(value, tuple | list) else (value, value)


def _windows(whole: int, kernel: int, stride: int, padding: int, ceil: bool) -> dict[str, list[int]]:
    """Where windows start and end inside a row of `whole`; how many positions they have inside, and in all."""
    count = (whole + 2 * padding - kernel + (stride - 1 if ceil else 0)) // stride + 1
    if ceil and (count - 1) * stride >= whole + padding:
        count -= 1
    starts = [i * stride - padding for i in range(count)]
    ends = [min(start + kernel, whole + padding) for start in starts]
    every = [end - start for start, end in zip(starts, ends, strict=True)]
    starts, ends = [max(0, start) for start in starts], [min(whole, end) for end in ends]
    return {"starts": starts, "ends": ends, "all": every, "inside": [e - s for s, e in zip(starts, ends, strict=True)]}


def argument(node: fx.Node, number: int, name: str, default: Any = None) -> Any:
    return node.args[number] if len(node.args) > number else node.kwargs.get(name, default)


def pool_settings(node: fx.Node, module: nn.Module) -> dict[str, Any]:
    """The settings of a pool, a layer or a function."""
    if node.op == "call_module":
        layer = module.get_submodule(node.target)
        largest = kind_of(layer) is nn.MaxPool2d
        found = {name: getattr(layer, name, None) for name in (*POOL_ARGUMENTS, "dilation", "return_indices")}
    else:
        largest = node.target in MAXIMA
        names = MAX_ARGUMENTS if largest else POOL_ARGUMENTS
        defaults = {"padding": 0, "ceil_mode": False, "count_include_pad": True, "dilation": 1}
        found = {name: argument(node, i + 1, name, defaults.get(name)) for i, name in enumerate(names)}
    found["stride"] = found["stride"] or found["kernel_size"]
    return found | {"largest": largest}


POOL_ARGUMENTS = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
MAX_ARGUMENTS = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
MAXIMA = (F.max_pool2d, torch.max_pool2d, torch.nn.functional.max_pool2d)

LAYERS: dict[type, Callable] = {
    nn.Conv2d: Builder.multiply,
    nn.Linear: Builder.multiply,
    nn.BatchNorm2d: Builder.norm,
    nn.BatchNorm1d: Builder.norm,
    nn.ReLU: Builder.relu,
    nn.ReLU6: Builder.relu6,
    nn.MaxPool2d: Builder.pool,
    nn.AvgPool2d: Builder.pool,
    nn.AdaptiveAvgPool2d: Builder.adaptive,
    nn.Flatten: Builder.flatten,
    nn.Dropout: Builder.dropout,
    nn.Identity: Builder.same,
}
FUNCTIONS: dict[Any, Callable] = {
    F.relu: Builder.relu,
    torch.relu: Builder.relu,
    F.relu6: Builder.relu6,
    operator.add: Builder.sum,
    operator.iadd: Builder.sum,
    torch.add: Builder.sum,
    torch.flatten: Builder.flatten,
    torch.mean: Builder.mean,
    F.adaptive_avg_pool2d: Builder.adaptive,
    F.avg_pool2d: Builder.pool,
    **dict.fromkeys(MAXIMA, Builder.pool),
}
METHODS: dict[str, Callable] = {
    "relu": Builder.relu,
    "relu_": Builder.relu,
    "add": Builder.sum,
    "add_": Builder.sum,
    "flatten": Builder.flatten,
    "mean": Builder.mean,
    "contiguous": Builder.same,
}


def kind_of(module: nn.Module) -> type | None:
    """Which of the kernels' layers a module is: that one's forward, whatever its class."""
    if isinstance(module, BatchNorm2d):
        return nn.BatchNorm2d
    for kind in LAYERS:
        if isinstance(module, kind) and type(module).forward is kind.forward:
            return kind
    return None


def reader_of(node: fx.Node, module: nn.Module) -> Callable | None:
    """What reads a node; None where the kernels do not know the operation."""
    if node.op == "call_module":
        return LAYERS.get(kind_of(module.get_submodule(node.target)))
    if node.op == "call_function":
        return FUNCTIONS.get(node.target)
    return METHODS.get(node.target) if node.op == "call_method" else None
