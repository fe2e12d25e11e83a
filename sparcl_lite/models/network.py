"""What the rest of the kit asks of a network (`Network`), and any `torch.nn.Module` made to answer it (`adapted`)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from sparcl_lite.config.run import UNFROZEN
from sparcl_lite.errors import KitError

WEIGHTED = (_ConvNd, nn.Linear)  # layers whose weights may be pruned, and whose operations count


class Network(nn.Module):
    """Base of networks: passes with separate batch statistics, a head, prunable weights, and blocks to freeze.

    A subclass has `features`, `head`, `prunable` and `blocks`.

    Attributes
    ----------
    head : the last linear layer
    prunable : names of the weights that a sparse strategy masks, as `body` has them, in order of execution
    blocks : names of what can be frozen, in order of execution
    body : the module that names of weights and of layers refer to
    layout : memory format of the feature maps
    engine : runs `traced` in another way, or None; see `sparcl_lite.engine`
    traced : the method of `body` that an engine runs
    entry : every pass begins here: a place for hooks, and for an encoder, which trains in the first task
    selection : what is between features and head, where there is a selection
    frozen : the first of `blocks`, which do not train
    """

    layout = torch.contiguous_format
    engine = None
    traced = "forward"
    prunable: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.entry, self.selection = nn.Identity(), nn.Identity()
        self.frozen: tuple[str, ...] = ()
        self.frozen_norm = "eval"
        self._held: list[nn.Parameter] = []  # by `freeze`, and not by who made the network

    @property
    def body(self) -> nn.Module:
        """The network itself."""
        return self

    @property
    def entries(self) -> dict[nn.Module, int]:
        """Where passes begin, and how each counts: 0 a whole one, see `measure.flops.PassCounter`."""
        return {self.entry: 0}

    @property
    def head(self) -> nn.Module:
        """The layer that makes logits of features."""
        raise NotImplementedError

    def features(self, x: Tensor, chunks: tuple[int, ...] = ()) -> Tensor:
        """What the head sees ``(N, features)``."""
        raise NotImplementedError

    def dense(self, x: Tensor, chunks: tuple[int, ...] = ()) -> Tensor:
        """What `traced` computes, by PyTorch's layers."""
        raise NotImplementedError

    def forward(self, x: Tensor, chunks: tuple[int, ...] = ()) -> Tensor:
        """Logits ``(N, classes)`` of images ``(N, C, H, W)``; `chunks` sum to N and keep separate batch statistics."""
        return self.head(self.features(x, chunks))

    @property
    def boundaries(self) -> list[str]:
        """What can be the last frozen block: nothing, or a block."""
        return [UNFROZEN, *self.blocks]

    def up_to(self, boundary: str) -> tuple[str, ...]:
        """The blocks up to and including a boundary."""
        return tuple(self.blocks[: self.boundaries.index(boundary)])

    def freeze(self, blocks: tuple[str, ...], norm: str = "eval") -> None:
        """Train none of these first blocks; their batch norm uses running statistics (`eval`) or the batch's."""
        self.frozen, self.frozen_norm = blocks, norm
        for parameter in self._held:
            parameter.requires_grad_(True)
        self._held = [p for module in self.frozen_modules() for p in module.parameters() if p.requires_grad]
        for parameter in self._held:
            parameter.requires_grad_(False)
            parameter.grad = None
        self.train(self.training)

    def train(self, mode: bool = True) -> "Network":
        """As in any module, but frozen blocks whose batch norm is that of evaluation stay in it."""
        super().train(mode)
        if self.frozen_norm == "eval":
            for module in self.frozen_modules():
                module.eval()
        return self

    def block_maps(self, x: Tensor) -> dict[str, Tensor]:
        """Output of each block, by name, in a pass of images ``(N, C, H, W)`` through PyTorch's layers."""
        found: dict[str, Tensor] = {}
        handles = [
            self.body.get_submodule(name).register_forward_hook(
                lambda block, inputs, output, name=name: found.update({name: output})
            )
            for name in self.blocks
        ]
        try:
            self(x)
        finally:
            for handle in handles:
                handle.remove()
        return found

    def frozen_modules(self) -> list[nn.Module]:
        """The modules of the frozen blocks."""
        return [self.body.get_submodule(name) for name in self.frozen]


