"""The trunk as one differentiable function of its weights, for PyTorch's autograd."""

import sys

import numba
import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sparcl_lite.engine.choice import Choice
from sparcl_lite.engine.contract import Masking
from sparcl_lite.engine.kernels.index import scatter
from sparcl_lite.engine.layers import EVERYTHING
from sparcl_lite.engine.passes import Pass
from sparcl_lite.engine.trunk import Trunk, Unit
from sparcl_lite.models import ResNet

EVALUATED = 64  # samples that an evaluation takes at a time: it needs no more memory than a training step


class SparseEngine:
    """Runs a network's trunk on its nonzero weights only; `strategy` says which exist and whose gradient is wanted.

    Methods, strategies and checkpoints see dense parameters with zeros, and dense gradients. While an optimiser is
    `holding`, weights and gradients are stored for the active weights only, unless more are wanted (see `SparseSGD`).
    Unless it is `alone` with weights and gradients within a step, it finds the gradients of all weights, also of those
    outside the mask, and other terms of the loss may add to them. With `choice` each layer and the
    whole network run in the way that is faster (see `Choice`).
    """

    def __init__(self, network: ResNet, strategy: Masking, *, alone: bool = True, choice: Choice | None = None):
        self.network, self.strategy, self.alone, self.choice = network, strategy, alone, choice
        self.holding = False  # see `SparseSGD`
        self.compact = False  # from `begin_step` to `end_step`
        self.size: tuple[int, int] | None = None  # of the trunk used last: only that one's weights may be released
        self.trunks: dict[tuple[int, int], Trunk] = {}
        self.free: list[Pass] = []
        self.buffers: dict[str, list[np.ndarray]] = {}

    def __deepcopy__(self, memo: dict) -> None:
        """A copy of the network has masks of its own: it runs dense."""
        return None

    def takes(self, images: Tensor) -> bool:
        """Whether it can run these images: float32 on the CPU, without a gradient of their own."""
        taken = images.device.type == "cpu" and images.dtype == torch.float32 and not images.requires_grad
        if not taken:
            self.restore()
        return taken

    def features(self, images: Tensor, chunks: tuple[int, ...]) -> Tensor:
        """As `ResNet.features`."""
        if self.choice and not self.choice.seconds and self.network.training and torch.is_grad_enabled():
            self.choice.compare(self.network, images, chunks, self._features)
        if self.choice and not self.choice.pays:
            self.restore()
            self.trunks, self.free, self.buffers = {}, [], {}
            return self.network.dense_features(images, chunks)
        return self._features(images, chunks)

    def _features(self, images: Tensor, chunks: tuple[int, ...]) -> Tensor:
        chunks = tuple(chunks) if self.network.training and len(chunks) > 1 else (len(images),)
        if torch.is_grad_enabled():
            parameters = [p for unit in self.trunk(images).units for p in _parameters(unit)]
            return _TrunkFunction.apply(self, images, chunks, *parameters)
        if self.network.training:
            return self._without_graph(images, chunks)
        return torch.cat([self._without_graph(part, (len(part),)) for part in images.split(EVALUATED)])

    def trunk(self, images: Tensor) -> Trunk:
        """The trunk for images of this size."""
        size = tuple(images.shape[2:])
        if size not in self.trunks:
            self.trunks[size], self.free = Trunk(self.network, *size), []
        if size != self.size:
            self.restore()
            self.size = size
        return self.trunks[size]

    def forward(self, images: Tensor, chunks: tuple[int, ...]) -> tuple[Pass, Tensor]:
        """A pass that remembers what its backward needs, and the features."""
        _use_threads()
        work, masks = self._take(images), self.strategy.existing
        for unit in work.trunk.units:
            unit.convolution.index(masks.get(unit.name))
            unit.convolution.read_values()
        if self.choice:
            self.choice.take(work)
        for unit in work.trunk.units:
            if unit.convolution.dense:
                unit.convolution.restore()
            elif self.compact and unit.convolution.collects:
                unit.convolution.release()
        features = images.new_empty(len(images), self.network.linear.in_features)
        work.forward(images.detach().numpy(), chunks, features.numpy())
        return work, features

    def backward(self, work: Pass, d_features: Tensor) -> list[Tensor]:
        """Gradients of all parameters of the trunk, in the order of its units."""
        _use_threads()
        wanted = self.strategy.wanted if self.alone else None
        if wanted is None:  # for a decision on weights
            self.restore()
        for unit in work.trunk.units:
            unit.convolution.want(EVERYTHING if wanted is None else wanted.get(unit.name))
        work.backward(d_features.detach().contiguous().numpy())
        gradients = []
        for unit in work.trunk.units:
            state = work.states[id(unit)]
            gradients += [
                self._gradient(unit),
                torch.from_numpy(state.d_weight.copy()),
                torch.from_numpy(state.d_bias.copy()),
            ]
        self.free.append(work)
        return gradients

    def begin_step(self) -> None:
        """Until `end_step`, collect gradients of weights instead of setting `grad`, where nothing reads `grad`."""
        tried = self.choice is None or bool(self.choice.seconds)
        self.compact = self.holding and self.exact and tried and not self.strategy.reads_gradients
        for unit in self._units():
            unit.convolution.collected = None

    def keep(self, masks: dict[str, Tensor]) -> None:
        """Set collected gradients outside the masks, by layer, to zero."""
        for unit in self._units():
            if unit.name in masks:
                unit.convolution.keep(masks[unit.name])

    def end_step(self, rate: float) -> None:
        """Subtract `rate` times the collected gradients from the weights."""
        for unit in self._units():
            unit.convolution.update(rate)
        self.compact = False

    def restore(self) -> None:
        """Write all weights back to the dense parameters."""
        for unit in self._units():
            unit.convolution.restore()

    def _units(self) -> list[Unit]:
        return [unit for trunk in self.trunks.values() for unit in trunk.units]

    def _gradient(self, unit: Unit) -> Tensor | None:
        """The gradient of a convolution for its `grad`, or None when it was collected."""
        if self.compact and unit.convolution.collects:
            unit.convolution.collect()
            return None
        return self._dense(unit)

    @property
    def exact(self) -> bool:
        """Whether gradients of masked layers are zero wherever they are not wanted."""
        return self.alone and (self.choice is None or self.choice.pays)

    def report(self) -> dict:
        """What a finished run should remember of its engine, as JSON values."""
        return {"engine": self.choice.report() if self.choice else {"chosen": "sparse"}}

    def state_dict(self) -> dict:
        """What a resumed run needs to go on with the same bits: the choices made so far."""
        return {"layers": self.choice.layers, "seconds": self.choice.seconds} if self.choice else {}

    def load_state_dict(self, state: dict) -> None:
        """Take over a state of `state_dict`."""
        if self.choice:
            self.choice.layers, self.choice.seconds = dict(state["layers"]), dict(state["seconds"])

    def _take(self, images: Tensor) -> Pass:
        """A free pass with enough memory, or a new one."""
        trunk = self.trunk(images)
        for work in self.free:
            if work.trunk is trunk and work.holds(len(images)):
                self.free.remove(work)
                return work
        self.free = [work for work in self.free if work.trunk is not trunk]
        return Pass(trunk, len(images))

    def _without_graph(self, images: Tensor, chunks: tuple[int, ...]) -> Tensor:
        work, features = self.forward(images, chunks)
        self.free.append(work)
        return features

    def _dense(self, unit: Unit) -> Tensor:
        """The gradient of a convolution in the shape and layout of its weight, zero where none was computed.

        Its memory is reused once no tensor refers to it.
        """
        convolution = unit.convolution
        held = self.buffers.setdefault(unit.name, [])
        memory = next((m for m in held if sys.getrefcount(m) == IDLE), None)
        if memory is None:
            memory = np.empty(convolution.shape.weights, np.float32)
            held.append(memory)
        scatter(convolution.gradient, convolution.gradient_rows.source, memory)
        outputs, inputs, height, width = convolution.module.weight.shape
        return torch.from_numpy(memory).view(outputs, height, width, inputs).permute(0, 3, 1, 2)


#: References to an array that only its list and the search above hold.
IDLE = next(sys.getrefcount(m) for m in [np.empty(0)])


class _TrunkFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, engine: SparseEngine, images: Tensor, chunks: tuple[int, ...], *parameters: Tensor) -> Tensor:
        ctx.engine = engine
        ctx.work, features = engine.forward(images, chunks)
        return features

    @staticmethod
    @once_differentiable
    def backward(ctx, d_features: Tensor) -> tuple:
        work, ctx.work = ctx.work, None
        if work is None:
            raise RuntimeError("backward a second time: the sparse engine has already used this pass's memory again")
        return None, None, None, *ctx.engine.backward(work, d_features)


def _parameters(unit: Unit) -> tuple[Tensor, ...]:
    return unit.convolution.module.weight, unit.norm.weight, unit.norm.bias


def _use_threads() -> None:
    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
