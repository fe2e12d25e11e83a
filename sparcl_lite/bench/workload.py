"""What the benchmarks of single steps work on: a network, a batch of noise, a share of zeros, some threads."""

from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any

import torch
import torchvision
from torch import Tensor

from sparcl_lite import masks
from sparcl_lite.models import Network, adapted, build
from sparcl_lite.models.resnet import seeded

CHANNELS, CLASSES = 3, 10


@dataclass(frozen=True)
class Workload:
    """A training step of `network`, a registered one with `width` channels in its first stage, or torchvision:NAME.

    `image` is the edge of the images of a `batch`, `sparsity` the share of the prunable weights that are zero.
    """

    network: str = "resnet18"
    width: int = 64
    image: int = 32
    batch: int = 32
    sparsity: float = 0.95
    threads: int = 2

    def settings(self, **more: Any) -> dict[str, Any]:
        """What a report says of it, with what else was chosen."""
        return asdict(self) | more

    def dense(self) -> Network:
        """The network, in train mode."""
        source, _, name = self.network.rpartition(":")
        if source:
            with seeded(0):
                module = torchvision.models.get_model(name, num_classes=CLASSES)
            return adapted(module, torch.zeros(2, CHANNELS, self.image, self.image)).train()
        return build(self.network, width=self.width, channels=CHANNELS, classes=CLASSES, seed=0).train()

    def masked(self) -> tuple[Network, SimpleNamespace]:
        """The network with its prunable weights randomly masked, and what says so to the sparse engine."""
        network = self.dense()
        generator = torch.Generator().manual_seed(0)
        weights = masks.prunable_weights(network)
        found = {name: masks.random_mask(weight, 1 - self.sparsity, generator) for name, weight in weights.items()}
        with torch.no_grad():
            for name, weight in weights.items():
                weight.mul_(found[name])
        return network, SimpleNamespace(existing=found, wanted={}, reads_gradients=False)

    def noise(self) -> tuple[Tensor, Tensor]:
        """Images and labels of a batch."""
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(self.batch, CHANNELS, self.image, self.image, generator=generator)
        return images, torch.randint(CLASSES, (self.batch,), generator=generator)
