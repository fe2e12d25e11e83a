"""The built-in networks by name. Their layers are imported when one is built."""

from __future__ import annotations

from sparcl_lite import models
from sparcl_lite.registry import NETWORKS


@NETWORKS.register("small", label="small ResNet")
def small(channels: int, classes: int, size: int, width: int) -> models.ResNet:
    """Three stages of one block; `width` channels in the first, twice as many in each next one."""
    return models.ResNet(channels, classes, widths=(width, 2 * width, 4 * width), blocks=(1, 1, 1), stem_stride=2)


@NETWORKS.register("resnet18", label="ResNet-18")
def resnet18(channels: int, classes: int, size: int, width: int) -> models.ResNet:
    """The CIFAR ResNet-18: four stages of two blocks."""
    return models.ResNet(channels, classes, widths=(width, 2 * width, 4 * width, 8 * width), blocks=(2, 2, 2, 2))
