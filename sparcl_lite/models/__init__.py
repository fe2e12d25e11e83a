"""Networks: the residual network of any width, whole or pruned, and the progressive one."""

from sparcl_lite.models.resnet import BasicBlock, BatchNorm2d, ResNet, build, frozen_statistics, seeded

__all__ = ["BasicBlock", "BatchNorm2d", "ResNet", "build", "frozen_statistics", "seeded"]
