"""Masks, SparCL's schedule and TDM against brute force, the official code's tables and invariants."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from sparcl_lite import masks
from sparcl_lite.config import Sparse
from sparcl_lite.models import build
from sparcl_lite.sparsity import SparCL
from sparcl_lite.sparsity.schedule import (
    data_fraction,
    mask_adjustment,
    removal_epochs,
    removed_per_stage,
    samples_in_epoch,
)
from sparcl_lite.sparsity.tdm import TDM

QUICK = settings(deadline=None, max_examples=40)
SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(3), st.just(3))
SEEDS = st.integers(0, 10**6)
DENSITIES = st.floats(0, 1)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def distinct(shape, seed):
    """Scores without ties, in random order."""
    count = torch.Size(shape).numel()
    return torch.randperm(count, generator=generator(seed)).float().view(shape)


def best(scores, mask, count):
    """Oracle: the positions of the `count` highest scores inside `mask`, by a plain sort."""
    inside = [i for i, kept in enumerate(mask.flatten().tolist()) if kept]
    return set(sorted(inside, key=lambda i: -scores.flatten()[i].item())[:count])


def positions(mask):
    return set(mask.flatten().nonzero().flatten().tolist())


def test_prunable_are_the_3x3_convolutions_of_the_blocks():
    expected = [f"layer{i}.{j}.conv{k}.weight" for i in (1, 2, 3, 4) for j in (0, 1) for k in (1, 2)]
    assert list(masks.prunable_weights(build("resnet18", width=4, channels=3, classes=10, seed=0))) == expected
    small = masks.prunable_weights(build("small", width=4, channels=1, classes=10, seed=0))
    assert list(small) == [f"layer{i}.0.conv{k}.weight" for i in (1, 2, 3) for k in (1, 2)]


@QUICK
@given(SHAPES, DENSITIES, SEEDS)
def test_random_mask_has_exactly_the_density_asked_for(shape, density, seed):
    weight = torch.empty(shape)
    mask = masks.random_mask(weight, density, generator(seed))
    assert mask.shape == weight.shape
    assert mask.count_nonzero() == round(density * weight.numel()) == masks.count_for(weight, density)
    assert masks.density(mask) == pytest.approx(density, abs=0.5 / weight.numel() + 1e-9)
    assert mask.equal(masks.random_mask(weight, density, generator(seed)))


@QUICK
@given(SHAPES, DENSITIES, st.integers(0, 250), SEEDS)
def test_keep_top_is_the_sorted_best_of_the_mask(shape, density, count, seed):
    scores = distinct(shape, seed)
    mask = masks.random_mask(scores, density, generator(seed + 1))
    assert positions(masks.keep_top(scores, mask, count)) == best(scores, mask, count)


@QUICK
@given(SHAPES, DENSITIES, st.integers(0, 250), SEEDS)
def test_growth_is_nested_exact_and_takes_the_best_of_the_rest(shape, density, count, seed):
    scores = distinct(shape, seed)
    mask = masks.random_mask(scores, density, generator(seed + 1))
    grown = masks.grow_by(scores, mask, count)
    assert positions(grown) == positions(mask) | best(scores, ~mask, count)
    grown = masks.grow_random(mask, count, generator(seed))
    assert positions(grown) >= positions(mask)
    assert grown.count_nonzero() == min(mask.numel(), mask.count_nonzero() + count)


@QUICK
@given(SHAPES, DENSITIES, SEEDS)
def test_magnitude_mask_ignores_signs(shape, density, seed):
    weight = (distinct(shape, seed) + 1) * torch.randn(shape, generator=generator(seed)).sign()
    mask = masks.magnitude_mask(weight, density)
    everything = torch.ones_like(mask)
    assert positions(mask) == best(weight.abs(), everything, round(density * weight.numel()))


def test_random_growth_is_uniform_over_the_missing_entries():
    mask = torch.tensor([True, False] * 5)
    drawn = Counter()
    for seed in range(2000):
        drawn.update(positions(masks.grow_random(mask, 2, generator(seed)) & ~mask))
    assert set(drawn) == {1, 3, 5, 7, 9}
    assert chisquare(list(drawn.values())).pvalue > 1e-3


def test_masks_follow_the_weights_memory_layout():
    scores = distinct((4, 3, 3, 3), 0).contiguous(memory_format=torch.channels_last)
    mask = masks.keep_top(scores, torch.ones_like(scores, dtype=torch.bool), 20)
    assert mask.is_contiguous(memory_format=torch.channels_last)
    assert sorted(scores[mask].tolist()) == list(range(88, 108))


# -- schedule ------------------------------------------------------------------------------------------------

OFFICIAL = SparCL(variant="official", sparsity=0.75)
PAPER = SparCL(sparsity=0.75)
INTRA, EXPAND, FROZEN = (0.76, 0.75), (0.75, 0.74), (0.75, 0.75)


@pytest.mark.parametrize(
    ("sparse", "task", "epochs", "expected"),
    [
        (OFFICIAL, 0, 50, {0: EXPAND, **dict.fromkeys(range(5, 45, 5), INTRA), 45: FROZEN}),
        (OFFICIAL, 3, 50, {0: EXPAND, **dict.fromkeys(range(5, 45, 5), INTRA), 45: FROZEN}),
        (OFFICIAL, 1, 100, {0: EXPAND, **dict.fromkeys(range(10, 90, 10), INTRA), 90: FROZEN}),
        (PAPER, 0, 50, dict.fromkeys(range(5, 50, 5), INTRA)),
        (PAPER, 1, 50, {0: EXPAND, **dict.fromkeys(range(5, 50, 5), INTRA)}),
        (PAPER, 1, 100, {0: EXPAND, **dict.fromkeys(range(10, 100, 10), INTRA)}),
    ],
)
def test_mask_schedule_is_the_published_table(sparse, task, epochs, expected):
    found = {epoch: mask_adjustment(sparse, task, epoch, epochs) for epoch in range(epochs)}
    found = {epoch: action for epoch, action in found.items() if action}
    assert list(found) == list(expected)
    assert all(found[epoch] == pytest.approx(expected[epoch], abs=1e-12) for epoch in expected)


@pytest.mark.parametrize("sparse", [OFFICIAL, PAPER])
@pytest.mark.parametrize(("epochs", "stage"), [(50, 5), (100, 10)])
def test_removal_schedule_is_the_published_table(sparse, epochs, stage):
    assert removal_epochs(sparse, epochs) == [stage, 2 * stage, 3 * stage, 4 * stage]
    assert removed_per_stage(sparse, 10_000, epochs) == 750
    samples = [samples_in_epoch(sparse, 10_000, epoch, epochs) for epoch in range(epochs)]
    steps = [size for size in (10_000, 9_250, 8_500, 7_750) for _ in range(stage)]
    assert samples == steps + [7_000] * (6 * stage)
    assert data_fraction(sparse, epochs) == pytest.approx(0.775, abs=1e-12)
    assert sum(samples) / (10_000 * epochs) == pytest.approx(0.775, abs=1e-12)


def test_without_ddr_all_samples_stay():
    sparse = SparCL(ddr=False)
    assert {samples_in_epoch(sparse, 77, epoch, 50) for epoch in range(50)} == {77}
    assert data_fraction(sparse, 50) == 1
    assert Sparse(kind="own").samples_left(77, 50) == sparse.samples_left(77, 50) == 77
    assert SparCL().samples_left(10_000, 50) == 7_000


# -- TDM -----------------------------------------------------------------------------------------------------


def tdm_and_weight(seed=0, **settings):
    weight = torch.randn(10, 10, 1, 1, generator=generator(seed))
    sparse = SparCL(**{"sparsity": 0.5, "p_intra": 0.3, "p_inter": 0.2} | settings)
    return TDM(sparse, {"w": weight}, generator(seed + 1)), weight


def no_gradient():
    return {"w": torch.zeros(10, 10, 1, 1)}


def test_tdm_expands_then_shrinks_by_importance():
    tdm, weight = tdm_and_weight(freeze_from=0.2)  # from epoch 2 of 10 on: prune only
    first = tdm.masks["w"]
    assert masks.density(first) == 0.5
    assert not weight[~first].any()
    assert tdm.adjust(1, 0, 10, no_gradient)
    expanded = tdm.masks["w"]
    assert tdm.densities() == {"w": 0.7}
    assert (expanded & first).equal(first)
    weight.copy_(expanded * torch.randn(weight.shape, generator=generator(5)))
    gradient = torch.rand(weight.shape, generator=generator(6)) * 2
    assert tdm.adjust(1, 2, 10, lambda: {"w": gradient})
    assert positions(tdm.masks["w"]) == best(weight.abs() + gradient, expanded, 50)
    assert not weight[~tdm.masks["w"]].any()


def test_tdm_asks_for_no_gradient_where_the_schedule_has_nothing():
    tdm, _ = tdm_and_weight(interval=0.5, ddr=False)
    before = tdm.masks["w"].clone()

    def unexpected():
        raise AssertionError("a gradient was measured for nothing")

    for task, epoch in [(0, 0), (0, 1), (3, 4), (3, 6)]:
        assert not tdm.adjust(task, epoch, 10, unexpected)
    assert tdm.masks["w"].equal(before)


def test_tdm_prunes_the_least_important_then_grows_back():
    tdm, weight = tdm_and_weight()
    before, importance = tdm.masks["w"], weight.abs().clone()
    tdm.adjust(0, 1, 10, no_gradient)
    assert masks.density(tdm.masks["w"]) == 0.5
    survivors = best(importance, before, 20)
    assert survivors <= positions(tdm.masks["w"])
    assert sum(weight.flatten()[i] != 0 for i in survivors) == 20


@pytest.mark.parametrize("growth", ["random", "gradient"])
def test_grown_weights_start_at_zero_even_when_just_pruned(growth):
    tdm, weight = tdm_and_weight(growth=growth)
    before, importance = tdm.masks["w"], weight.abs().clone()
    tdm.adjust(0, 1, 10, lambda: {"w": torch.ones_like(weight)})
    survivors = best(importance, before, 20)
    grown = positions(tdm.masks["w"]) - survivors
    assert len(grown) == 30
    assert not weight.flatten()[list(grown)].any()


def test_gradient_growth_takes_the_largest_gradients():
    tdm, weight = tdm_and_weight(growth="gradient")
    before, importance = tdm.masks["w"], weight.abs().clone()
    gradient = distinct(weight.shape, 3) * 1e-6  # too small to matter beside |w|
    tdm.adjust(0, 1, 10, lambda: {"w": gradient})
    kept = torch.zeros(100, dtype=torch.bool)
    kept[list(best(importance + gradient, before, 20))] = True
    assert positions(tdm.masks["w"]) == positions(kept) | best(gradient, ~kept, 30)
