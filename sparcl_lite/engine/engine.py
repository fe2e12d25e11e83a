"""The engine of one module: what it traced, which weights exist, and where weights and gradients are stored."""

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sparcl_lite.engine.choice import Choice
from sparcl_lite.engine.contract import Masking
from sparcl_lite.engine.graph import Graph
from sparcl_lite.engine.layers import EVERYTHING, SparseLayer
from sparcl_lite.engine.passes import Pass
from sparcl_lite.engine.segment import Segment, taken
from sparcl_lite.engine.tracing import mixes_samples, segmented, traced
from sparcl_lite.models.network import WEIGHTED

ENOUGH_ZEROS = 0.3  # share of a weight from which on its zeros are a mask
logger = logging.getLogger("sparcl_lite.engine")


class Engine:
    """Runs a `method` of a module on its nonzero weights only; `dense` is the same by PyTorch's layers.

    `masking` says which weights exist and whose gradient is wanted; without one it is what `torch.nn.utils.prune` or
    the zeros of the weights say. Methods, strategies and checkpoints see dense parameters with zeros, and dense
    gradients. While an optimiser is `holding`, weights and gradients are stored for the active weights only, unless
    more are wanted (see `SparseSGD`). Unless it is `alone` with weights and gradients within a step, it finds the
    gradients of all weights, also of those outside the mask, and other terms of the loss may add to them. With
    `choice` each product and the whole network run in the way that is faster (see `Choice`).
    """

    def __init__(
        self,
        module: nn.Module,
        method: str,
        dense: Callable,
        masking: Masking | None = None,
        *,
        alone: bool = False,
        choice: Choice | None = None,
    ):
        self.module, self.method, self.dense = module, method, dense
        self.masking, self.alone, self.choice = masking, alone, choice
        self.chunks: tuple[int, ...] = ()
        self.holding = False  # see `SparseSGD`
        self.compact = False  # from `begin_step` to `end_step`
        self.programs: dict[tuple, nn.Module | None] = {}  # by mode and shapes of the inputs
        self.current: nn.Module | None = None
        self.said: set[str] = set()
        self.reading = 0  # forward passes so far

    def __deepcopy__(self, memo: dict) -> None:
        """A copy of the network has masks of its own: it runs dense."""
        return None

    # ---- running ----------------------------------------------------------------------------------------------------

    def __call__(self, *inputs: Tensor, chunks: tuple[int, ...] = ()) -> Any:
        """As the module's own method; `chunks` sum to the batch and keep separate batch statistics."""
        training = self.module.training and torch.is_grad_enabled()
        if training and not self.compact:
            self._reconsider()
        pays = self.choice is None or self.choice.pays
        program = self.program(inputs) if pays and taken(inputs) else None
        if program is None or (len(chunks) > 1 and program.mixes):
            self.restore()
            return self._dense(inputs, chunks)
        if self.choice and not self.choice.seconds and training:
            leaves = tuple(x.detach().requires_grad_(x.requires_grad) for x in inputs)  # graphs before them stay whole
            both = (lambda: self._dense(leaves, chunks)), (lambda: self._run(program, leaves, chunks))
            self.choice.compare(self.module, self.density(), *both)
            if not self.choice.pays:
                self.forget()
                return self._dense(inputs, chunks)
        return self._run(program, inputs, chunks)

    def _reconsider(self) -> None:
        """Forget which engine is faster where that was found at another density."""
        if self.choice and self.choice.seconds and not self.choice.holds(self.density()):
            self.restore()
            self.choice.seconds = {}

    def _dense(self, inputs: tuple, chunks: tuple[int, ...]) -> Any:
        return self.dense(*inputs, chunks) if chunks else self.dense(*inputs)

    def _run(self, program: nn.Module, inputs: tuple, chunks: tuple[int, ...]) -> Any:
        if program is not self.current:
            self.restore()
            self.current = program
        self.chunks = tuple(chunks)
        return program(*inputs)

    def program(self, inputs: tuple) -> nn.Module | None:
        """The traced module with its segments, for inputs of these shapes; None where nothing is to be gained."""
        key = (self.module.training, *(tuple(x.shape[1:]) for x in inputs))
        if key not in self.programs:
            self.programs[key] = self._program(inputs)
        return self.programs[key]

    def _program(self, inputs: tuple[Tensor, ...]) -> nn.Module | None:
        name = type(self.module).__name__
        try:
            found = traced(self.module, self.method, tuple(x.detach() for x in inputs))
        except Exception as error:  # torch.fx raises whatever the module's own code raises on its proxies
            self._say(f"{name} cannot be traced and runs dense ({str(error).strip().splitlines()[0]})")
            return None
        same = next((p for p in self.programs.values() if p is not None and p.traced_code == found.code), None)
        if same is not None:
            return same
        code, calls = found.code, Counter(node.target for node in found.graph.nodes if node.op == "call_module")
        program, names, outside = segmented(found)
        for target in names:
            setattr(program, target, Segment(self, program.get_submodule(target)))
        program.traced_code, program.segments = code, [program.get_submodule(target) for target in names]
        program.mixes = mixes_samples(program, names)
        program.shared = {f"{target}.weight" for target, count in calls.items() if count > 1}
        if outside:
            self._say(f"{name}: {', '.join(outside)} run in PyTorch; {len(names)} segments on the sparse kernels")
        return program if names else None

    def _say(self, text: str) -> None:
        if text not in self.said:
            self.said.add(text)
            logger.info(text)

    # ---- which weights exist, and whose gradients are wanted --------------------------------------------------------

    def mask_of(self, layer: SparseLayer) -> Tensor | None:
        """Which of a layer's weights exist; None: all."""
        if self.masking is not None:
            return self.masking.existing.get(layer.name)
        if (mask := getattr(layer.module, "weight_mask", None)) is not None:
            return mask
        mask = layer.given.detach() != 0  # looked at every time: a change through `.data` leaves no trace
        if int(mask.count_nonzero()) > (1 - ENOUGH_ZEROS) * mask.numel():
            return None
        return layer.mask if layer.mask is not None and torch.equal(mask, layer.mask) else mask

    def density(self) -> float:
        """The share of weights that exist, in the layers that have masks or, without a `masking`, in all."""
        if self.masking is not None:
            found = list(self.masking.existing.values())
        else:
            layers = (m for m in self.module.modules() if isinstance(m, WEIGHTED))
            found = [getattr(layer, "weight_mask", layer.weight) for layer in layers]
        return sum(int(x.count_nonzero()) for x in found) / sum(x.numel() for x in found) if found else 1.0

    def wanted_of(self, layer: SparseLayer) -> Tensor | str | None:
        """Whose gradients are found: of these weights, None: of all that exist, or EVERYTHING."""
        if self.masking is None:  # the product with a mask hides the other gradients; nothing hides those of zeros
            return None if hasattr(layer.module, "weight_mask") else EVERYTHING
        wanted = self.masking.wanted if self.alone else None
        return EVERYTHING if wanted is None else wanted.get(layer.name)

    def prepare(self, graph: Graph, work: Pass) -> None:
        """Before a forward pass: masks and weights as they are now."""
        self.reading += 1
        for layer in graph.layers:
            layer.index(self.mask_of(layer), work.capacity)
            layer.want(self.wanted_of(layer))
            layer.read_values(layer.given)
            layer.reading, layer.shared = self.reading, layer.name in self.current.shared
            if self.choice is None:
                self._release(layer)  # at once: dense weights and all that the engine needs are never held together
        if self.choice:
            self.choice.take(work)
            for layer in graph.layers:
                if layer.dense:
                    layer.restore()
                    layer.read_values(layer.given)
                self._release(layer)

    def _release(self, layer: SparseLayer) -> None:
        if self.compact and layer.collects:
            layer.release()

    def prepare_backward(self, graph: Graph, work: Pass, states: list, needed: list[bool]) -> None:
        """Before a backward pass: masks and weights of its forward pass; which of the graph's slots are `needed`."""
        for slot, need in zip(graph.slots, needed, strict=True):
            if isinstance(slot.source, SparseLayer):
                slot.source.trains = need
        wanted = [self.wanted_of(layer) for layer in graph.layers]
        if self.masking is not None and EVERYTHING in [w for w in wanted if isinstance(w, str)]:
            self.restore()  # for a decision on weights
        for layer, (mask, weight, reading), want in zip(graph.layers, states, wanted, strict=True):
            if not layer.released:
                layer.index(mask, work.capacity)
                if layer.reading != reading:  # another pass was in between
                    layer.read_values(weight)
                    layer.reading = reading
            layer.want(want)

    def gradient(self, segment: Segment, layer: SparseLayer) -> Tensor | None:
        """The gradient of a layer for its `grad`, or None when it was collected."""
        if self.compact and layer.collects:
            layer.collect()
            return None
        return segment.gradient(layer)

    # ---- storage of the active weights only -------------------------------------------------------------------------

    def begin_step(self) -> None:
        """Until `end_step`, collect gradients of weights instead of setting `grad`, where nothing reads `grad`."""
        self._reconsider()
        tried = self.choice is None or bool(self.choice.seconds)
        self.compact = self.holding and self.exact and tried and not self.masking.reads_gradients
        for layer in self._layers():
            layer.collected = None

    def keep(self, masks: dict[str, Tensor]) -> None:
        """Set collected gradients outside the masks, by layer, to zero."""
        for layer in self._layers():
            if layer.name in masks:
                layer.keep(masks[layer.name])

    def end_step(self, rate: float) -> None:
        """Subtract `rate` times the collected gradients from the weights."""
        for layer in self._layers():
            layer.update(rate)
        self.compact = False

    def restore(self) -> None:
        """Write all weights back to the dense parameters."""
        for layer in self._layers():
            layer.restore()

    def forget(self) -> None:
        """Give all memory back."""
        self.restore()
        self.programs, self.current = {}, None

    def _segments(self) -> list[Segment]:
        return [s for p in {id(p): p for p in self.programs.values() if p is not None}.values() for s in p.segments]

    def _layers(self) -> list[SparseLayer]:
        return [layer for s in self._segments() for graph in s.graphs.values() for layer in graph.layers]

    @property
    def exact(self) -> bool:
        """Whether gradients of masked layers are zero wherever they are not wanted."""
        return self.masking is not None and self.alone and (self.choice is None or self.choice.pays)

    # ---- what a run remembers ---------------------------------------------------------------------------------------

    def report(self) -> dict:
        """What a finished run should remember of its engine, as JSON values."""
        return {"engine": self.choice.report() if self.choice else {"chosen": "sparse"}}

    def state_dict(self) -> dict:
        """What a resumed run needs to go on with the same bits: the choices made so far."""
        return self.choice.state_dict() if self.choice else {}

    def load_state_dict(self, state: dict) -> None:
        """Take over a state of `state_dict`."""
        if self.choice:
            self.choice.load_state_dict(state)
