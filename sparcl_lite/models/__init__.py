"""Networks: the residual network of any width, whole or pruned, the progressive one, and a user's own made to fit.

Importing this package registers the built-in ones.
"""

from sparcl_lite.models.building import build, layout_of, network_of, whole_network
from sparcl_lite.models.network import Network, adapted
from sparcl_lite.models.resnet import BasicBlock, BatchNorm2d, ResNet, frozen_statistics, seeded

__all__ = [
    "BasicBlock",
    "BatchNorm2d",
    "Network",
    "ResNet",
    "adapted",
    "build",
    "frozen_statistics",
    "layout_of",
    "network_of",
    "seeded",
    "whole_network",
]
