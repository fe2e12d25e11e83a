"""What `engine = "auto"` runs: each product in the way that was faster when timed, or PyTorch where that is faster."""

import logging
import time
from collections.abc import Callable, Hashable
from functools import partial

import torch
from torch import nn

from sparcl_lite.engine.layers import PRODUCTS, SparseLayer
from sparcl_lite.engine.passes import Pass
from sparcl_lite.models import frozen_statistics

TRIES = 3  # timed after one that is not
FAR = 2.0  # a density that so many times larger or smaller is another network
logger = logging.getLogger("sparcl_lite.engine")


class Choice:
    """Tries the products of every layer once for each density and shape.

    The whole network is tried once, and again when the share of its weights that exist is below half or above twice of
    what it was: a mask may be made, or a network pruned, after the first pass.

    Attributes
    ----------
    products : by name, shape and density (per cent; of wanted gradients for that of weights), whether dense is faster
    seconds : of a training step's passes, `dense` (PyTorch's layers) and `sparse`; empty until both were tried
    density : the share of weights that existed then; None where it is not known
    """

    def __init__(self) -> None:
        self.products: dict[tuple, bool] = {}
        self.seconds: dict[str, float] = {}
        self.density: float | None = None

    @property
    def pays(self) -> bool:
        """Whether the sparse engine is the faster one, as far as is known."""
        return not self.seconds or self.seconds["sparse"] < self.seconds["dense"]

    def holds(self, density: float) -> bool:
        """Whether what was found still says something of a network with this share of its weights."""
        return self.density is None or self.density / FAR <= density <= self.density * FAR

    def take(self, work: Pass) -> None:
        """Have every layer of a pass run in its faster way."""
        for number, stage in enumerate(work.graph.stages):
            for operation in stage.operations:
                if (layer := operation.layer) is None or layer.whole:
                    continue
                chosen = set()
                for product in PRODUCTS if layer.shape.groups == 1 else ():
                    key = (product, *layer.shape.numbers(), layer.flat, layer.per_cent(product))
                    if key not in self.products:
                        self.products[key] = self._try(work, number, layer, product)
                    if self.products[key]:
                        chosen.add(product)
                layer.dense = frozenset(chosen)

    @staticmethod
    def _try(work: Pass, number: int, layer: SparseLayer, product: str) -> bool:
        call = work.product(number, layer, product)

        def run(dense: bool) -> None:
            layer.dense = frozenset([product] if dense else [])
            call()

        taken = _fastest({dense: partial(run, dense) for dense in (False, True)})
        return taken[True] < taken[False]

    def compare(self, module: nn.Module, density: float, dense: Callable, sparse: Callable) -> None:
        """Time a step's passes in both engines at this density, and say which one runs from now on."""
        parameters = [p for p in module.parameters() if p.requires_grad]

        def step(outputs: Callable) -> None:
            found = outputs()
            loss = sum(o.square().mean() for o in (found if isinstance(found, tuple) else (found,)))
            torch.autograd.grad(loss, parameters, allow_unused=True)

        with torch.enable_grad(), frozen_statistics(module), torch.random.fork_rng(devices=[]):
            self.seconds = _fastest({"dense": partial(step, dense), "sparse": partial(step, sparse)})
        self.density = density
        logger.info(self.text())

    def text(self) -> str:
        """One line that says what was chosen and why."""
        dense, sparse = (1000 * self.seconds[name] for name in ("dense", "sparse"))
        kernels = sum(not dense for dense in self.products.values())
        chosen = (
            f"sparse kernels for {kernels} of {len(self.products)} kinds of products"
            if self.pays
            else "PyTorch's dense layers"
        )
        return f"engine auto: {chosen} ({sparse:.1f} ms a step against {dense:.1f} ms dense)"

    def report(self) -> dict:
        """As JSON values."""
        milliseconds = {name: round(1000 * value, 3) for name, value in self.seconds.items()}
        names = ("product", "outputs", "inputs", "kernel", "stride", "padding", "groups", "rows", "columns")
        products = [
            dict(zip(names, key, strict=False)) | {"density_percent": key[-1], "dense": dense}
            for key, dense in self.products.items()
        ]
        return {"chosen": "sparse" if self.pays else "dense", "step_ms": milliseconds, "products": products}

    def state_dict(self) -> dict:
        """The choices made so far."""
        return {"products": dict(self.products), "seconds": dict(self.seconds), "density": self.density}

    def load_state_dict(self, state: dict) -> None:
        """Take over a state of `state_dict`."""
        self.products, self.seconds = dict(state.get("products", {})), dict(state["seconds"])
        self.density = state.get("density")


def _fastest(calls: dict[Hashable, Callable[[], None]]) -> dict[Hashable, float]:
    """The least seconds of each call, in alternating rounds: what else the machine does only makes them longer.

    With one thread they are the processor's, which waiting for a turn is no part of.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    taken: dict[Hashable, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(TRIES):
        for name, call in calls.items():
            start = clock()
            call()
            taken[name].append(clock() - start)
    return {name: min(seconds) for name, seconds in taken.items()}
