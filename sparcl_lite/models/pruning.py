"""LightCL's sparse mode: whole channels are removed before the first task, which leaves a smaller dense network.

With `groups="stage"` the layers that a stage adds up keep the same channels, so the rest is an ordinary narrow
`ResNet`. With `groups="layer"` (the authors' code) each layer keeps its own: its map is written into an otherwise zero
map of full width, of which the next layer reads what the last layer before it wrote. Neither multiplies by zeros.
"""

import copy

import torch
from torch import Tensor, nn

from sparcl_lite.models.resnet import BatchNorm2d, ResNet

Channels = dict[str, Tensor]  # by a convolution's name: the output channels that it keeps, ascending


class ReadConv2d(nn.Conv2d):
    """A convolution of some channels `reads` of its input."""

    def __init__(self, reads: int, channels: int, stride: int):
        super().__init__(reads, channels, 3, stride, 1, bias=False)
        self.register_buffer("reads", torch.arange(reads))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, self.reads])


class ReadLinear(nn.Linear):
    """A linear layer of some features `reads` of its input."""

    def __init__(self, reads: int, classes: int):
        super().__init__(reads, classes)
        self.register_buffer("reads", torch.arange(reads))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, self.reads])


class WriteNorm2d(BatchNorm2d):
    """Batch norm whose channels are the channels `writes` of a map with `width`; the others are zero."""

    def __init__(self, writes: int, width: int):
        super().__init__(writes)
        self.width = width
        self.register_buffer("writes", torch.arange(writes))

    def forward(self, x: Tensor) -> Tensor:
        normed = super().forward(x)
        wide = normed.new_zeros(len(x), self.width, *x.shape[2:])
        return wide.index_copy(1, self.writes, normed)


def scattered(full: ResNet, kept: tuple[int, ...]) -> ResNet:
    """A full-width network with the layers of `groups="layer"`, each with `kept` channels of its stage."""
    network = copy.deepcopy(full)
    width, previous = network.conv1.out_channels, kept[0]
    network.conv1 = nn.Conv2d(network.conv1.in_channels, previous, 3, network.conv1.stride, 1, bias=False)
    network.bn1 = WriteNorm2d(previous, width)
    for name, count in zip(network.stages, kept, strict=True):
        for block in network.get_submodule(name):
            width = block.conv1.out_channels
            block.conv1 = ReadConv2d(previous, count, block.conv1.stride)
            block.bn1 = BatchNorm2d(count)
            block.conv2 = nn.Conv2d(count, count, 3, 1, 1, bias=False)
            block.bn2 = WriteNorm2d(count, width)
            if len(block.shortcut):
                full = block.shortcut[0]
                block.shortcut[0] = nn.Conv2d(full.in_channels, count, 1, full.stride, bias=False)
                block.shortcut[1] = WriteNorm2d(count, width)
            previous = count
    network.linear = ReadLinear(previous, network.linear.out_features)
    return network.to(memory_format=network.layout)


def pruned(full: ResNet, kept: tuple[int, ...], *, ranking: str, groups: str) -> ResNet:
    """A new network with so many channels in each stage, those of `full` that are worth keeping; its head is new."""
    small = full.narrowed(kept) if groups == "stage" else scattered(full, kept)
    transplant(full, small, choose_channels(full, kept, ranking=ranking, groups=groups), groups=groups)
    return small


def filter_scores(weight: Tensor, ranking: str) -> Tensor:
    """Importance of each filter ``(C,)`` of a weight ``(C, ...)``: the mean of |w| (`magnitude`) or of w itself."""
    return (weight.abs() if ranking == "magnitude" else weight).flatten(1).mean(1)


def choose_channels(network: ResNet, kept: tuple[int, ...], *, ranking: str, groups: str) -> Channels:
    """The channels that every convolution keeps: those of highest score in the layer, or summed over the group.

    A group is what is added up in a stage: second convolutions and shortcuts, and the stem in the first stage.
    """
    chosen: Channels = {}
    for number, (stage, count) in enumerate(zip(network.stages, kept, strict=True)):
        convolutions = {n: m for n, m in network.get_submodule(stage).named_modules(prefix=stage) if _is_convolution(m)}
        if number == 0:
            convolutions = {"conv1": network.conv1} | convolutions
        scores = {name: filter_scores(m.weight.detach(), ranking) for name, m in convolutions.items()}
        added = [name for name in scores if not name.endswith(".conv1")]
        if groups == "stage":
            total = torch.stack([scores[name] for name in added]).sum(0)
            scores |= dict.fromkeys(added, total)
        chosen |= {name: score.topk(count).indices.sort().values for name, score in scores.items()}
    return chosen


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d)


@torch.no_grad()
def transplant(full: ResNet, small: ResNet, chosen: Channels, *, groups: str) -> None:
    """Copy what is kept of `full` into `small`, which has that shape already; the head is left alone."""
    previous = chosen["conv1"]
    everything = torch.arange(full.conv1.in_channels, device=previous.device)
    _copy(full.conv1, full.bn1, small.conv1, small.bn1, previous, everything)
    for name in full.blocks[1:]:
        block, target = full.get_submodule(name), small.get_submodule(name)
        inner, out = chosen[f"{name}.conv1"], chosen[f"{name}.conv2"]
        _copy(block.conv1, block.bn1, target.conv1, target.bn1, inner, previous)
        _copy(block.conv2, block.bn2, target.conv2, target.bn2, out, inner)
        if len(block.shortcut):
            reads = previous if groups == "stage" else torch.arange(block.conv1.in_channels, device=inner.device)
            previous = chosen[f"{name}.shortcut.0"]
            _copy(*block.shortcut, *target.shortcut, previous, reads)
        else:
            previous = out
    if isinstance(small.linear, ReadLinear):
        small.linear.reads.copy_(previous)


def _copy(
    convolution: nn.Conv2d, norm: BatchNorm2d, target: nn.Conv2d, target_norm: BatchNorm2d, out: Tensor, reads: Tensor
) -> None:
    target.weight.copy_(convolution.weight[out][:, reads])
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(target_norm, name).copy_(getattr(norm, name)[out])
    if isinstance(target, ReadConv2d):
        target.reads.copy_(reads)
    if isinstance(target_norm, WriteNorm2d):
        target_norm.writes.copy_(out)
