"""What PyTorch keeps of a forward pass for the backward pass, to set beside analytic counts of activations."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["saved_bytes"]


def saved_bytes(network: nn.Module, forward: Callable[[], Tensor]) -> int:
    """Bytes of all tensors that `forward` leaves saved for its backward pass, each storage once.

    Parameters of the network are not counted, because they are held anyway. Its inputs are, where a layer saves them.
    """
    known = {p.untyped_storage().data_ptr() for p in network.parameters()}
    saved: dict[int, int] = {}
    held = []  # a storage that was let go could be handed out again under the same address

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            saved[storage.data_ptr()] = storage.nbytes()
            held.append(tensor.detach())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(saved.values())
