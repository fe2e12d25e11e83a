"""Networks: the CIFAR ResNet-18 of any width, and the small residual network of the `lite` profile.

Both are one class. Batch norm can keep separate statistics for the chunks (current batch, replay batches) of one joint
pass. The first blocks can be frozen: they then run without any gradient bookkeeping and keep no maps. Prunable are the
3x3 convolutions of the residual blocks; stem, shortcuts, batch norm and head stay dense, as in SparCL.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sparcl_lite.config.run import UNFROZEN
from sparcl_lite.models.network import Network

FROZEN_BATCH = 8  # images that pass the frozen blocks at once


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
        self.out_channels = channels
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
        return self.maps(x)[1]

    def maps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both rectified maps: inside the block, and its output."""
        inner = F.relu(self.bn1(self.conv1(x)))
        return inner, F.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))


class ResNet(Network):
    """Residual network for small images: 3x3 stem, no max-pool, stages that halve the size from one to the next.

    Parameters
    ----------
    channels_in, classes : image channels and width of the one shared head
    widths : channels of each stage; the stem has those of the first
    blocks : residual blocks per stage
    stem_stride : 1 for CIFAR; 2 makes every later layer four times cheaper

    Attributes
    ----------
    widths : channels of each stage
    stages : their names
    """

    layout, traced = torch.channels_last, "dense"

    def __init__(
        self,
        channels_in: int,
        classes: int,
        *,
        widths: tuple[int, ...],
        blocks: tuple[int, ...],
        stem_stride: int = 1,
    ):
        super().__init__()
        # Passes also begin here: those of `trunk`, those of `patterns`.
        self.trunk_entry, self.patterns_entry = nn.Identity(), nn.Identity()
        self.widths, self.settings = widths, {"blocks": blocks, "stem_stride": stem_stride}
        self.conv1 = nn.Conv2d(channels_in, widths[0], 3, stem_stride, 1, bias=False)
        self.bn1 = BatchNorm2d(widths[0])
        self.stages, channels = [], widths[0]
        for stage, (count, out) in enumerate(zip(blocks, widths, strict=True)):
            layers = [
                BasicBlock(channels if i == 0 else out, out, 2 if i == 0 and stage > 0 else 1) for i in range(count)
            ]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
            self.stages.append(f"layer{stage + 1}")
            channels = out
        self.linear = nn.Linear(channels, classes)
        names = (f"{s}.{i}" for s, count in zip(self.stages, blocks, strict=True) for i in range(count))
        self.blocks = ("stem", *names)
        self.prunable = tuple(f"{name}.conv{i}.weight" for name in self.blocks[1:] for i in (1, 2))
        self.to(memory_format=self.layout)

    @property
    def head(self) -> nn.Linear:
        """The linear layer behind the mean over positions."""
        return self.linear

    @property
    def entries(self) -> dict[nn.Module, int]:
        """Passes can also end or begin between frozen and trainable blocks."""
        return {self.entry: 0, self.trunk_entry: -1, self.patterns_entry: 1}

    @property
    def boundaries(self) -> list[str]:
        """Nothing, or a block; the last one of a stage is called by its stage."""
        last = {f"{stage}.{len(self.get_submodule(stage)) - 1}": stage for stage in self.stages}
        return [UNFROZEN, *(last.get(name, name) for name in self.blocks)]

    @property
    def last_stage(self) -> tuple[str, ...]:
        """The blocks of the last stage."""
        return tuple(name for name in self.blocks if name.startswith(f"{self.stages[-1]}."))

    def narrowed(self, widths: tuple[int, ...]) -> "ResNet":
        """A new network of the same kind with other channels in its stages."""
        return ResNet(self.conv1.in_channels, self.linear.out_features, widths=widths, **self.settings)

    def features(self, x: Tensor, chunks: tuple[int, ...] = ()) -> Tensor:
        """What the head sees ``(N, features)``: the last stage's maps, averaged over their positions."""
        x = self.entry(x)
        return self.dense(x, chunks) if self.engine is None else self.engine(x, chunks=chunks)

    def dense(self, x: Tensor, chunks: tuple[int, ...] = ()) -> Tensor:
        """`features` as PyTorch computes them."""
        self._set_chunks(chunks)
        x = self._frozen_maps(x.contiguous(memory_format=self.layout))
        for name in self.blocks[len(self.frozen) :]:
            x = self.run_block(name, x)
        return x.mean((2, 3))

    def trunk(self, x: Tensor) -> Tensor:
        """What the frozen blocks make of images, without a graph (the images themselves if nothing is frozen)."""
        self._set_chunks(())
        return self._frozen_maps(self.trunk_entry(x).contiguous(memory_format=self.layout))

    def patterns(self, maps: Tensor) -> tuple[list[Tensor], Tensor]:
        """Every rectified map of the last stage's trainable blocks, and the logits, from the maps of `trunk`."""
        self._set_chunks(())
        x, found = self.patterns_entry(maps), []
        for name in self.blocks[len(self.frozen) :]:
            if name.startswith(self.stages[-1]):
                found += self.get_submodule(name).maps(x)
                x = found[-1]
            else:
                x = self.run_block(name, x)
        return found, self.linear(x.mean((2, 3)))

    @property
    def pattern_widths(self) -> list[int]:
        """Channels of each map that `patterns` finds."""
        names = [n for n in self.blocks[len(self.frozen) :] if n.startswith(self.stages[-1])]
        blocks = [self.get_submodule(name) for name in names]
        return [width for block in blocks for width in (block.conv1.out_channels, block.out_channels)]

    def frozen_modules(self) -> list[nn.Module]:
        """The stem's layers and the frozen residual blocks."""
        stem = [self.conv1, self.bn1] if self.frozen else []
        return stem + [self.get_submodule(name) for name in self.frozen[1:]]

    @torch.no_grad()
    def _frozen_maps(self, x: Tensor) -> Tensor:
        if not self.frozen:
            return x  # with its graph, if an encoder made it
        alone = self.frozen_norm == "eval" or not self.training  # every image for itself: few maps exist at a time
        parts = []
        for part in x.split(FROZEN_BATCH if alone else len(x)):
            for name in self.frozen:
                part = self.run_block(name, part)
            parts.append(part)
        return torch.cat(parts)

    def block_maps(self, x: Tensor) -> dict[str, Tensor]:
        """Rectified map of the stem and of each residual block, whatever the engine."""
        found, x = {}, x.contiguous(memory_format=self.layout)
        for name in self.blocks:
            x = found[name] = self.run_block(name, x)
        return found

    def run_block(self, name: str, x: Tensor) -> Tensor:
        """The rectified map of one of `blocks`, from that of the block before it."""
        return F.relu(self.bn1(self.conv1(x))) if name == "stem" else self.get_submodule(name)(x)

    def _set_chunks(self, chunks: tuple[int, ...]) -> None:
        for norm in self._norms:
            norm.chunks = chunks

    @cached_property
    def _norms(self) -> list[BatchNorm2d]:
        """Looked for at the first pass, when all layers are in place, and not again in every step."""
        return [module for module in self.modules() if isinstance(module, BatchNorm2d)]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """PyTorch's generator on the CPU begins at `seed` inside; afterwards it is where it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Train-mode passes inside leave the running statistics of every batch norm as they are.

    A sparse engine returns the gradients of passes inside, rather than keeping them for the next update.
    """
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked.clone() for norm in norms]
    engine = getattr(network, "engine", None)
    compact = engine and engine.compact
    for norm in norms:
        norm.momentum = 0.0
    if engine:
        engine.compact = False
    try:
        yield
    finally:
        if engine:
            engine.compact = compact
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)
