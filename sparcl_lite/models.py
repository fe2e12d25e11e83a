"""Networks: the CIFAR ResNet-18 of any width, and the small residual network of the `lite` profile.

Both are one class; what is prunable in them is decided in `sparsity.masks`. Batch norm can keep separate statistics
for the chunks (current batch, replay batches) of one joint pass.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm that treats each chunk of the batch as a pass of its own, with its own statistics."""

    chunks: tuple[int, ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or len(self.chunks) < 2:
            return super().forward(x)
        return torch.cat([super(BatchNorm2d, self).forward(part) for part in x.split(self.chunks)])


class BasicBlock(nn.Module):
    """relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)); the shortcut is a 1x1 convolution where the shape changes."""

    def __init__(self, channels_in: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet(nn.Module):
    """Residual network for small images: 3x3 stem, no max-pool, stages that double the channels and halve the size.

    Parameters
    ----------
    channels_in, classes : image channels and width of the one shared head
    width : channels of the first stage
    blocks : residual blocks per stage
    stem_stride : 1 for CIFAR; 2 makes every later layer four times cheaper

    Attributes
    ----------
    layout : memory format of the maps, and as built of the weights
    engine : runs the layers up to the head in another way, or None; see `sparsity.engine`
    """

    layout = torch.channels_last

    def __init__(
        self,
        channels_in: int,
        classes: int,
        *,
        width: int,
        blocks: tuple[int, ...],
        stem_stride: int = 1,
    ):
        super().__init__()
        self.entry = nn.Identity()  # every pass begins here, whatever runs it: the place for a hook
        self.engine = None
        self.conv1 = nn.Conv2d(channels_in, width, 3, stem_stride, 1, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.stages, channels = [], width
        for stage, count in enumerate(blocks):
            out = width * 2**stage
            layers = [
                BasicBlock(channels if i == 0 else out, out, 2 if i == 0 and stage > 0 else 1) for i in range(count)
            ]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
            self.stages.append(f"layer{stage + 1}")
            channels = out
        self.linear = nn.Linear(channels, classes)
        self._norms = [m for m in self.modules() if isinstance(m, BatchNorm2d)]
        self.to(memory_format=self.layout)

    def forward(self, x: Tensor, chunks: tuple[int, ...] = ()) -> Tensor:
        """Logits ``(N, classes)`` of images ``(N, C, H, W)``; `chunks` sum to N and keep separate statistics."""
        return self.linear(self.features(x, chunks))

    def features(self, x: Tensor, chunks: tuple[int, ...] = ()) -> Tensor:
        """What the head sees ``(N, features)``: the last stage's maps, averaged over their positions."""
        x = self.entry(x)
        if self.engine is not None and self.engine.takes(x):
            return self.engine.features(x, chunks)
        return self.dense_features(x, chunks)

    def dense_features(self, x: Tensor, chunks: tuple[int, ...] = ()) -> Tensor:
        """`features` as PyTorch computes them."""
        for norm in self._norms:
            norm.chunks = chunks
        x = F.relu(self.bn1(self.conv1(x.contiguous(memory_format=self.layout))))
        for name in self.stages:
            x = getattr(self, name)(x)
        return x.mean((2, 3))


ARCHITECTURES = {
    "resnet18": {"blocks": (2, 2, 2, 2), "stem_stride": 1},
    "small": {"blocks": (1, 1, 1), "stem_stride": 2},
}


def build(architecture: str, *, width: int, channels: int, classes: int, seed: int) -> ResNet:
    """A network with PyTorch's default initialisation, drawn from `seed` and from nothing else."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ResNet(channels, classes, width=width, **ARCHITECTURES[architecture])


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Train-mode passes inside leave the running statistics of every batch norm as they are."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked.clone() for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)
