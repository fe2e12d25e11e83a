"""A part of a network that runs on the sparse kernels, as one differentiable function for PyTorch's autograd."""

import sys
from collections.abc import Iterable

import numba
import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.prune import BasePruningMethod

from sparcl_lite.engine.builder import Builder
from sparcl_lite.engine.contract import Host
from sparcl_lite.engine.graph import Graph, Slot
from sparcl_lite.engine.kernels.index import scatter
from sparcl_lite.engine.kernels.layout import blocks_for
from sparcl_lite.engine.kernels.simd import WIDTH
from sparcl_lite.engine.layers import SparseLayer
from sparcl_lite.engine.passes import Pass
from sparcl_lite.engine.workspace import Workspace

EVALUATED = 64  # samples that an evaluation takes at a time, where no training step has taken memory yet


class Segment(nn.Module):
    """Layers that run on their nonzero weights only; `dense` are the same ones as PyTorch runs them."""

    def __init__(self, engine: Host, dense: fx.GraphModule):
        super().__init__()
        self.engine, self.dense = engine, dense
        self.graphs: dict[tuple, Graph] = {}
        self.passes: dict[int, list[Pass]] = {}
        self.buffers: dict[str, list[np.ndarray]] = {}
        self.used: Graph | None = None  # the last one: only its weights may be released

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        if not taken(inputs):
            self.engine.restore()
            return self.dense(*inputs)
        graph = self.graph(inputs)
        chunks = self._chunks(len(inputs[0]))
        if any(n.training for n in graph.norms) and self._too_few(graph, chunks):
            self.engine.restore()
            return self.dense(*inputs)  # which refuses them
        _use_threads()
        parameters = self.parameters_of(graph)
        if not taken(parameters):
            return self.dense(*inputs)
        if torch.is_grad_enabled():
            found = _Function.apply(self, graph, chunks, len(inputs), *inputs, *parameters)
        elif any(m.training for m in self._modules_of(graph)):
            found = self._run(graph, inputs, chunks)[1]
        else:
            held = [work.capacity * WIDTH for work in self.passes.get(id(graph), [])]
            parts = zip(*(x.split(max(held, default=EVALUATED)) for x in inputs), strict=True)
            found = [torch.cat(o) for o in zip(*(self._run(graph, p, (len(p[0]),))[1] for p in parts), strict=True)]
        return found[0] if len(found) == 1 else tuple(found)

    def _chunks(self, samples: int) -> tuple[int, ...]:
        chunks = self.engine.chunks
        return chunks if len(chunks) > 1 and sum(chunks) == samples else (samples,)

    @staticmethod
    def _too_few(graph: Graph, chunks: tuple[int, ...]) -> bool:
        maps = [a.map for s in graph.stages for a in s.expression.affines if a.norm is not None]
        return any(min(chunks) * m.rows * m.columns < 2 for m in maps)

    def _modules_of(self, graph: Graph) -> list[nn.Module]:
        return [*graph.norms, *(op.module for s in graph.stages for op in s.operations if hasattr(op, "module"))]

    def graph(self, inputs: tuple[Tensor, ...]) -> Graph:
        """What runs for inputs of these shapes."""
        shapes = tuple(tuple(x.shape) for x in inputs)
        key = tuple(shape[1:] for shape in shapes)
        if key not in self.graphs:
            self.graphs[key] = Builder(self.dense, list(shapes)).build()
        if self.used is not self.graphs[key]:
            self.engine.restore()
            self.used = self.graphs[key]
        return self.used

    def parameters_of(self, graph: Graph) -> list[Tensor]:
        """Weights and biases that gradients are found for."""
        for module in dict.fromkeys(slot.module for slot in graph.slots):
            prune_again(module)
        found = [getattr(slot.module, slot.name) for slot in graph.slots]
        for slot, tensor in zip(graph.slots, found, strict=True):
            if isinstance(slot.source, SparseLayer):
                slot.source.given = tensor
        return found

    def found(self, work: Pass, slot: Slot) -> Tensor | None:
        """A parameter's gradient, as a pass left it."""
        if isinstance(slot.source, SparseLayer):
            return self.engine.gradient(self, slot.source)
        affine, name = slot.source
        return torch.from_numpy(getattr(work.normed[affine], name))

    def _run(self, graph: Graph, inputs: tuple[Tensor, ...], chunks: tuple[int, ...], trains: bool = False):
        """A pass that remembers what its backward needs, and the outputs."""
        work = self._take(graph, len(inputs[0]), trains)
        self.engine.prepare(graph, work)
        outputs = [torch.empty(len(inputs[0]), *shape) for shape in graph.output_shapes]
        work.forward([x.detach().contiguous().numpy() for x in inputs], chunks, [o.numpy() for o in outputs])
        return work, outputs

    def _take(self, graph: Graph, samples: int, trains: bool) -> Pass:
        """A free pass with enough memory, or a new one."""
        held = self.passes.setdefault(id(graph), [])
        for work in held:
            if not work.busy and work.holds(samples, inputs_train=trains):
                return work
        held[:] = [work for work in held if work.busy]
        space = next((w.space for w in held if w.holds(samples, inputs_train=trains)), None)
        capacity = max([blocks_for(samples), *(work.capacity for work in held)])
        work = Pass(space or Workspace(graph, capacity, inputs_train=trains))
        held.append(work)
        return work

    def forget(self) -> None:
        """Give the memory of all passes back."""
        self.passes, self.buffers = {}, {}

    def gradient(self, layer: SparseLayer) -> Tensor:
        """The gradient of a layer in the shape and layout of its weight, zero where none was computed.

        Its memory is reused once no tensor refers to it.
        """
        if layer.whole:
            memory, layer.gradient = layer.gradient, np.empty(0, np.float32)
            return layer.shaped(memory)
        held = self.buffers.setdefault(layer.name, [])
        memory = next((m for m in held if sys.getrefcount(m) == IDLE), None)
        if memory is None:
            memory = np.empty(layer.shape.weights, np.float32)
            held.append(memory)
        scatter(layer.gradient, layer.gradient_rows.source, memory)
        return layer.shaped(memory)


