"""LightCL's table, ablation and analysis of blocks as experiments: their rows, their stream, what they share."""

import numpy as np
import pytest

from sparcl_lite.config import RunConfig
from sparcl_lite.methods.lightcl import kept_channels
from sparcl_lite.papers.lightcl.generalizability import generalizability, points
from sparcl_lite.papers.lightcl.tables import PRUNED, ablation, protocol, table1
from sparcl_lite.papers.reference import reference
from sparcl_lite.runs.blocks import Block, BlockAnalysis
from sparcl_lite.runs.run import run
from sparcl_lite.runs.store import Store


@pytest.mark.parametrize("profile", ["smoke", "lite", "paper"])
def test_the_table_has_the_papers_rows_and_two_rivals(profile):
    experiment = table1(profile=profile)
    assert {row.id for row in experiment.rows} == set(reference("lightcl", "table1")["row"]) | {
        "freeze",
        "er-frozen-15",
    }
    (ours,) = (row for row in experiment.rows if row.against is None)
    assert ours.id == "lightcl-15"
    assert {row.against for row in experiment.rows} == {None, "lightcl-15"}
    for row in experiment.rows:
        (config,) = experiment.configs(row, 1)
        assert config.masked_ce
        assert config.buffer_size == 15 or "15" not in row.id
    assert not table1(buffer=200, profile=profile).printed


def test_pre_training_leaves_no_class_of_the_stream_out_of_place():
    lite = RunConfig(**protocol(profile="lite"), method="sgd")
    assert (lite.pretraining, lite.pretraining_classes, lite.tasks, lite.classes) == ("disjoint", 4, 3, 6)
    paper = RunConfig(**protocol(profile="paper"), method="sgd")
    assert (paper.pretraining, paper.tasks, paper.classes) == ("cifar100", 5, 10)
    tiny = RunConfig(**protocol(profile="paper", dataset="tiny-imagenet"), method="sgd")
    assert (tiny.pretraining, tiny.pretraining_classes, tiny.tasks) == ("disjoint", 40, 8)


def test_the_sparse_row_removes_the_authors_shares_where_eight_channels_are_left():
    def kept(profile):
        experiment = table1(profile=profile)
        return kept_channels(experiment.configs(experiment.row("lightcl-0.90-15"), 1)[0])

    assert kept("paper") == tuple(
        round(width * (1 - share)) for width, share in zip((64, 128, 256, 512), PRUNED["resnet18"], strict=True)
    )
    assert kept("lite") == (13, 10, 13)
    assert kept("smoke") == (8, 8, 8)


def test_the_ablation_changes_one_thing_a_row():
    experiment = ablation(profile="lite")
    found = {row.id: experiment.configs(row, 1)[0] for row in experiment.rows}
    both = found["both"]
    assert len({config.key for config in found.values()}) == len(found) == 22
    assert (found["patterns"].freeze, found["patterns"].lightcl) == ("none", both.lightcl)
    assert (found["freeze"].freeze, found["freeze"].method, found["freeze"].lr) == (both.freeze, "sgd", both.lr)
    assert found["boundary-linear"].freeze == "layer3"
    assert found["beta-10x"].beta == pytest.approx(10 * both.beta)
    assert found["random"].lightcl.channels == "random"
    for drawn in ("no-pretraining", "random-trunk"):
        assert (found[drawn].pretraining_epochs, found[drawn].classes) == (0, both.classes)
    assert [found[name].freeze_first_task for name in ("both", "no-pretraining", "random-trunk")] == [True, False, True]


def analysed(**shared):
    """The configurations of the first seed, pre-trained and as drawn."""
    experiment = generalizability(**shared)
    return experiment, [config for row in experiment.rows for config in experiment.configs(row, 1)]


@pytest.mark.slow
def test_an_analysis_has_every_block_on_every_later_task_and_is_kept(tmp_path):
    store = Store(tmp_path / "store")
    experiment, wanted = analysed(profile="smoke")
    assert [config.pretraining_epochs > 0 for config in wanted] == [True, False]
    first, second = (run(config, store=store) for config in wanted)
    assert [(block.task, block.block) for block in first.blocks] == [
        (task, name) for task in (2, 3) for name in ("stem", "layer1.0", "layer2.0", "layer3.0")
    ]
    assert first.pretraining["accuracy"] > second.pretraining["accuracy"]
    table = points([first, second])
    assert set(table["pretraining"]) == {"pre-trained", "as drawn"}
    assert (table["plasticity"] > 0).all()
    assert (table["stability"] <= 1).all()
    assert {path.stem for path in (store.root / "generalizability").glob("*.json")} == {c.key for c in wanted}
    assert [store.get(config) for config in wanted] == [first, second]
    frame = experiment.stored(seeds=1, store=store)
    assert frame["free"].tolist() == [np.mean([block.free for block in r.blocks]) for r in (first, second)]


def test_an_analysis_has_the_key_of_the_run_and_is_not_taken_for_it(tmp_path):
    store, (_, (config, _)) = Store(tmp_path), analysed(profile="smoke")
    plain = RunConfig.model_validate(config.model_dump())
    assert plain.key == config.key
    blocks = [Block(task=2, block="stem", frozen=50.0, free=60.0, stability=0.9)]
    store.put(BlockAnalysis(config=config, blocks=blocks, seconds=1.0, environment={}))
    assert store.get(plain) is None
    assert store.get(config).blocks == blocks


def test_a_block_frozen_in_a_task_leaves_the_accuracy_of_the_free_run_alone(tmp_path):
    _, (config, _) = analysed(profile="smoke")
    found, again = (run(config, store=tmp_path / name) for name in "ab")
    assert found.blocks == again.blocks
    assert len({block.free for block in found.blocks if block.task == 2}) == 1
