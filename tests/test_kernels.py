"""The sparse kernels against torch's autograd on masked dense weights."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import sparcl_lite
from sparcl_lite.engine.kernels import convolution, index, layout, pooling
from sparcl_lite.engine.kernels.index import Shape, scatter
from sparcl_lite.engine.kernels.simd import WIDTH
from sparcl_lite.engine.layers import EVERYTHING, NO_SUMS, PRODUCTS, SparseLayer, is_channels_last

FEW = settings(max_examples=60, deadline=None)


def packed(maps, border):
    """`(N, C, H, W)` as `[blocks, C, H, W, 16]`, flat, with a border of zeros or without."""
    samples, channels, rows, columns = maps.shape
    blocks, edge = layout.blocks_for(samples), border
    out = layout.aligned(blocks, channels, rows + 2 * edge, columns + 2 * edge, WIDTH)
    full = np.zeros((blocks * WIDTH, channels, rows, columns), np.float32)
    full[:samples] = maps
    inside = out[:, :, edge : edge + rows, edge : edge + columns]
    inside[:] = full.reshape(blocks, WIDTH, channels, rows, columns).transpose(0, 2, 3, 4, 1)
    return out.reshape(-1)


def unpacked(memory, samples, channels, rows, columns):
    shaped = memory.reshape(-1, channels, rows, columns, WIDTH).transpose(0, 4, 1, 2, 3)
    return torch.from_numpy(shaped.reshape(-1, channels, rows, columns)[:samples].copy())


def torchs(module, x, dz=None):
    """Output of a convolution and, given the output's gradient, those of x and of the weight; in double precision.

    Also because torch 2.14's float32 convolutions of fewer than 8 channels corrupt memory.
    """
    x, weight = (t.detach().double().contiguous().requires_grad_() for t in (x, module.weight))
    z = F.conv2d(x, weight, stride=module.stride, padding=module.padding, groups=module.groups)
    if dz is None:
        return z.detach().float()
    return (z.detach().float(), *(g.float() for g in torch.autograd.grad(z, (x, weight), dz.double())))


def close(found, expected, terms=None):
    """Within 1e-4 of the largest value, or of the largest sum of the absolute `terms` where sums may cancel."""
    size = float((expected if terms is None else terms).abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * size + 1e-6)


def layer_of(module, rows, columns, border=None):
    """What the engine makes of a convolution of such inputs, stored with a border (None: its padding)."""
    (kernel, _), (stride, _), (padding, _) = module.kernel_size, module.stride, module.padding
    border = padding if border is None else border
    numbers = (module.out_channels, module.in_channels, kernel, stride, padding, module.groups, rows, columns, border)
    return SparseLayer("", module, Shape(*numbers, is_channels_last(module.weight)), flat=False)


def ready(layer, mask=None):
    layer.index(mask, 1)
    layer.want(None)
    layer.read_values(layer.module.weight)
    return layer


def floats(place, blocks):
    return blocks * place[0]


@st.composite
def problems(draw):
    """A masked convolution, and a batch for it."""
    kernel, stride, groups = draw(st.integers(1, 7)), draw(st.sampled_from([1, 2])), draw(st.sampled_from([1, 1, 2, 3]))
    padding = draw(st.integers(0, kernel - 1))
    sizes = st.sampled_from([n for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 14, 16, 18, 33) if n + 2 * padding >= kernel])
    inputs, outputs = groups * draw(st.integers(1, 4)), groups * draw(st.integers(1, 4))
    samples, rows, columns = draw(st.integers(1, 40)), draw(sizes), draw(sizes)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    module = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    if draw(st.booleans()):
        module = module.to(memory_format=torch.channels_last)
    density = draw(st.sampled_from([0.0, 0.05, 0.3, 1.0]))
    mask = torch.rand(module.weight.shape, generator=generator) < density
    if draw(st.booleans()):
        mask[draw(st.integers(0, outputs - 1))] = False
        mask[:, draw(st.integers(0, inputs // groups - 1))] = False
    with torch.no_grad():
        module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * mask)
    return module, mask, torch.randn(samples, inputs, rows, columns, generator=generator), generator


@given(problems(), st.booleans(), st.booleans(), st.integers(0, 2))
@FEW
def test_convolutions_are_those_of_torch(problem, add, dense, wider):
    assert_products(*problem, add, dense, wider)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("last", [False, True])
def test_channels_in_slices_give_the_same(stride, last):
    generator = torch.Generator().manual_seed(0)
    module = nn.Conv2d(70, 60, 3, stride, 1, bias=False)
    module = module.to(memory_format=torch.channels_last) if last else module
    mask = torch.rand(module.weight.shape, generator=generator) < 0.4
    mask[5], mask[:, 60:] = False, False
    with torch.no_grad():
        module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * mask)
    x = torch.randn(18, 70, 9, 17, generator=generator)
    layer = ready(layer_of(module, 9, 17), mask)
    assert min(layer.forward_rows.slices, layer.backward_rows.slices) > 1
    for add in (False, True):
        assert_products(module, mask, x, generator, add, False, 0)


def assert_products(module, mask, x, generator, add, dense, wider):
    dz = torch.randn(torchs(module, x).shape, generator=generator)
    expected, expected_dx, expected_gradient = torchs(module, x, dz)
    layer = ready(layer_of(module, *x.shape[2:], module.padding[0] + wider), mask)
    layer.dense = frozenset(PRODUCTS if dense and module.groups == 1 else ())
    blocks, (samples, outputs, rows, columns) = layout.blocks_for(len(x)), expected.shape
    z = layout.aligned(floats(layer.output_place, blocks))
    partial = layout.aligned(blocks * layer.parts, outputs, 2, WIDTH)
    inside = packed(x.numpy(), layer.shape.border)
    layer.forward(inside, z, 0, blocks, partial)
    close(unpacked(z, samples, outputs, rows, columns), expected)
    close(torch.from_numpy(partial[:, :, 0].sum((0, 2))), expected.sum((0, 2, 3)), expected.abs().sum((0, 2, 3)))
    close(torch.from_numpy(partial[:, :, 1].sum((0, 2))), expected.square().sum((0, 2, 3)))
    bordered = packed(dz.numpy(), layer.shape.gradient_border)
    dx = packed(np.ones(x.shape, np.float32), 0)
    layer.input_gradient(bordered, dx, 0, blocks, add)
    close(unpacked(dx, *x.shape), expected_dx + float(add))
    for wanted, kept in ((None, mask), (EVERYTHING, torch.ones_like(mask)), (mask & (dz[0, 0, 0, 0] > 0), None)):
        layer.want(wanted)
        layer.weight_gradient(inside, bordered, blocks, False)
        found = np.empty(layer.shape.weights, np.float32)
        scatter(layer.gradient, layer.gradient_rows.source, found)
        close(layer.shaped(found), expected_gradient * (wanted if kept is None else kept))


@given(st.integers(1, 90), st.integers(1, 30), st.integers(1, 30), st.sampled_from([0.0, 0.1, 1.0]), st.booleans())
@FEW
def test_linear_layers_are_those_of_torch(samples, inputs, outputs, density, dense):
    module, capacity = nn.Linear(inputs, outputs, bias=False), layout.blocks_for(samples) + 1
    mask = torch.rand(module.weight.shape) < density
    with torch.no_grad():
        module.weight.mul_(mask)
    layer = SparseLayer("", module, Shape(outputs, inputs, 1, 1, 0, 1, 1, 1, 0, False), flat=True)
    layer.index(mask, capacity)
    layer.read_values(module.weight)
    layer.dense = frozenset(PRODUCTS if dense else ())
    x = torch.randn(samples, inputs, requires_grad=True)
    expected = module(x)
    dz = torch.randn(expected.shape)
    expected_dx, expected_gradient = torch.autograd.grad(expected, (x, module.weight), dz)
    given_, z, dz_, dx = (layout.aligned(n * capacity * WIDTH) for n in (inputs, outputs, outputs, inputs))
    blocks = capacity - 1
    spread = (samples, WIDTH, capacity * WIDTH)
    layout.pack(x.detach().numpy().reshape(-1), given_, spread, blocks)
    layout.pack(dz.numpy().reshape(-1), dz_, spread, blocks)
    layer.forward(given_, z, 0, blocks, NO_SUMS)
    layer.input_gradient(dz_, dx, 0, blocks, False)
    layer.weight_gradient(given_, dz_, blocks, False)
    for memory, theirs in ((z, expected), (dx, expected_dx)):
        found = np.empty(theirs.numel(), np.float32)
        layout.unpack(memory, found, spread, 0, blocks)
        close(torch.from_numpy(found).view(theirs.shape), theirs.detach())
    found = np.empty(layer.shape.weights, np.float32)
    scatter(layer.gradient, layer.gradient_rows.source, found)
    close(layer.shaped(found), expected_gradient * mask)


@pytest.mark.parametrize("stride", [1, 2])
def test_every_width_is_covered(stride):
    for width in (*range(1, 20), 31, 32, 33):
        module = nn.Conv2d(2, 2, 3, stride, 1, bias=False).to(memory_format=torch.channels_last)
        x, layer = torch.randn(1, 2, 7, width), ready(layer_of(module, 7, width))
        z, partial = layout.aligned(floats(layer.output_place, 1)), layout.aligned(layer.parts, 2, 2, WIDTH)
        layer.forward(packed(x.numpy(), 1), z, 0, 1, partial)
        expected = torchs(module, x)
        close(unpacked(z, *expected.shape), expected)
        dz = torch.ones_like(expected)
        dx = layout.aligned(2 * 7 * width * WIDTH)
        layer.input_gradient(packed(dz.numpy(), layer.shape.gradient_border), dx, 0, 1, False)
        close(unpacked(dx, *x.shape), torchs(module, x, dz)[1])


def test_weight_gradients_add_up_over_groups_of_blocks():
    module = nn.Conv2d(3, 4, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
    x, layer = torch.randn(32, 3, 8, 8), ready(layer_of(module, 8, 8))
    dz = torch.randn(32, 4, 8, 8)
    expected = torchs(module, x, dz)[2]
    for number, (a, b) in enumerate(zip(x.split(16), dz.split(16), strict=True)):
        layer.weight_gradient(packed(a.numpy(), 1), packed(b.numpy(), 1), 1, number > 0)
    found = np.empty(layer.shape.weights, np.float32)
    scatter(layer.gradient, layer.gradient_rows.source, found)
    close(layer.shaped(found), expected)


@pytest.mark.parametrize("width", range(1, 70))
def test_tiles_cover_a_row(width):
    cuts = convolution.cut(width)
    assert cuts[:, 1].sum() == width
    for rows, columns, kind, single in cuts:
        assert (convolution.TILES[kind], convolution.TILES[single]) == ((rows, columns), (1, columns))


def test_an_index_is_rebuilt_only_when_the_mask_changes():
    module = nn.Conv2d(3, 4, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
    layer, masks = layer_of(module, 8, 8), [torch.rand(module.weight.shape) < 0.5 for _ in range(2)]
    layer.index(masks[0], 1)
    first = layer.forward_rows
    layer.index(masks[0], 1)
    assert layer.forward_rows is first
    layer.index(masks[1], 1)
    assert len(layer.forward_rows.source) == int(masks[1].sum())
    assert sorted(layer.backward_rows.source) == list(range(int(masks[1].sum())))
    masks[1].zero_()  # in place
    layer.index(masks[1], 1)
    assert len(layer.forward_rows.source) == 0


@given(st.integers(1, 50), st.integers(1, 7), st.integers(1, 9), st.integers(0, 2))
@FEW
def test_samples_go_in_and_come_out(samples, channels, rows, skipped):
    """Also through squares of 16 samples and 16 positions, and from a block in the middle on."""
    images, blocks = torch.randn(samples, channels, rows, 4), layout.blocks_for(samples)
    x = layout.aligned(blocks * channels * rows * 4 * WIDTH)
    spread = (samples, channels * rows * 4 * WIDTH, WIDTH)
    x[:] = np.nan
    layout.pack(images.numpy().reshape(-1), x, spread, blocks)
    np.testing.assert_array_equal(x, packed(images.numpy(), 0))
    found, first = np.full(images.shape, np.nan, np.float32), min(skipped, blocks - 1)
    layout.unpack(x[first * spread[1] :], found.reshape(-1), spread, first, blocks - first)
    np.testing.assert_array_equal(found[first * WIDTH :], images[first * WIDTH :].numpy())
    assert np.isnan(found[: first * WIDTH]).all()


@given(st.integers(1, 50), st.integers(1, 40), st.integers(0, 2))
@FEW
def test_features_go_in_and_come_out(samples, features, spare):
    """A flat map, stored for more blocks than there are."""
    values, blocks = torch.randn(samples, features).numpy(), layout.blocks_for(samples)
    x, spread = layout.aligned(features, (blocks + spare) * WIDTH), (samples, WIDTH, (blocks + spare) * WIDTH)
    layout.pack(values.reshape(-1), x.reshape(-1), spread, blocks)
    np.testing.assert_array_equal(x[:, :samples], values.T)
    assert not x[:, samples:].any()
    found = np.empty_like(values)
    layout.unpack(x.reshape(-1), found.reshape(-1), spread, 0, blocks)
    np.testing.assert_array_equal(found, values)


def test_masks_of_more_than_one_piece_are_found_whole(monkeypatch):
    monkeypatch.setattr(index, "PIECE", 7)
    for density in (0, 0.3, 1):
        mask = np.random.default_rng(0).random(6 * 5 * 9) < density
        rows = index.forward_rows(mask, Shape(6, 5, 3, 1, 1, 1, 4, 4, 1, False))
        np.testing.assert_array_equal(rows.source, np.flatnonzero(mask))
        assert rows.starts[-1] == mask.sum()


def test_the_maximum_with_what_is_no_number_is_none():
    """As `max_pool2d` has it; wherever in the window it lies."""
    for place in range(4):
        images = torch.arange(4.0).reshape(1, 1, 2, 2)
        images.view(-1)[place] = torch.nan
        x, y = packed(images.numpy(), 0), layout.aligned(WIDTH)
        window = (np.array([0]), np.array([2]), np.array([0]), np.array([2]))
        one = np.ones((1, 1), np.float32)
        pooling.maximum(x, (4 * WIDTH, 4 * WIDTH), y, (WIDTH, WIDTH), (1, 2, 2, 0), window, one, 0, 1)
        assert np.isnan(y[0])
        assert not y[1:].any()


def test_numbas_threads_leave_pytorchs_alone():
    """In a process of its own: a pool of threads starts once."""
    program = """
