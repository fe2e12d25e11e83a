"""`accelerate`: a module trains and predicts on its nonzero weights, and stays the same object with the same names."""

import copy
import importlib.util
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from sparcl_lite.engine.contract import Masking
from sparcl_lite.errors import KitError
from sparcl_lite.models import Network

if TYPE_CHECKING:
    from sparcl_lite.engine.engine import Engine

KINDS = ("dense", "auto", "sparse")


def accelerate(model: nn.Module, example_inputs: Tensor | tuple[Tensor, ...], engine: str = "auto") -> nn.Module:
    """Have a module train and predict on its nonzero weights only. The module itself changes and is returned.

    Parameters
    ----------
    model : any module that `torch.fx` traces, on the CPU, in float32. Convolutions with square kernels of 1 to 7 and
        stride 1 or 2, batch norm, ReLU, ReLU6, sums, pooling, flatten, dropout and linear layers run on the sparse
        kernels, everything else in PyTorch; a line of the log (`sparcl_lite.engine`) says what.
    example_inputs : what `model` is called with, e.g. one batch ``(N, C, H, W)``; other sizes work too
    engine : "auto" runs each product, and the whole model, in the way that is faster when timed: first, and again when
        the share of nonzero weights is below half or above twice of what it was; "sparse" always on the kernels;
        "dense" leaves the module as it is

    Which weights exist is asked in every step: the masks of `torch.nn.utils.prune`, else the zeros of a weight. Results
    and gradients are those of the same module without the call, for any loss and optimiser: the gradient of a pruned
    weight is zero outside its mask; that of zeros without a mask is found, which takes longer. Hooks of modules inside
    are respected if they are there before the call. Raises `KitError` for an unknown engine.

    >>> model = accelerate(model, images)  # doctest: +SKIP
    """
    if engine not in KINDS:
        raise KitError(f"engine = {engine!r}: unknown; allowed: {', '.join(KINDS)}")
    if isinstance(vars(model).get("forward"), Accelerated):
        del model.forward
    if engine == "dense" or _missing_numba(engine):
        return model
    inputs = example_inputs if isinstance(example_inputs, tuple | list) else (example_inputs,)
    forward = Accelerated(model, engine)
    forward.engine.program(tuple(inputs))
    model.forward = forward
    return model


class Accelerated:
    """The `forward` of an accelerated module; a copy of the module has one of its own."""

    def __init__(self, model: nn.Module, kind: str):
        self.model, self.kind = model, kind
        self.engine = _made(kind, model, "forward", model.forward, None, alone=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs:
            self.engine.restore()
            return self.engine.dense(*args, **kwargs)  # as it is called
        return self.engine(*args)

    def __deepcopy__(self, memo: dict) -> "Accelerated":
        return Accelerated(copy.deepcopy(self.model, memo), self.kind)

    def __reduce__(self) -> tuple:
        return Accelerated, (self.model, self.kind)


def engine_of(network: nn.Module) -> "Engine | None":
    """What runs a network instead of PyTorch's layers, if anything does."""
    own = vars(network).get("forward")
    return own.engine if isinstance(own, Accelerated) else getattr(network, "engine", None)


def engine_for(kind: str, network: Network, masking: Masking, *, alone: bool) -> "Engine | None":
    """What `network.engine` should be: None for PyTorch's dense layers (`kind` dense), else `auto` or `sparse`.

    `alone`: within a step nothing but backward and the update looks at weights and gradients. Dense it stays on a GPU,
    and (with a warning) where numba is not installed.
    """
    if kind == "dense" or next(network.parameters()).device.type != "cpu" or _missing_numba(kind):
        return None
    return _made(kind, network.body, network.traced, network.dense, masking, alone=alone)


def _made(
    kind: str, module: nn.Module, method: str, dense: Callable, masking: Masking | None, *, alone: bool
) -> "Engine":
    from sparcl_lite.engine.choice import Choice  # these import numba
    from sparcl_lite.engine.engine import Engine

    return Engine(module, method, dense, masking, alone=alone, choice=Choice() if kind == "auto" else None)


def _missing_numba(kind: str) -> bool:
    missing = importlib.util.find_spec("numba") is None
    if missing:
        text = f'engine = "{kind}" needs numba (pip install "sparcl-lite[kernels]"): training runs dense'
        warnings.warn(text, stacklevel=3)
    return missing
