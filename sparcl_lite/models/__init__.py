"""Networks: the residual network of any width, whole or pruned, and the progressive one."""

from sparcl_lite.config.networks import ARCHITECTURES
from sparcl_lite.models.resnet import BasicBlock, BatchNorm2d, ResNet, build, frozen_statistics, seeded
from sparcl_lite.registry import NETWORKS

__all__ = ["BasicBlock", "BatchNorm2d", "ResNet", "build", "frozen_statistics", "seeded"]

for _name in ARCHITECTURES:
    NETWORKS.register(_name, build)
