"""From a module to a graph of PyTorch's operations (`torch.fx`), and from parts of that to segments for the kernels.

What the kernels know is in `READERS`, one function an operation. Everything else stays a PyTorch operation between
segments.
"""

import inspect
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.passes.infra.partitioner import CapabilityBasedPartitioner
from torch.fx.passes.operator_support import OperatorSupportBase
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils.prune import BasePruningMethod

from sparcl_lite.engine.graph import DEEPEST, FREE, RELU, RELU6, Affine, Expression, Graph, Map
from sparcl_lite.engine.operations import Drop, Multiply, Output, Pool, Store
from sparcl_lite.models import BatchNorm2d

LARGEST_KERNEL, STRIDES = 7, (1, 2)
SAMPLES = 2  # of the pass that shows shapes


class Unsupported(Exception):
    """An operation that the kernels do not know, and why."""


class _Tracer(fx.Tracer):
    """Traces a method of a module, down to the layers that the kernels know and PyTorch's own."""

    def __init__(self, method: str, inputs: int):
        super().__init__()
        self.traced_func_name, self.inputs = method, inputs

    def create_args_for_root(self, root_fn: Callable, is_module: bool, concrete_args: Any = None) -> tuple:
        """So many inputs are traced; the other arguments keep their default values."""
        names = list(inspect.signature(root_fn).parameters)[1 : 1 + self.inputs]
        names += [f"input_{i}" for i in range(len(names), self.inputs)]  # of `*inputs`
        return root_fn, [self.root, *(self.create_proxy("placeholder", name, (), {}) for name in names)]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return kind_of(m) is not None or bool(_hooks(m)) or super().is_leaf_module(m, module_qualified_name)


def traced(module: nn.Module, method: str, examples: tuple[Tensor, ...]) -> fx.GraphModule:
    """The module's method as a graph, with the shape of every value. Raises what `torch.fx` cannot trace."""
    graph = _Tracer(method, len(examples)).trace(module)
    found = fx.GraphModule(module, graph)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        _Shapes(found).propagate(*(example[:SAMPLES] for example in examples))
    _view_as_flatten(graph)
    graph.eliminate_dead_code()
    found.recompile()
    return found


class _Shapes(ShapeProp):
    """Finds shapes in a pass without hooks, which leaves no trace in batch norms and generators."""

    def call_module(self, target: Any, args: tuple, kwargs: dict) -> Any:
        module = self.fetch_attr(target)
        return args[0] if isinstance(module, _NormBase | _DropoutNd) else module.forward(*args, **kwargs)


def _view_as_flatten(graph: fx.Graph) -> None:
    """`x.view(len(x), -1)` and its like say what `flatten` says."""
    for node in list(graph.nodes):
        if node.op == "call_method" and node.target in ("view", "reshape") and isinstance(node.args[0], fx.Node):
            before, after = shape_of(node.args[0]), shape_of(node)
            if before and after and len(after) == 2 and len(before) == 4 and before[0] == after[0]:
                with graph.inserting_before(node):
                    flat = graph.call_function(torch.flatten, (node.args[0], 1))
                flat.meta = node.meta
                node.replace_all_uses_with(flat)
                graph.erase_node(node)


def shape_of(node: fx.Node) -> tuple[int, ...] | None:
    """The shape of a node's value, if that is a tensor of float32."""
    found = node.meta.get("tensor_meta")
    return tuple(found.shape) if hasattr(found, "shape") and found.dtype == torch.float32 else None


def _hooks(module: nn.Module) -> list:
    """Hooks that a user put on a module; those of pruning are known."""
    before = [hook for hook in module._forward_pre_hooks.values() if not isinstance(hook, BasePruningMethod)]
    return [
        *before,
        *module._forward_hooks.values(),
        *module._backward_hooks.values(),
        *module._backward_pre_hooks.values(),
    ]


def kind_of(module: nn.Module) -> type | None:
    """Which of the kernels' layers a module is: that one's forward, whatever its class."""
    if isinstance(module, BatchNorm2d):
        return nn.BatchNorm2d
    for kind in LAYERS:
        if isinstance(module, kind) and type(module).forward is kind.forward:
            return kind
    return None


# ---- what the kernels know ------------------------------------------------------------------------------------------


