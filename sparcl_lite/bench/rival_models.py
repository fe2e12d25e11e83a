"""How each rival trains a model whose weights are partly zero: what it makes of the dense model, or why it cannot.

Every rival gets a contiguous model of its own with the same weights, zeros included. Which zeros are meant is in
`masks`, by the name of the weight.
"""

import contextlib
import io
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

from sparcl_lite.engine import accelerate, engine_for
from sparcl_lite.models import Network, ResNet

LR = 0.01
Masks = Mapping[str, Tensor]


class Unavailable(Exception):
    """Why a rival cannot run here, or not this model; one line."""


@dataclass(frozen=True)
class Rival:
    """A way to train a model: `make(model, masks, inputs)` returns the model that is trained.

    Attributes
    ----------
    uses_zeros : whether time and memory depend on how many weights are zero
    masks_gradients : whether the gradients of weights that it leaves dense are multiplied by the masks
    """

    make: Callable[[nn.Module, Masks, Tensor], nn.Module]
    uses_zeros: bool = True
    masks_gradients: bool = False


def in_layout(model: nn.Module, layout: torch.memory_format) -> nn.Module:
    """The same model with its weights, and the maps between its layers, in this layout."""
    if isinstance(model, ResNet):
        model.layout = layout
    return model.to(memory_format=layout)


def _dense(model: nn.Module, masks: Masks, inputs: Tensor) -> nn.Module:
    return model


def _channels_last(model: nn.Module, masks: Masks, inputs: Tensor) -> nn.Module:
    if inputs.dim() != 4:
        raise Unavailable("a linear layer has one layout")
    return in_layout(model, torch.channels_last)


def _compiled(model: nn.Module, masks: Masks, inputs: Tensor) -> nn.Module:
    if isinstance(model, ResNet):
        model.dense = torch.compile(model.dense)
        return model
    return torch.compile(model)


class _CSRLinear(nn.Module):
    """A linear layer on PyTorch's compressed sparse rows.

    The stored values are the parameter: as a parameter itself, such a tensor gets a dense gradient, and no optimiser of
    PyTorch can update it.
    """

    def __init__(self, dense: nn.Linear):
        super().__init__()
        rows = dense.weight.detach().to_sparse_csr()
        self.places = rows.crow_indices(), rows.col_indices()
        self.shape, self.values, self.bias = rows.shape, nn.Parameter(rows.values()), dense.bias

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.sparse_csr_tensor(*self.places, self.values, self.shape, check_invariants=False)
        return F.linear(x, weight) + self.bias


def _csr(model: nn.Module, masks: Masks, inputs: Tensor) -> nn.Module:
    if not isinstance(model, nn.Linear):
        raise Unavailable("PyTorch has no convolution with such weights")
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # that they are in beta state
        return _CSRLinear(model)


def _sparseprop(model: nn.Module, masks: Masks, inputs: Tensor) -> nn.Module:
    """Single layers in the faster of their two ways; in a network the layers for which that beats dense, if over 80 %
    of their weights are zero: `swap_modules_with_sparse`, as the authors advise.
    """
    try:
        from sparseprop.modules import SparseLinear, sparsify_conv2d_auto
        from sparseprop.utils import swap_modules_with_sparse
    except ImportError as error:
        raise Unavailable(
            f"{error}; it is built on the machine: pip install pybind11 setuptools wheel, "
            f"then pip install --no-build-isolation sparseprop"
        ) from None
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what becomes of each layer
        if isinstance(model, nn.Linear):
            return SparseLinear.from_dense(model)
        if isinstance(model, nn.Conv2d):
            return sparsify_conv2d_auto(model, tuple(inputs.shape))
        swapped = swap_modules_with_sparse(model, tuple(inputs.shape), inplace=True)
    for layer in swapped.modules():
        if getattr(layer, "vectorizing_over_on", False):  # such a layer takes it for granted, and errs otherwise
            layer.register_forward_pre_hook(lambda _, given: (given[0].contiguous(),))
            layer.register_full_backward_pre_hook(lambda _, gradients: (gradients[0].contiguous(),))
    return swapped


def _sparselab(model: nn.Module, masks: Masks, inputs: Tensor) -> nn.Module:
    try:
        import sparselab
    except ImportError as error:
        raise Unavailable(f'{error}: pip install "sparcl-lite[rivals]"') from None
    if not isinstance(model, nn.Linear):
        raise Unavailable("SparseLab has linear layers only")
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        layer = sparselab.SparseLinear(model.in_features, model.out_features)
        layer._csr = sparselab.PaddedCSR.from_dense(model.weight.detach())  # the constructor draws a mask of its own
    layer._values = nn.Parameter(torch.from_numpy(layer._csr.values))
    layer.bias = model.bias
    return layer


class _Layer(Network):
    """A layer alone, as a network that an engine may run."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layers = nn.Sequential(layer)

    @property
    def body(self) -> nn.Module:
        return self.layers

    def dense(self, x: Tensor, chunks: tuple[int, ...] = ()) -> Tensor:
        return self.layers(x)

    def forward(self, x: Tensor, chunks: tuple[int, ...] = ()) -> Tensor:
        return self.engine(x)


def _ours(model: nn.Module, masks: Masks, inputs: Tensor) -> nn.Module:
    """This package's engine under its own training loop: one number is stored for each nonzero weight and gradient."""
    if not isinstance(model, ResNet):
        model, masks = _Layer(model), {f"0.{name}": mask for name, mask in masks.items()}
    masking = SimpleNamespace(existing=dict(masks), wanted={}, reads_gradients=False)
    model.engine = engine_for("sparse", model, masking, alone=True)
    if model.engine is None:
        raise Unavailable('numba is missing: pip install "sparcl-lite[kernels]"')
    return model


def _accelerated(model: nn.Module, masks: Masks, inputs: Tensor) -> nn.Module:
    """This package's engine under a module that `torch.nn.utils.prune` has pruned, for any loop and optimiser."""
    for name, mask in masks.items():
        owner, _, parameter = name.rpartition(".")
        prune.custom_from_mask(model.get_submodule(owner), parameter, mask)
    return accelerate(model if isinstance(model, ResNet) else nn.Sequential(model), inputs.detach(), "sparse")


#: Dense ones first: every other is compared with the faster of them.
DENSE = ("dense, contiguous", "dense, channels_last")
OURS = "sparcl_lite"
RIVALS = {
    DENSE[0]: Rival(_dense, uses_zeros=False),
    DENSE[1]: Rival(_channels_last, uses_zeros=False),
    "masked, contiguous": Rival(_dense, uses_zeros=False, masks_gradients=True),
    "masked, channels_last": Rival(_channels_last, uses_zeros=False, masks_gradients=True),
    "torch.compile": Rival(_compiled, uses_zeros=False),
    "PyTorch sparse CSR": Rival(_csr),
    "SparseProp": Rival(_sparseprop, masks_gradients=True),
    "SparseLab": Rival(_sparselab),
    f"{OURS}, accelerate": Rival(_accelerated),
    OURS: Rival(_ours),
}
