"""Which engine runs the network: PyTorch's dense layers, or the sparse kernels where they are worth it."""

import importlib.util
import warnings

from sparcl_lite.config import RunConfig
from sparcl_lite.methods.base import Method
from sparcl_lite.models import Network, ResNet
from sparcl_lite.sparsity.base import Strategy


def engine_for(config: RunConfig, network: Network, strategy: Strategy, method: Method):
    """What `network.engine` should be for this run: None for PyTorch's dense layers.

    Dense it stays where nothing is masked, on a GPU, and (with one warning) where the engine does not know the network
    or numba is not installed.
    """
    if config.engine == "dense" or config.sparse is None or next(network.parameters()).device.type != "cpu":
        return None
    if not isinstance(network, ResNet):
        warnings.warn(f'engine = "{config.engine}" knows residual networks only: training runs dense', stacklevel=2)
        return None
    if importlib.util.find_spec("numba") is None:
        warnings.warn(
            f'engine = "{config.engine}" needs numba (pip install "sparcl-lite[kernels]"): training runs dense',
            stacklevel=2,
        )
        return None
    from sparcl_lite.engine.choice import Choice  # these import numba
    from sparcl_lite.engine.function import SparseEngine

    choice = Choice() if config.engine == "auto" else None
    engine = SparseEngine(network, strategy, every_gradient=not method.keeps_to_loss, choice=choice)
    engine.alone = method.keeps_to_loss
    return engine