class Builder:
    """Makes a `Graph` of nodes, in their order: each gets the `Expression` that it stands for."""

    def __init__(self, module: fx.GraphModule, shapes: list[tuple[int, ...]]):
        self.module, self.graph, self.values = module, Graph(), {}
        self.shapes = iter(shapes)

    def build(self) -> Graph:
        """The graph of the whole module. Raises `Unsupported`."""
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
        if len(shape) not in (2, 4):
            raise Unsupported(f"an input of {len(shape)} dimensions")
        m = Map(*shape[1:], flat=len(shape) == 2)
        self.graph.inputs.append(m)
        return Expression((Affine(m),))

    def value(self, node: fx.Node, number: int = 0) -> Expression:
        """What an argument of a node stands for."""
        given = node.args[number]
        if not isinstance(given, fx.Node) or given not in self.values:
            raise Unsupported(f"{node.target} of a constant")
        return self.values[given]

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
        size = self.submodule(node).output_size if node.op == "call_module" else _argument(node, 1, "output_size")
        out = [given or whole for given, whole in zip(_pair(size), (like.rows, like.columns), strict=True)]
        rows, columns = (
            ([i * whole // m for i in range(m)], [-(-(i + 1) * whole // m) for i in range(m)])
            for m, whole in zip(out, (like.rows, like.columns), strict=True)
        )
        heights, widths = (np.subtract(ends, starts) for starts, ends in (rows, columns))
        return self.pooled(x, rows, columns, np.outer(heights, widths))

    def pool(self, node: fx.Node) -> Expression:
        x, like, settings = self.value(node), self.value(node).like, _pool_settings(node, self.module)
        kernel, stride, padding = (_pair(settings[name]) for name in ("kernel_size", "stride", "padding"))
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


def _pair(value: Any) -> tuple[int, int]:
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


def _argument(node: fx.Node, number: int, name: str, default: Any = None) -> Any:
    return node.args[number] if len(node.args) > number else node.kwargs.get(name, default)


def _pool_settings(node: fx.Node, module: nn.Module) -> dict[str, Any]:
    """The settings of a pool, a layer or a function."""
    if node.op == "call_module":
        layer = module.get_submodule(node.target)
        largest = kind_of(layer) is nn.MaxPool2d
        found = {name: getattr(layer, name, None) for name in (*POOL_ARGUMENTS, "dilation", "return_indices")}
    else:
        largest = node.target in MAXIMA
        names = MAX_ARGUMENTS if largest else POOL_ARGUMENTS
        defaults = {"padding": 0, "ceil_mode": False, "count_include_pad": True, "dilation": 1}
        found = {name: _argument(node, i + 1, name, defaults.get(name)) for i, name in enumerate(names)}
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


def reader_of(node: fx.Node, module: nn.Module) -> Callable | None:
    """What reads a node; None where the kernels do not know the operation."""
    if node.op == "call_module":
        return LAYERS.get(kind_of(module.get_submodule(node.target)))
    if node.op == "call_function":
        return FUNCTIONS.get(node.target)
    return METHODS.get(node.target) if node.op == "call_method" else None


def refusal(node: fx.Node, module: nn.Module) -> str | None:
    """Why a node stays an operation of PyTorch; None where the kernels run it."""
    reader, name = reader_of(node, module), node.target if isinstance(node.target, str) else node.target.__name__
    layer = module.get_submodule(node.target) if node.op == "call_module" else None
    if layer is not None:
        name = type(layer).__name__
    if reader is None:
        return name
    if layer is not None and _hooks(layer):
        return f"{name} with hooks"
    before = [shape_of(given) for given in node.all_input_nodes]
    shapes = [*before, shape_of(node)]
    if any(shape is None or len(shape) not in (2, 4) for shape in shapes):
        return f"{name} of other than (N, C, H, W) or (N, features) float32"
    return f"{name} {reason}" if (reason := _detail(node, module, reader, before, shapes[-1])) else None


def _detail(node: fx.Node, module: nn.Module, reader: Callable, before: list, after: tuple[int, ...]) -> str | None:
    layer = module.get_submodule(node.target) if node.op == "call_module" else None
    if isinstance(layer, nn.Conv2d):
        (kernel, *k), (stride, *s), padding = layer.kernel_size, layer.stride, layer.padding
        square = {kernel} == set(k) and {stride} == set(s) and not isinstance(padding, str) and len(set(padding)) == 1
        plain = set(layer.dilation) == {1} and layer.padding_mode == "zeros"
        if not (square and plain and kernel <= LARGEST_KERNEL and stride in STRIDES and padding[0] < kernel):
            return f"{layer.kernel_size}, stride {layer.stride}, padding {padding}, dilation {layer.dilation}"
    if isinstance(layer, nn.Linear) and len(before[0]) != 2:
        return "of other than (N, features)"
    if reader is Builder.sum:
        plain = len(before) == 2 and not node.kwargs and len(node.args) == 2
        same = len(node.args) == 2 and node.args[0] is node.args[1]
        if same or not plain or before[0] != before[1]:
            return "of other shapes"
    if reader is Builder.flatten and (len(after) != 2 or after[0] != before[0][0]):
        return "of other dimensions"
    if reader is Builder.mean:
        dims = _argument(node, 1, "dim")
        if len(before[0]) != 4 or {d % 4 for d in _pair(dims if dims is not None else 0)} != {2, 3}:
            return "over other dimensions"
    if reader is Builder.pool:
        settings = _pool_settings(node, module)
        if settings.get("return_indices") or _pair(settings.get("dilation") or 1) != (1, 1):
            return "with indices or dilation"
    if reader is Builder.same and before[0] != after:
        return "of another shape"
    if _is_in_place(node, layer) and len(node.all_input_nodes[0].users) > 1:
        return "in place"
    return None


def _is_in_place(node: fx.Node, layer: nn.Module | None) -> bool:
    """Whether others that read the node's argument may see it change."""
    named = node.target in (operator.iadd, "add_", "relu_") or node.kwargs.get("inplace", False)
    return named or getattr(layer, "inplace", False)


class _Known(OperatorSupportBase):
    def __init__(self, module: nn.Module):
        self.module = module

    def is_node_supported(self, submodules: Any, node: fx.Node) -> bool:
        return node.op.startswith("call") and refusal(node, self.module) is None


def segmented(module: fx.GraphModule) -> tuple[fx.GraphModule, list[str], list[str]]:
    """The graph with all that the kernels run in submodules: their names, and what stays outside."""
    outside = sorted(
        {why for node in module.graph.nodes if node.op.startswith("call") and (why := refusal(node, module))}
    )
    partitioner = CapabilityBasedPartitioner(module, _Known(module), allows_single_node_partition=True)
    worth = [p for p in partitioner.propose_partitions() if any(_multiplies(node, module) for node in p.nodes)]
    fused = partitioner.fuse_partitions(worth)
    return (
        fused,
        [node.target for node in fused.graph.nodes if node.op == "call_module" and node.target.startswith("fused_")],
        outside,
    )


def _multiplies(node: fx.Node, module: nn.Module) -> bool:
    return node.op == "call_module" and kind_of(module.get_submodule(node.target)) in (nn.Conv2d, nn.Linear)
