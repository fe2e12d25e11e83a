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
from sparcl_lite.engine.kernels import convolution, layout
from sparcl_lite.engine.kernels.index import scatter
from sparcl_lite.engine.kernels.simd import WIDTH
from sparcl_lite.engine.layers import EVERYTHING, SparseConvolution, flat

FEW = settings(max_examples=60, deadline=None)


def packed(maps, border):
    """`(N, C, H, W)` as `[blocks, C, H, W, 16]`, flat, with a border of zeros or without."""
    samples, channels, rows, columns = maps.shape
    blocks, edge = layout.blocks_for(samples), int(border)
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
    z = F.conv2d(x, weight, stride=module.stride, padding=module.padding)
    if dz is None:
        return z.detach().float()
    return (z.detach().float(), *(g.float() for g in torch.autograd.grad(z, (x, weight), dz.double())))


def close(found, expected, terms=None):
    """Within 1e-4 of the largest value, or of the largest sum of the absolute `terms` where sums may cancel."""
    size = float((expected if terms is None else terms).abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * size + 1e-6)


@st.composite
def problems(draw):
    """A masked convolution, and a batch for it."""
    sizes = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 9, 14, 16, 18, 33])
    kernel, stride = draw(st.sampled_from([1, 3])), draw(st.sampled_from([1, 2]))
    inputs, outputs = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    samples, rows, columns = draw(st.integers(1, 40)), draw(sizes), draw(sizes)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    module = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False).to(memory_format=torch.channels_last)
    density = draw(st.sampled_from([0.0, 0.05, 0.3, 1.0]))
    mask = torch.rand(module.weight.shape, generator=generator) < density
    if draw(st.booleans()):
        mask[draw(st.integers(0, outputs - 1))] = False
        mask[:, draw(st.integers(0, inputs - 1))] = False
    with torch.no_grad():
        module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * mask)
    return module, mask, torch.randn(samples, inputs, rows, columns, generator=generator), generator


@given(problems(), st.booleans(), st.booleans())
@FEW
def test_convolutions_are_those_of_torch(problem, add, dense):
    module, mask, x, generator = problem
    dz = torch.randn(torchs(module, x).shape, generator=generator)
    expected, expected_dx, expected_gradient = torchs(module, x, dz)
    layer = SparseConvolution(module, *x.shape[2:])
    layer.index(mask)
    layer.read_values()
    layer.dense = dense
    blocks, (samples, outputs, rows, columns) = layout.blocks_for(len(x)), expected.shape
    z, partial = layout.aligned(blocks * layer.output_block), layout.aligned(blocks * layer.parts, outputs, 2, WIDTH)
    inside = packed(x.numpy(), border=True)
    layer.forward(inside, z, 0, blocks, partial)
    close(unpacked(z, samples, outputs, rows, columns), expected)
    close(torch.from_numpy(partial[:, :, 0].sum((0, 2))), expected.sum((0, 2, 3)), expected.abs().sum((0, 2, 3)))
    close(torch.from_numpy(partial[:, :, 1].sum((0, 2))), expected.square().sum((0, 2, 3)))
    bordered = packed(dz.numpy(), border=True)
    dx = packed(np.ones(x.shape, np.float32), border=False)
    layer.input_gradient(bordered, dx, 0, blocks, add)
    close(unpacked(dx, *x.shape), expected_dx + float(add))
    for wanted, kept in ((None, mask), (EVERYTHING, torch.ones_like(mask)), (mask & (dz[0, 0, 0, 0] > 0), None)):
        layer.want(wanted)
        layer.weight_gradient(inside, bordered, blocks, False)
        found = np.empty(layer.shape.weights, np.float32)
        scatter(layer.gradient, layer.gradient_rows.source, found)
        kept = wanted if kept is None else kept
        close(torch.from_numpy(found), torch.from_numpy(flat(expected_gradient * kept)))


@pytest.mark.parametrize("stride", [1, 2])
def test_every_width_is_covered(stride):
    for width in (*range(1, 20), 31, 32, 33):
        module = nn.Conv2d(2, 2, 3, stride, 1, bias=False).to(memory_format=torch.channels_last)
        x, layer = torch.randn(1, 2, 7, width), SparseConvolution(module, 7, width)
        layer.index(None)
        layer.read_values()
        z, partial = layout.aligned(layer.output_block), layout.aligned(layer.parts, 2, 2, WIDTH)
        layer.forward(packed(x.numpy(), True), z, 0, 1, partial)
        expected = torchs(module, x)
        close(unpacked(z, *expected.shape), expected)
        dz = torch.ones_like(expected)
        dx = layout.aligned(2 * 7 * width * WIDTH)
        layer.input_gradient(packed(dz.numpy(), True), dx, 0, 1, False)
        close(unpacked(dx, *x.shape), torchs(module, x, dz)[1])


def test_weight_gradients_add_up_over_groups_of_blocks():
    module = nn.Conv2d(3, 4, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
    x, layer = torch.randn(32, 3, 8, 8), SparseConvolution(module, 8, 8)
    layer.index(None)
    layer.read_values()
    dz = torch.randn(32, 4, 8, 8)
    expected = torchs(module, x, dz)[2]
    for number, (a, b) in enumerate(zip(x.split(16), dz.split(16), strict=True)):
        layer.weight_gradient(packed(a.numpy(), True), packed(b.numpy(), True), 1, number > 0)
    close(torch.from_numpy(layer.gradient), torch.from_numpy(flat(expected)))


@pytest.mark.parametrize("width", range(1, 70))
def test_tiles_cover_a_row(width):
    cuts = convolution.cut(width)
    assert cuts[:, 1].sum() == width
    assert {tuple(map(int, shape)) for shape in cuts} <= set(convolution.SHAPES)


def test_an_index_is_rebuilt_only_when_the_mask_changes():
    module = nn.Conv2d(3, 4, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
    layer, masks = SparseConvolution(module, 8, 8), [torch.rand(module.weight.shape) < 0.5 for _ in range(2)]
    layer.index(masks[0])
    first = layer.forward_rows
    layer.index(masks[0])
    assert layer.forward_rows is first
    layer.index(masks[1])
    assert len(layer.forward_rows.source) == int(masks[1].sum())
    assert sorted(layer.backward_rows.source) == list(range(int(masks[1].sum())))


def test_samples_go_in_and_means_come_out():
    images, blocks = torch.randn(19, 3, 5, 4), layout.blocks_for(19)
    for given_ in (images, images.contiguous(memory_format=torch.channels_last)):
        x = layout.aligned(blocks * 3 * 7 * 6 * WIDTH)
        layout.pack(given_.numpy(), x, 0)
        np.testing.assert_array_equal(x, packed(images.numpy(), border=True))
    features = np.empty((19, 3), np.float32)
    layout.pool(x, features, 0, 5, 4)
    close(torch.from_numpy(features), images.mean((2, 3)))
    dy = layout.aligned(blocks * 3 * 20 * WIDTH)
    layout.spread(features, dy, 20)
    expected = torch.from_numpy(features)[:, :, None, None].expand(19, 3, 5, 4) / 20
    close(unpacked(dy, 19, 3, 5, 4), expected)
    assert F.mse_loss(unpacked(dy, 32, 3, 5, 4)[19:], torch.zeros(13, 3, 5, 4)) == 0


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
from sparcl_lite.engine.kernels import convolution, index, layout, normalisation
x = layout.aligned(1, 1, 4, 4, 16)
layout.pack(np.ones((1, 1, 2, 2), np.float32), x.reshape(-1), 0)
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
