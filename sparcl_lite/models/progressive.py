"""A progressive network (Rusu et al., 2016): a column per task, which also sees what the columns before it see."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparcl_lite.models.network import Network
from sparcl_lite.models.resnet import ResNet, seeded


class Adapter(nn.Module):
    """Lateral connections into a map with `channels` from those of `columns` earlier columns.

    U relu(V [a_1 h_1, ..., a_k h_k]) with scalars a_j and 1x1 convolutions V and U, so that the lateral part of a layer
    costs about as much whatever the number of columns (their section 2 and appendix).
    """

    def __init__(self, channels: int, columns: int):
        super().__init__()
        self.scales = nn.Parameter(torch.ones(columns))
        self.narrow = nn.Conv2d(columns * channels, channels, 1)
        self.project = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, maps: list[Tensor]) -> Tensor:
        scaled = torch.cat([scale * map_ for scale, map_ in zip(self.scales, maps, strict=True)], 1)
        return self.project(F.relu(self.narrow(scaled)))


class Progressive(Network):
    """Columns of equal shape; column k adds to its map after the stem and after each stage what adapters say.

    Columns before the one in use do not train, and their batch norm is that of evaluation: what they say is constant.

    Attributes
    ----------
    columns : the networks, one for each task
    adapters : of column k (from 1): one for each of `levels`, the maps after the stem and after each stage
    """

    layout = ResNet.layout

    def __init__(self, columns: list[ResNet], *, seed: int):
        super().__init__()
        self.columns = nn.ModuleList(columns)
        widths = [columns[0].widths[0], *columns[0].widths]
        with seeded(seed):
            self.adapters = nn.ModuleList(
                nn.ModuleList(Adapter(width, k) for width in widths) for k in range(1, len(columns))
            )
        self.to(memory_format=self.layout)
        self.use(0)

    def start_from(self, network: ResNet) -> None:
        """Give every column the weights of a plain network, but for the heads."""
        weights = {name: value for name, value in network.state_dict().items() if not name.startswith("linear.")}
        for column in self.columns:
            column.load_state_dict(weights, strict=False)

    def use(self, column: int) -> None:
        """Train and evaluate this column from now on."""
        self.current = column
        for k, network in enumerate(self.columns):
            network.requires_grad_(k == column)
        for k, adapters in enumerate(self.adapters, 1):
            adapters.requires_grad_(k == column)
        for parameter in self.parameters():
            if not parameter.requires_grad:
                parameter.grad = None
        self.train(self.training)

    def train(self, mode: bool = True) -> "Progressive":
        """Only the column in use is ever in train mode."""
        super().train(mode)
        for k, network in enumerate(self.columns):
            network.train(mode and k == self.current)
        return self

    def forward(self, x: Tensor, chunks: tuple[int, ...] = (), column: int | None = None) -> Tensor:
        """Logits ``(N, classes)`` of a column (the one in use unless told) for images ``(N, C, H, W)``."""
        x = self.entry(x)
        last = self.current if column is None else column
        earlier: list[list[Tensor]] = []  # by column: its maps at each level
        for k in range(last):
            with torch.no_grad():
                earlier.append(self._maps(k, x, earlier))
        maps = self._maps(last, x, earlier)
        return self.columns[last].linear(maps[-1].mean((2, 3)))

    def _stages(self, column: int) -> list[nn.Sequential]:
        network = self.columns[column]
        return [network.get_submodule(name) for name in network.stages]

    def _maps(self, column: int, x: Tensor, earlier: list[list[Tensor]]) -> list[Tensor]:
        """Maps of a column at each level, its own and the lateral part added up."""
        network, maps = self.columns[column], []
        x = x.contiguous(memory_format=network.layout)
        own = F.relu(network.bn1(network.conv1(x)))
        for level, stage in enumerate([*self._stages(column), None]):
            if column:
                own = own + self.adapters[column - 1][level]([maps_[level] for maps_ in earlier[:column]])
            maps.append(own)
            if stage is not None:
                own = stage(own)
        return maps
