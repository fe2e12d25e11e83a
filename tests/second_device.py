"""A second device on any machine: its tensors live on the CPU, but no operation mixes them with tensors of the CPU.

Refused is what a GPU refuses: a tensor made without a device that meets those of the run. Numbers (tensors of no
dimension) and indices may be of the CPU, as there. Generators stay on the CPU.
"""

from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_iter, tree_map_only

SECOND = "lazy"  # a device that PyTorch knows by name only; autograd runs it in the caller's thread
ATEN = torch.ops.aten
INDEXING = (ATEN.index, ATEN.index_put, ATEN.index_put_, ATEN._index_put_impl_)
COPYING = (ATEN.copy_, ATEN._to_copy)


class Elsewhere(torch.Tensor):
    """A tensor of the second device; `inner` holds its values."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), dtype=inner.dtype, device=SECOND
        )

    def __init__(self, inner):
        self.inner = inner

    def tolist(self):
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


@contextmanager
def second_device():
    """Within it, `device="lazy"` makes tensors of the second device."""
    with _Operations(), _Literals():
        yield


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


class _Literals(TorchFunctionMode):
    """`torch.tensor`, which copies to its device where no dispatch mode sees it."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.tensor and (device := kwargs.pop("device", None)) is not None:
            return func(*args, **kwargs).to(device)
        return func(*args, **kwargs)


def run(func, args, kwargs):
    given = list(tree_iter((args, kwargs)))
    packet, asked = func.overloadpacket, kwargs.get("device")
    here = any(isinstance(t, Elsewhere) for t in given)
    looked_at = list(tree_iter((args[0], args[2:], kwargs))) if packet in INDEXING else given
    strays = [t for t in looked_at if isinstance(t, torch.Tensor) and not isinstance(t, Elsewhere) and t.dim()]
    if packet in INDEXING and not isinstance(args[0], Elsewhere) and here:
        strays = [args[0]]
    if here and strays and packet not in COPYING:
        raise RuntimeError(f"{func}: a tensor of the CPU, {tuple(strays[0].shape)}, meets one of the second device")
    inner = [tree_map_only(Elsewhere, lambda t: t.inner, part) for part in (args, kwargs)]
    if asked is not None:
        inner[1]["device"] = torch.device("cpu")
    out = func(*inner[0], **inner[1])
    if not (here if asked is None else torch.device(asked).type == SECOND):
        return out
    if packet is ATEN.copy_ and not isinstance(args[0], Elsewhere):
        return args[0]
    out = tree_map_only(torch.Tensor, lambda t: t if isinstance(t, Elsewhere) else Elsewhere(t), out)
    return return_and_correct_aliasing(func, args, kwargs, out) if here else out
