"""CLFD's parts of a network (Liu et al., NeurIPS 2024): the encoder in front of it, the selection before its head."""

import torch
from torch import Tensor, nn

from sparcl_lite.config import RunConfig
from sparcl_lite.data.specs import DatasetSpec
from sparcl_lite.models.network import Network

BANDS = ("ll", "lh", "hl", "hh")
ENCODED = 3  # maps of the encoder: low, high and all frequencies


def haar(images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The Haar transform X_ll, X_lh, X_hl, X_hh, each ``(N, C, H/2, W/2)``, of images ``(N, C, H, W)`` of even size.

    The second letter is the filter along a row. In PyWavelets' names: cA, cV, cH, cD.
    """
    top, bottom = images[..., ::2, :], images[..., 1::2, :]
    rows = [(top + bottom) / 2, (top - bottom) / 2]
    pairs = [(row[..., ::2], row[..., 1::2]) for row in rows]
    return tuple(band for left, right in pairs for band in (left + right, left - right))


class Encoder(nn.Module):
    """FFE: one map of the low band, one of the three high ones, one of all, by 1 x 1 convolutions.

    ``(N, C, H, W)`` becomes ``(N, 3, H/2, W/2)``.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.low, self.high, self.whole = (nn.Conv2d(count * channels, 1, 1, bias=False) for count in (1, 3, 4))

    def forward(self, images: Tensor) -> Tensor:
        low, *high = haar(images)
        return torch.cat([self.low(low), self.high(torch.cat(high, 1)), self.whole(torch.cat([low, *high], 1))], 1)


class Band(nn.Module):
    """One band of the transform ``(N, C, H/2, W/2)``."""

    def __init__(self, band: str):
        super().__init__()
        self.number = BANDS.index(band)

    def forward(self, images: Tensor) -> Tensor:
        return haar(images)[self.number]


class Selection(nn.Module):
    """CFFS: a hook before the head that passes on the strongest features; it drops and counts where it is told to.

    Attributes
    ----------
    counts : F ``(classes, features)``, how often a current training sample of a class had a feature selected
    keep : ``(classes, features)``, the probability that dropout keeps a feature of a current sample
    sums : ``(classes, positions)``, the sum of X_ll over the training images of a class
    """

    def __init__(self, classes: int, features: int, positions: int, kept: float):
        super().__init__()
        self.count = max(1, int(kept * features))
        for name, size in (("counts", features), ("keep", features), ("sums", positions)):
            self.register_buffer(name, torch.zeros(classes, size))
        self.expected: tuple[Tensor, Tensor] | None = None

    def expect(self, labels: Tensor, kept: Tensor) -> None:
        """The next pass begins with current samples of these classes ``(n,)``; `kept` ``(n, features)`` remain."""
        self.expected = labels, kept

    def forward(self, head: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        (features,), expected, self.expected = inputs, self.expected, None
        if expected is None:
            return (features * strongest(features, self.count),)
        labels, kept = expected
        current, others = features.tensor_split([len(labels)])
        features = torch.cat([current * kept, others])
        selected = strongest(features, self.count)
        self.counts.index_add_(0, labels, selected[: len(labels)].to(self.counts.dtype))
        return (features * selected,)


@torch.no_grad()
def strongest(features: Tensor, count: int) -> Tensor:
    """Mask of the `count` features of largest magnitude in each row ``(N, features)``; fewer where others are zero."""
    size = features.abs()
    least = size.topk(count, dim=1).values[:, -1:]
    return (size >= least) & (size > 0)


def encoded_shape(config: RunConfig, spec: DatasetSpec) -> tuple[int, int | tuple[int, int]]:
    """Channels and size of what the network sees."""
    if not (config.clfd and config.clfd.ffe):
        return spec.channels, spec.size
    channels = ENCODED if config.clfd.band == "all" else spec.channels
    return channels, spec.size // 2 if isinstance(spec.size, int) else tuple(side // 2 for side in spec.size)


def equip(config: RunConfig, spec: DatasetSpec, network: Network) -> None:
    """Give a network for images of `encoded_shape` what CLFD adds to it."""
    if config.clfd.ffe:
        network.entry = Encoder(spec.channels) if config.clfd.band == "all" else Band(config.clfd.band)
    if config.clfd.cffs:
        channels, rows, columns = spec.shape
        positions = channels * (rows // 2) * (columns // 2)
        network.selection = Selection(config.classes, network.head.in_features, positions, config.clfd.kept)
        network.head.register_forward_pre_hook(network.selection)
