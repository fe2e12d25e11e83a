"""What sparse training needs of its time scales: the papers' own, and what each profile keeps of them."""

import pytest

from sparcl_lite.config import PROFILES, RunConfig
from sparcl_lite.data.streams import samples_per_class, steps_per_epoch
from sparcl_lite.registry import DATASETS
from sparcl_lite.sparsity import RigL, SparCL, StaticMask
from sparcl_lite.sparsity.rigl import drop_fraction
from sparcl_lite.sparsity.schedule import mask_adjustment, removal_epochs, stage_epochs, uncounted_epochs


def scales(profile, sparse, **settings):
    """Steps between mask adjustments, adjustments a task, presentations in a stage of DDR, and its removals."""
    config = RunConfig(profile=profile, sparse=sparse, **settings)
    samples, epochs = (
        samples_per_class(config, DATASETS[config.dataset]) * config.classes // config.tasks,
        config.epochs,
    )
    stage = stage_epochs(config.sparse, epochs)
    return {
        "steps between": stage * steps_per_epoch(config, samples),
        "adjustments": sum(bool(mask_adjustment(config.sparse, 1, epoch, epochs)) for epoch in range(1, epochs)),
        "presentations": stage,
        "counted first": stage - uncounted_epochs(config.sparse, epochs),
        "removals": len(removal_epochs(config.sparse, epochs)),
    }


def test_the_papers_own_time_scales():
    paper = {"steps between": 1565, "adjustments": 9, "presentations": 5, "counted first": 5, "removals": 4}
    assert scales("paper", SparCL()) == paper


@pytest.mark.parametrize("sparsity", [0.75, 0.9, 0.95])
def test_lite_presents_each_sample_more_than_once_a_stage_and_says_what_it_cannot_keep(sparsity):
    """The comments in profiles.toml and docs/deviations.md, part T, name these numbers beside the paper's."""
    lite = {"steps between": 64, "adjustments": 4, "presentations": 2, "counted first": 1, "removals": 2}
    assert scales("lite", SparCL(sparsity=sparsity)) == lite


@pytest.mark.parametrize("sparsity", [0.75, 0.9, 0.95])
def test_desk_has_the_stages_of_the_paper(sparsity):
    desk = {"steps between": 62, "adjustments": 9, "presentations": 2, "counted first": 1, "removals": 4}
    assert scales("desk", SparCL(sparsity=sparsity)) == desk


@pytest.mark.parametrize("profile", ["lite", "desk"])
@pytest.mark.parametrize("sparsity", [0.75, 0.9, 0.95])
def test_an_adjustment_moves_the_published_share_of_active_weights(profile, sparsity):
    published = RunConfig(profile="paper", sparse=SparCL(sparsity=0.75)).sparse
    own = RunConfig(profile=profile, sparse=SparCL(sparsity=sparsity)).sparse
    for name in ("p_inter", "p_intra"):
        share = getattr(published, name) / (1 - published.sparsity)
        assert getattr(own, name) / (1 - sparsity) == pytest.approx(share)


@pytest.mark.parametrize(("profile", "moves", "between"), [("paper", 117, 100), ("desk", 23, 20), ("lite", 23, 10)])
def test_rigl_moves_its_mask_often_enough_to_matter(profile, moves, between):
    config = RunConfig(profile=profile, sparse=RigL(sparsity=0.9))
    samples = samples_per_class(config, DATASETS[config.dataset]) * config.classes // config.tasks
    steps = config.epochs * steps_per_epoch(config, samples)
    assert sum(drop_fraction(config.sparse, step, steps) > 0 for step in range(steps)) == moves
    assert config.sparse.interval == between


def test_what_the_user_sets_is_left_alone_and_a_dictionary_is_filled_like_an_object():
    own = RunConfig(profile="lite", sparse=SparCL(sparsity=0.9, interval=0.3, p_intra=0.01)).sparse
    assert (own.interval, own.p_intra, own.p_inter) == (0.3, 0.01, 0.004)
    assert RunConfig(profile="lite", sparse={"interval": 0.3, "sparsity": 0.9, "p_intra": 0.01}).sparse == own
    assert RunConfig(profile="lite", sparse={}).sparse == RunConfig(profile="lite", sparse=SparCL()).sparse


@pytest.mark.parametrize("profile", PROFILES)
def test_no_rule_of_a_profile_drops_samples_of_one_side(profile):
    for sparse in (None, SparCL(), RigL()):
        config = RunConfig(profile=profile, sparse=sparse)
        assert not config.drop_last
        assert config.even_batches == (profile in ("lite", "desk"))


@pytest.mark.parametrize("sparse", [SparCL(), SparCL(sparsity=0.98), RigL(), StaticMask(kind="snip")])
def test_desk_leaves_the_choice_of_engine_to_timings(sparse):
    assert RunConfig(profile="desk", sparse=sparse).engine == "auto"
    assert RunConfig(profile="desk").engine == "dense"


@pytest.mark.parametrize("sparse", [SparCL(), SparCL(sparsity=0.98), RigL(), StaticMask(kind="snip")])
def test_lite_runs_sparse_rows_on_the_weights_that_exist(sparse):
    assert RunConfig(profile="lite", sparse=sparse).engine == "sparse"
    assert RunConfig(profile="lite", sparse=sparse, engine="dense").engine == "dense"
    assert RunConfig(profile="lite", sparse=SparCL(tdm=False)).engine == "dense"  # all weights exist
    assert RunConfig(profile="lite").engine == "dense"
