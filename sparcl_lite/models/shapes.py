"""The network that a configuration trains, as it is built: whole, pruned, or of several columns."""

from typing import NamedTuple

from torch import nn

from sparcl_lite.config import RunConfig
from sparcl_lite.models.progressive import Progressive
from sparcl_lite.models.pruning import scatter
from sparcl_lite.models.resnet import build, seeded
from sparcl_lite.registry import DATASETS


class Shape(NamedTuple):
    """All that decides the layers of a network.

    Attributes
    ----------
    kept : channels of each stage, if some are pruned
    groups : how they are pruned; see `pruning`
    columns : of a progressive network; 0 for any other
    """

    architecture: str
    width: int
    channels: int
    classes: int
    kept: tuple[int, ...] = ()
    groups: str = "stage"
    columns: int = 0


def shape_of(config: RunConfig) -> Shape:
    """The shape of the network that `config` trains."""
    pruned = config.method == "lightcl" and bool(config.lightcl.prune)
    return Shape(
        config.network,
        config.width,
        DATASETS[config.dataset].channels,
        config.classes,
        config.kept_channels if pruned else (),
        config.lightcl.groups if pruned else "stage",
        config.task_count if config.method == "pnn" else 0,
    )


def make(shape: Shape, seed: int) -> nn.Module:
    """A network of that shape with PyTorch's default initialisation, drawn from `seed` and from nothing else."""
    settings = {"width": shape.width, "channels": shape.channels, "classes": shape.classes}
    if shape.columns:
        return Progressive(shape.architecture, columns=shape.columns, seed=seed, **settings)
    if shape.groups == "stage":
        return build(shape.architecture, seed=seed, widths=shape.kept, **settings)
    network = build(shape.architecture, seed=seed, **settings)
    with seeded(seed):
        scatter(network, shape.kept)
    return network