#: References to an array that only its list and the search above hold.
IDLE = next(sys.getrefcount(m) for m in [np.empty(0)])


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx, segment: Segment, graph: Graph, chunks: tuple[int, ...], count: int, *tensors: Tensor) -> tuple:
        ctx.segment, ctx.graph, ctx.inputs, ctx.parameters = segment, graph, tensors[:count], None
        trains = any(x.requires_grad for x in tensors[:count])
        ctx.work, outputs = segment._run(graph, tensors[:count], chunks, trains)
        ctx.shapes, ctx.inputs = [x.shape for x in tensors[:count]], None
        weights = [
            t for t, slot in zip(tensors[count:], graph.slots, strict=True) if isinstance(slot.source, SparseLayer)
        ]
        ctx.save_for_backward(ctx.work.token(), *weights)
        ctx.states = [(layer.mask, weight, layer.reading) for layer, weight in zip(graph.layers, weights, strict=True)]
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: Tensor) -> tuple:
        ctx.saved_tensors  # noqa: B018 - raises where a second backward or a changed weight makes it wrong
        segment, graph, work = ctx.segment, ctx.graph, ctx.work
        _use_threads()
        count = len(ctx.shapes)
        wanted = ctx.needs_input_grad[4:]
        segment.engine.prepare_backward(graph, work, ctx.states, wanted[count:])
        work.backward(
            [g.detach().contiguous().numpy() for g in gradients],
            0 if any(wanted[:count]) else graph.first_stage(wanted[count:]),
        )
        inputs = []
        for m, shape, needed in zip(graph.inputs, ctx.shapes, wanted[:count], strict=True):
            inputs.append(torch.empty(shape) if needed else None)
            if needed:
                work.input_gradient(m, inputs[-1].numpy())
        parameters = [
            segment.found(work, slot) if needed else None
            for slot, needed in zip(graph.slots, wanted[count:], strict=True)
        ]
        return None, None, None, None, *inputs, *parameters


def prune_again(module: nn.Module) -> None:
    """Set a pruned module's weight and bias, as a call of it would."""
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, BasePruningMethod):
            hook(module, None)


def taken(tensors: Iterable[Tensor]) -> bool:
    """Whether the kernels can take all of these: float32 on the CPU, outside of autocast and of function transforms."""
    return not torch.is_autocast_enabled("cpu") and all(
        isinstance(x, Tensor)
        and x.is_cpu
        and x.dtype == torch.float32
        and x.dim() > 0
        and x.numel() > 0
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
        for x in tensors
    )


def _use_threads() -> None:
    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