import torch
torch.set_num_threads(1)
from sparcl_lite.bench.step import sparse_step
from sparcl_lite.bench.workload import Workload
call, _ = sparse_step(Workload(network="small", width=8, image=8, batch=16))
call()
print(torch.get_num_threads())
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "1"


WITHOUT_CACHE = """
import numpy as np
from sparcl_lite.engine.kernels import convolution, index, layout, pointwise, pooling
x = layout.aligned(1, 1, 4, 4, 16)
layout.pack(np.ones(4, np.float32), x.reshape(-1), (1, 256, 16), 1)
print(x.sum())
"""


@pytest.mark.slow
def test_kernels_need_no_folder_for_compiled_code(tmp_path):
    """A file in the place of `__pycache__`, and a home that is none, bind every user, root too."""
    package = Path(sparcl_lite.__file__).parent
    shutil.copytree(package, tmp_path / package.name, ignore=shutil.ignore_patterns("__pycache__", "*.npz"))
    (tmp_path / package.name / "engine" / "kernels" / "__pycache__").touch()
    environment = {n: v for n, v in os.environ.items() if n not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    environment |= {"HOME": "/dev/null", "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", WITHOUT_CACHE]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "4.0\n"), done.stderr
    assert done.stderr.count("no folder for compiled kernels can be written to") == 1
    assert "NUMBA_CACHE_DIR" in done.stderr
    assert "Traceback" not in done.stderr
