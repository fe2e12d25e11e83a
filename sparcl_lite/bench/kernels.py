"""Every kind of layer of the network, one product at a time, against the limits of this machine.

Two limits: arithmetic (what a matrix product or a loop of multiplications in registers reaches) and the cache that the
products read from (what adding up an array that fits into it reaches). Both are measured here.
"""

import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch

from sparcl_lite.bench.workload import Workload
from sparcl_lite.engine import engine_for
from sparcl_lite.engine.kernels.convolution import multiply, tiling_of
from sparcl_lite.engine.kernels.layout import aligned
from sparcl_lite.engine.kernels.simd import WIDTH
from sparcl_lite.engine.layers import NO_SUMS, PRODUCTS, SparseLayer
from sparcl_lite.engine.passes import Pass
from sparcl_lite.runs.result import environment
from sparcl_lite.threads import using_threads

REPEATS = 7
BLOCKS = (16, 32, 64)  # samples


def kernels(**sizes: Any) -> dict[str, Any]:
    """Milliseconds, GFLOP/s and share of the limit of each product of each kind of pruned layer.

    A nonzero reads one vector for each two operations a lane, so the limit is the lower of the arithmetic peak and of
    the cache's bandwidth times 1/2 FLOP a byte. `sizes` are those of a `Workload`.
    """
    work = Workload(**sizes)
    with using_threads(work.threads):
        numba.set_num_threads(work.threads)
        limits = machine_limits(work.threads)
        attainable = min(limits["peak_gflops"], limits["cache_gb_per_s"] / 2)
        network, strategy = work.masked()
        network.engine = engine_for("sparse", network, strategy, alone=True)
        network(work.noise()[0])
        (segment,) = network.engine.current.segments
        (step,) = segment.passes[id(segment.used)]
        rows, blocks, seen = [], {}, set()
        for number, stage in enumerate(segment.used.stages):
            for layer in (operation.layer for operation in stage.operations):
                if layer is None or layer.name not in strategy.existing or layer.shape in seen:
                    continue
                seen.add(layer.shape)
                rows.append(
                    {"layer": layer.name, "nonzeros": len(layer.values)} | _products(step, number, layer, attainable)
                )
                if layer.shape.stride == 1:
                    shape = layer.shape
                    blocks[f"{shape.inputs} channels, {shape.rows} x {shape.columns}"] = _block_ms(layer)
    return {
        "limits": limits | {"attainable_gflops": attainable},
        "layers": rows,
        "block_ms": blocks,
        "settings": work.settings(),
        "environment": environment(work.threads, "cpu"),
    }


def in_words(report: dict[str, Any]) -> str:
    """The main numbers of a report."""
    lines = [", ".join(f"{name} {value:.0f}" for name, value in report["limits"].items())]
    for layer in report["layers"]:
        parts = (
            f"{p} {layer[p]['ms']:.2f} ms, {layer[p]['gflops']:.0f} GFLOP/s ({100 * layer[p]['share_of_limit']:.0f} %)"
            for p in PRODUCTS
        )
        lines.append(f"{layer['layer']}: {'; '.join(parts)}")
    return "\n".join(lines)


def _products(step: Pass, number: int, layer: SparseLayer, attainable: float) -> dict[str, dict[str, float]]:
    found = {}
    for name in PRODUCTS:
        seconds = _best(step.product(number, layer, name))
        gflops = _flops(layer, step.space.groups[number]) / seconds / 1e9
        found[name] = {"ms": 1000 * seconds, "gflops": gflops, "share_of_limit": gflops / attainable}
    return found


def _block_ms(layer: SparseLayer) -> dict[str, float]:
    """Milliseconds of the forward product of a 3x3 layer with stride 1, by samples in a block.

    All on as many samples as the largest block has. A position of a block of 32 is two vectors side by side, so a tile
    covers half as many positions.
    """
    return {str(size): _blocked(layer, size, max(BLOCKS) // size) for size in BLOCKS}


def _blocked(layer: SparseLayer, samples: int, blocks: int) -> float:
    """Milliseconds of `blocks` blocks of so many samples each."""
    shape, vectors, rows = layer.shape, samples // WIDTH, layer.forward_rows
    tap, inputs = np.divmod(rows.source % (shape.weights // shape.outputs), shape.inputs)
    down, right = np.divmod(tap, 3)
    line = (shape.columns + 2) * vectors * WIDTH
    offsets = ((inputs * (shape.rows + 2) + down) * line + right * vectors * WIDTH).astype(np.int32)
    block, out_line = shape.inputs * (shape.rows + 2) * line, shape.columns * vectors * WIDTH
    x, y = aligned(blocks * block), aligned(blocks * shape.outputs * shape.rows * out_line)
    target = (0, shape.outputs * shape.rows * out_line, out_line, 1, shape.rows * out_line)
    tiling = tiling_of(blocks, shape.rows, shape.columns * vectors, shape.outputs)

    def call() -> None:
        multiply(
            x, (0, block, line, 1), rows.starts, rows.slices, offsets, layer.values, y, target, tiling, False, NO_SUMS
        )

    return 1000 * _best(call)


def _flops(layer: SparseLayer, blocks: int) -> float:
    return 2.0 * len(layer.values) * layer.shape.out_rows * layer.shape.out_columns * blocks * WIDTH


def machine_limits(threads: int) -> dict[str, float]:
    """GFLOP/s of matrix products and of the kernels on data that never leave the innermost cache; GB/s of the second
    cache and of memory.
    """
    a = torch.randn(1536, 1536)
    product = 2 * 1536**3 / _best(lambda: a @ a) / 1e9
    inner, cache = _row_products(threads, 2 * 1024), _row_products(threads, 96 * 1024)
    big = torch.randn(32 * 2**20)
    copied = torch.empty_like(big)
    memory = 2 * big.nbytes / _best(lambda: copied.copy_(big)) / 1e9
    return {
        "peak_gflops": max(product, inner),
        "matrix_product_gflops": product,
        "registers_gflops": inner,
        "cache_gb_per_s": 2 * cache,  # a vector of 64 bytes for 32 operations
        "memory_gb_per_s": memory,
    }


def _row_products(threads: int, spread: int) -> float:
    """GFLOP/s of the forward kernel where all that a thread reads are `spread` floats (4 bytes each), over and over."""
    nonzeros, blocks = 20_000, 4 * threads
    x, y = aligned(blocks, spread + 32 * WIDTH), aligned(blocks * 16 * WIDTH)
    starts = np.array([0, nonzeros])
    offsets = (np.random.default_rng(0).permutation(nonzeros) * 16 * WIDTH % spread).astype(np.int32)
    values = np.ones(nonzeros, np.float32)
    place, target = (0, x.shape[1], 0, 1), (0, 16 * WIDTH, 0, 1, 0)

    def call() -> None:
        multiply(
            x.reshape(-1), place, starts, 1, offsets, values, y, target, tiling_of(blocks, 1, 16, 1), False, NO_SUMS
        )

    return 2 * nonzeros * 16 * WIDTH * blocks / _best(call) / 1e9


def _best(call: Callable[[], Any]) -> float:
    """Seconds of the fastest of a few calls: a limit is what the machine can do when nothing disturbs it."""
    call()
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return min(taken)
