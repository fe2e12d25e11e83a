"""What `engine = "auto"` runs: each layer in the way that was faster when timed, and PyTorch where that was faster."""

import logging
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from sparcl_lite.engine.passes import Pass
from sparcl_lite.models import ResNet, frozen_statistics

TRIES = 3  # timed after one that is not
logger = logging.getLogger("sparcl_lite.engine")


class Choice:
    """Tries every layer once for each density (in per cent) and shape, and the whole network once.

    Attributes
    ----------
    layers : by shape and density, whether dense products are faster
    seconds : of a training step's passes, `dense` (PyTorch's layers) and `sparse`; empty until both were tried
    """

    def __init__(self) -> None:
        self.layers: dict[tuple, bool] = {}
        self.seconds: dict[str, float] = {}

    @property
    def pays(self) -> bool:
        """Whether the sparse engine is the faster one, as far as is known."""
        return not self.seconds or self.seconds["sparse"] < self.seconds["dense"]

    def take(self, work: Pass) -> None:
        """Have every layer of a pass run in its faster way."""
        for unit in work.trunk.units:
            convolution = unit.convolution
            key = (*convolution.shape.numbers(), round(100 * convolution.density))
            if key not in self.layers:
                self.layers[key] = self._try(work, unit)
            convolution.dense = self.layers[key]

    @staticmethod
    def _try(work: Pass, unit) -> bool:
        convolution, taken = unit.convolution, {}
        for dense in (False, True):
            convolution.dense = dense
            taken[dense] = _median(lambda: work.try_products(unit))
        return taken[True] < taken[False]

    def compare(self, network: ResNet, images: Tensor, chunks: tuple[int, ...], sparse: Callable) -> None:
        """Time a step's passes in both engines, and say which one runs from now on."""
        with torch.enable_grad(), frozen_statistics(network):
            weights = list(network.parameters())[:-2]  # all but the head

            def step(features: Callable) -> None:
                torch.autograd.grad(features(images, chunks).square().mean(), weights)

            self.seconds = {
                "dense": _median(lambda: step(network.dense_features)),
                "sparse": _median(lambda: step(sparse)),
            }
        logger.info(self.text())

    def text(self) -> str:
        """One line that says what was chosen and why."""
        dense, sparse = (1000 * self.seconds[name] for name in ("dense", "sparse"))
        kernels = sum(not d for d in self.layers.values())
        chosen = (
            f"sparse kernels for {kernels} of {len(self.layers)} kinds of layers"
            if self.pays
            else "PyTorch's dense layers"
        )
        return f"engine auto: {chosen} ({sparse:.1f} ms a step against {dense:.1f} ms dense)"

    def report(self) -> dict:
        """As JSON values."""
        milliseconds = {name: round(1000 * value, 3) for name, value in self.seconds.items()}
        names = ("outputs", "inputs", "kernel", "stride", "rows", "columns", "density_percent")
        layers = [dict(zip(names, key, strict=True)) | {"dense": dense} for key, dense in self.layers.items()]
        return {"chosen": "sparse" if self.pays else "dense", "step_ms": milliseconds, "layers": layers}


def _median(call: Callable[[], None]) -> float:
    call()
    taken = []
    for _ in range(TRIES):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)
