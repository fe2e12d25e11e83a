"""Networks: the residual network of any width, whole or pruned, the progressive one, and a user's own made to fit.

The built-in ones register themselves in `networks`, without PyTorch; every name here is imported when first used.
"""

from typing import TYPE_CHECKING

from sparcl_lite.late import names_of

if TYPE_CHECKING:
    from sparcl_lite.models.building import build, layout_of, network_of, whole_network
    from sparcl_lite.models.network import Network, adapted
    from sparcl_lite.models.progressive import Progressive
    from sparcl_lite.models.pruning import pruned
    from sparcl_lite.models.resnet import BasicBlock, BatchNorm2d, ResNet, frozen_statistics, seeded

__all__ = [
    "BasicBlock",
    "BatchNorm2d",
    "Network",
    "Progressive",
    "ResNet",
    "adapted",
    "build",
    "frozen_statistics",
    "layout_of",
    "network_of",
    "pruned",
    "seeded",
    "whole_network",
]
__getattr__, __dir__ = names_of(
    __name__,
    {
        **dict.fromkeys(("build", "layout_of", "network_of", "whole_network"), "building"),
        **dict.fromkeys(("Network", "adapted"), "network"),
        **dict.fromkeys(("BasicBlock", "BatchNorm2d", "ResNet", "frozen_statistics", "seeded"), "resnet"),
        "Progressive": "progressive",
        "pruned": "pruning",
    },
)
