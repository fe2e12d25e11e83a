"""From a module to a graph of PyTorch's operations (`torch.fx`), and from that to the parts that the kernels run.

What the kernels know is in `builder`. Everything else stays an operation of PyTorch between those parts.
"""

import inspect
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.infra.partitioner import CapabilityBasedPartitioner
from torch.fx.passes.operator_support import OperatorSupportBase
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils.prune import BasePruningMethod

from sparcl_lite.engine.builder import Builder, argument, kind_of, pair, pool_settings, reader_of

LARGEST_KERNEL, STRIDES = 7, (1, 2)
SAMPLES = 2  # of the pass that shows shapes


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
    if any(isinstance(value, fx.Node) for value in node.kwargs.values()):
        return f"{name} with inputs by keyword"
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
        dims = argument(node, 1, "dim")
        if len(before[0]) != 4 or {d % 4 for d in pair(dims if dims is not None else 0)} != {2, 3}:
            return "over other dimensions"
    if reader is Builder.pool:
        settings = pool_settings(node, module)
        if settings.get("return_indices") or pair(settings.get("dilation") or 1) != (1, 1):
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


def mixes_samples(module: fx.GraphModule, segments: list[str]) -> bool:
    """Whether a batch norm is left outside of the segments, which takes all samples of a pass for one batch."""
    outside = (node for node in module.graph.nodes if node.target not in segments)
    layers = (module.get_submodule(node.target).modules() for node in outside if node.op == "call_module")
    return any(isinstance(layer, _NormBase) for inner in layers for layer in inner)
