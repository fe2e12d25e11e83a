"""A residual network up to the mean over positions, as the units that the sparse engine executes."""

from dataclasses import dataclass

from torch import nn

from sparcl_lite.engine.layers import SparseConvolution
from sparcl_lite.models import ResNet


@dataclass
class Unit:
    """A convolution with the batch norm behind it."""

    name: str
    convolution: SparseConvolution
    norm: nn.BatchNorm2d


@dataclass
class Block:
    """A residual block."""

    first: Unit
    second: Unit
    shortcut: Unit | None


class Trunk:
    """The layers of a `ResNet` up to the mean over positions, for images of `rows x columns`."""

    def __init__(self, network: ResNet, rows: int, columns: int):
        self.stem = _unit("", network, "conv1", "bn1", rows, columns)
        shape = self.stem.convolution.shape
        rows, columns = shape.out_rows, shape.out_columns
        self.blocks: list[Block] = []
        for stage in network.stages:
            for number, module in enumerate(getattr(network, stage)):
                name = f"{stage}.{number}."
                first = _unit(name, module, "conv1", "bn1", rows, columns)
                shortcut = (
                    _unit(f"{name}shortcut.", module.shortcut, "0", "1", rows, columns)
                    if len(module.shortcut)
                    else None
                )
                rows, columns = first.convolution.shape.out_rows, first.convolution.shape.out_columns
                second = _unit(name, module, "conv2", "bn2", rows, columns)
                self.blocks.append(Block(first, second, shortcut))

    @property
    def units(self) -> list[Unit]:
        """All layers, in order of execution."""
        inner = [u for b in self.blocks for u in (b.first, b.second, b.shortcut) if u]
        return [self.stem, *inner]


def _unit(prefix: str, module: nn.Module, convolution: str, norm: str, rows: int, columns: int) -> Unit:
    layer = module.get_submodule(convolution)
    return Unit(f"{prefix}{convolution}.weight", SparseConvolution(layer, rows, columns), module.get_submodule(norm))
