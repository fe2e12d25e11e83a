"""The network that a configuration trains, as it is built: the registered one, or what the method makes of it."""

from functools import lru_cache

import torch

from sparcl_lite.config import RunConfig
from sparcl_lite.errors import KitError
from sparcl_lite.models.frequency import encoded_shape, equip
from sparcl_lite.models.network import Network, adapted
from sparcl_lite.models.resnet import seeded
from sparcl_lite.registry import DATASETS, METHODS, NETWORKS
from sparcl_lite.rng import derived_seed

EXAMPLES = 2  # images of the pass that shows in which order layers run


def build(
    name: str, *, width: int, channels: int, classes: int, seed: int, size: int | tuple[int, int] = 32
) -> Network:
    """A registered network with the weights that its function draws from `seed` and from nothing else.

    Raises `KitError` where it does not make logits of such images.
    """
    rows, columns = (size, size) if isinstance(size, int) else size
    example = torch.zeros(EXAMPLES, channels, rows, columns)
    with seeded(seed):
        module = NETWORKS[name](channels, classes, size, width)
        if isinstance(module, Network):
            return module
        network = _adapted(name, module, example)
        with torch.no_grad():
            found = tuple(network.eval()(example).shape)
    if found != (EXAMPLES, classes):
        raise KitError(f"network = {name!r}: makes {found} of {EXAMPLES} images; allowed: ({EXAMPLES}, {classes})")
    return network.train()


def _adapted(name: str, module: torch.nn.Module, example: torch.Tensor) -> Network:
    try:
        return adapted(module, example)
    except KitError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        reason, images = str(error).splitlines()[0], " x ".join(map(str, example.shape[1:]))
        raise KitError(f"network = {name!r}: does not run on {images} images: {reason}") from error


def whole_network(config: RunConfig, seed: int) -> Network:
    """The registered network in the shape of `config`, before its method makes anything of it."""
    spec = DATASETS[config.dataset]
    channels, size = encoded_shape(config, spec)
    network = build(config.network, width=config.width, channels=channels, classes=config.classes, size=size, seed=seed)
    if config.clfd:
        with seeded(derived_seed(seed, "encoder")):
            equip(config, spec, network)
    return network


def network_of(config: RunConfig, seed: int) -> Network:
    """The network that a run of `config` trains, with its first weights."""
    return METHODS[config.method].derive(config, whole_network(config, seed), seed)


def layout_of(config: RunConfig) -> Network:
    """The registered network in the shape of `config`, to look at: its weights are without values."""
    spec = DATASETS[config.dataset]
    make = NETWORKS[config.network]  # part of the key: a name may be registered anew
    channels, size = encoded_shape(config, spec)
    return _layout(make, config.network, config.width, channels, config.classes, size)


@lru_cache(maxsize=64)
def _layout(make: object, name: str, width: int, channels: int, classes: int, size: int | tuple[int, int]) -> Network:
    return build(name, width=width, channels=channels, classes=classes, size=size, seed=0).to("meta")
