"""Which engine runs the network: PyTorch's dense layers, or the sparse kernels where they are worth it."""

import importlib.util
import logging
import warnings

from torch import nn

from sparcl_lite.engine.contract import Masking
from sparcl_lite.models import ResNet

logger = logging.getLogger("sparcl_lite.engine")


def engine_for(kind: str, network: nn.Module, masking: Masking, *, alone: bool):
    """What `network.engine` should be: None for PyTorch's dense layers (`kind` dense), else `auto` or `sparse`.

    `alone`: within a step nothing but backward and the update looks at weights and gradients. Dense it stays on a GPU,
    for networks that the engine does not know (one line says so), and (with a warning) where numba is not installed.
    """
    if kind == "dense" or next(network.parameters()).device.type != "cpu":
        return None
    if not isinstance(network, ResNet):
        logger.info(
            f"engine {kind}: {type(network).__name__} is not a network that the sparse engine knows; runs dense"
        )
        return None
    if importlib.util.find_spec("numba") is None:
        warnings.warn(
            f'engine = "{kind}" needs numba (pip install "sparcl-lite[kernels]"): training runs dense', stacklevel=2
        )
        return None
    from sparcl_lite.engine.choice import Choice  # these import numba
    from sparcl_lite.engine.function import SparseEngine

    return SparseEngine(network, masking, alone=alone, choice=Choice() if kind == "auto" else None)