class Adapted(Network):
    """A module as a network: each chunk is a pass of its own, and the head's input is seen by a hook.

    The module may say itself what is what: `head`, the name of its last layer; `prunable`, names of weights; `stages`,
    names of submodules in order of execution. Otherwise they are found: see `adapted`.
    """

    def __init__(self, module: nn.Module, example: Tensor | None = None):
        super().__init__()
        self.module = module
        layers = _executed(module, example)
        self.head_name = _named(module, "head") or next((n for n in reversed(layers) if _is_linear(layers[n])), "")
        given = _named(module, "prunable")
        self.prunable = _pruned_by_rule(layers, self.head_name) if given is None else tuple(given)
        self.blocks = tuple(_named(module, "stages") or _children_before(module, self.head_name))

    @property
    def body(self) -> nn.Module:
        """The module."""
        return self.module

    @property
    def head(self) -> nn.Module:
        """The last linear layer that a pass executes, or what the module's attribute `head` names."""
        if not self.head_name:
            raise KitError("the network has no linear layer: name its last layer by an attribute `head`")
        return self.module.get_submodule(self.head_name)

    def forward(self, x: Tensor, chunks: tuple[int, ...] = ()) -> Tensor:
        """Logits ``(N, classes)``, of each chunk as in a pass of its own."""
        x = self.entry(x)
        return self.dense(x, chunks) if self.engine is None else self.engine(x, chunks=chunks)

    def dense(self, x: Tensor, chunks: tuple[int, ...] = ()) -> Tensor:
        """The logits, of each chunk in a pass of its own."""
        return self._in_chunks(self.module, x, chunks)

    def features(self, x: Tensor, chunks: tuple[int, ...] = ()) -> Tensor:
        """The input of the head."""
        if self.engine is not None:
            self.engine.restore()
        return self._in_chunks(self._features, self.entry(x), chunks)

    def _features(self, x: Tensor) -> Tensor:
        seen: list[Tensor] = []
        handle = self.head.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
        try:
            self.module(x)
        finally:
            handle.remove()
        return seen[-1]

    def _in_chunks(self, run: Callable[[Tensor], Tensor], x: Tensor, chunks: tuple[int, ...]) -> Tensor:
        if not self.training or len(chunks) < 2:
            return run(x)
        return torch.cat([run(part) for part in x.split(tuple(chunks))])


def adapted(module: nn.Module, example: Tensor | None = None) -> Network:
    """The module as a `Network`; one that is a network already stays as it is.

    The head is the last linear layer that a pass of the `example` images executes (without one: that is registered).
    Prunable are the weights of convolutions and hidden linear layers, without the first layer, the head, depthwise
    convolutions and 1x1 convolutions with a stride above 1, which are shortcuts. What can be frozen are the module's
    children with parameters, up to the head. Raises `KitError` where a name that the module gives is none of its own.
    """
    return module if isinstance(module, Network) else Adapted(module, example)


def _executed(module: nn.Module, example: Tensor | None) -> dict[str, nn.Module]:
    """Convolutions and linear layers by name, in order of execution (without an example: of registration)."""
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, WEIGHTED)}
    if example is None:
        return layers
    order: list[str] = []
    handles = [
        layer.register_forward_pre_hook(lambda layer, inputs, name=name: order.append(name))
        for name, layer in layers.items()
    ]
    training = module.training
    try:
        with torch.no_grad():
            module.eval()(example)
    finally:
        module.train(training)
        for handle in handles:
            handle.remove()
    return {name: layers[name] for name in dict.fromkeys(order)}


def _named(module: nn.Module, attribute: str) -> str | Sequence[str] | None:
    """What the module names in an attribute: one name, or several; None where it has another kind of attribute."""
    given = getattr(module, attribute, None)
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return None
    known = {name for name, _ in (module.named_parameters() if attribute == "prunable" else module.named_modules())}
    if unknown := [name for name in names if name not in known]:
        raise KitError(f"{attribute} = {given!r}: the network has no {unknown[0]!r}; it has {', '.join(sorted(known))}")
    return given


def _pruned_by_rule(layers: dict[str, nn.Module], head: str) -> tuple[str, ...]:
    inner = [name for name in list(layers)[1:] if name != head]
    return tuple(f"{name}.weight" for name in inner if not _is_spared(layers[name]))


def _is_spared(layer: nn.Module) -> bool:
    """Whether it is a depthwise convolution or the 1x1 convolution of a shortcut, or its weight no parameter."""
    if "weight" not in layer._parameters:  # but made of others, as in weight norm
        return True
    if _is_linear(layer):
        return False
    depthwise = layer.groups == layer.in_channels > 1
    return depthwise or (set(layer.kernel_size) == {1} and max(layer.stride) > 1)


def _is_linear(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear)


def _children_before(module: nn.Module, head: str) -> list[str]:
    """Children with parameters, in order, up to the one that is the head or has it."""
    names = []
    for name, child in module.named_children():
        if name == head.partition(".")[0]:
            break
        if any(True for _ in child.parameters()):
            names.append(name)
    return names
