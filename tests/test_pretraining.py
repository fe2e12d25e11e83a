"""Pre-training: other classes, other images, the same from the same seed; and what a result says of it."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

import sparcl_lite as sl
from sparcl_lite.config import RunConfig, explain
from sparcl_lite.data import sources
from sparcl_lite.data.sources import Dataset, Split, load
from sparcl_lite.errors import KitError
from sparcl_lite.pretraining import split_classes, with_classes, without_images_of
from sparcl_lite.registry import DATASETS, NETWORKS
from sparcl_lite.rng import Generators
from sparcl_lite.runs import pretrained
from sparcl_lite.runs.job import OutOfTime, job_of
from sparcl_lite.runs.progress import listening
from sparcl_lite.runs.run import run
from sparcl_lite.runs.store import Store
from sparcl_lite.training import Trainer

DIGITS = load("digits")
SMALL = {"profile": "smoke", "images_per_class": 20, "epochs": 1, "pretraining_epochs": 2}


def raw(split):
    return {image.numpy().tobytes() for image in split.images}


@pytest.mark.parametrize("order", ["native", "shuffled"])
@pytest.mark.parametrize("seed", [0, 1])
def test_disjoint_classes_and_images(order, seed):
    config = RunConfig(profile="smoke", pretraining="disjoint", class_order=order, seed=seed)
    source, stream = split_classes(config, DIGITS, Generators(seed))
    assert set(source.spec.classes) | set(stream.spec.classes) == set(DIGITS.spec.classes)
    assert not set(source.spec.classes) & set(stream.spec.classes)
    assert (len(source.spec.classes), len(stream.spec.classes)) == (4, 6)
    assert (config.tasks, config.classes, config.pretraining_classes) == (3, 6, 4)
    of_source = raw(without_images_of(source.train, stream.train, stream.test))
    assert not of_source & (raw(stream.train) | raw(stream.test))
    assert len(source.train.labels) + len(stream.train.labels) == len(DIGITS.train.labels)
    if order == "native":
        assert source.spec.classes == DIGITS.spec.classes[:4]


def test_classes_are_numbered_anew_and_keep_their_images():
    part = with_classes(DIGITS, torch.tensor([7, 2]))
    assert part.spec.classes == ("two", "seven")
    for new, old in enumerate([2, 7]):
        assert part.train.images[part.train.labels == new].equal(DIGITS.train.images[DIGITS.train.labels == old])
    assert part.spec.train_images == len(part.train.labels)


def test_images_that_occur_twice_are_left_out():
    images = torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1)
    source = Split(images, torch.arange(5))
    left = without_images_of(source, Split(images[1:2], torch.zeros(1)), Split(images[4:], torch.zeros(1)))
    assert left.labels.tolist() == [0, 2, 3]
    assert left.images.flatten().tolist() == [0, 2, 3]


def test_pretraining_changes_the_trunk_and_not_the_head_and_is_the_same_again():
    drawn = Trainer(RunConfig(**SMALL, pretraining="disjoint"), DIGITS, from_state=True).network
    one, other = (Trainer(RunConfig(**SMALL, pretraining="disjoint"), DIGITS) for _ in range(2))
    for name, value in one.network.state_dict().items():
        assert value.equal(other.network.state_dict()[name]), name
        if name.startswith("linear"):
            assert value.equal(drawn.state_dict()[name])
        elif value.dim() == 4:
            assert not value.equal(drawn.state_dict()[name])
    assert one.network.linear.out_features == 6
    assert one.pretraining == other.pretraining
    assert Trainer(RunConfig(**SMALL, pretraining="disjoint", seed=1), DIGITS).pretraining != one.pretraining


def test_every_method_starts_from_the_same_pretrained_weights():
    methods = ("sgd", "joint", "er", "packnet", "lightcl", "pnn")
    found = [Trainer(RunConfig(**SMALL, method=m, pretraining="disjoint"), DIGITS) for m in methods]
    expected = found[0].network.conv1.weight
    for trainer in found[1:]:
        networks = getattr(trainer.network, "columns", [trainer.network])
        assert all(network.conv1.weight.equal(expected) for network in networks)
        assert [t.classes.tolist() for t in trainer.stream.tasks] == [t.classes.tolist() for t in found[0].stream.tasks]


def test_a_result_says_what_it_was_pretrained_on(tmp_path):
    config = RunConfig(**SMALL | {"pretraining_epochs": 5}, method="lightcl", pretraining="disjoint")
    result = run(config, store=tmp_path)
    assert result.pretraining["source"] == "digits"
    assert len(result.pretraining["classes"]) == 4
    assert result.pretraining["accuracy"] > 60  # guessing: 25
    assert result.method["pattern_density"]
    again = Store(tmp_path).get(config)
    assert again.pretraining == result.pretraining
    old = result.model_dump()
    del old["method"], old["pretraining"]
    assert type(result).model_validate(old).pretraining == {}  # files of earlier versions


def test_cifar100_is_the_source_of_cifar10(monkeypatch):
    generator = torch.Generator().manual_seed(0)

    def generated(name):
        spec = DATASETS[name]
        count = 2 * len(spec.classes)
        images = torch.randint(256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
        split = Split(images, torch.arange(count) % len(spec.classes))
        return Dataset(spec, split, split)

    monkeypatch.setattr("sparcl_lite.pretraining.load", generated)
    assert not set(DATASETS["cifar10"].classes) & set(DATASETS["cifar100"].classes)
    config = RunConfig(
        profile="paper", method="lightcl", pretraining="cifar100", pretraining_epochs=1, width=8, network="small"
    )
    assert config.freeze_first_task
    trainer = Trainer(config, generated("cifar10"))
    assert trainer.pretraining["source"] == "cifar100"
    assert trainer.pretraining["train_images"] == 200
    assert trainer.network.linear.out_features == 10
    assert sources.load is not generated


def test_fewer_images_than_a_batch_are_refused():
    config = RunConfig(profile="smoke", pretraining="disjoint", batch_size=600)
    with pytest.raises(KitError, match=r"^batch_size = 600: the \d+ images to pre-train on are no complete batch"):
        Trainer(config, load("digits"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pretraining": "cifar100"}, "pretraining = 'cifar100' is for dataset = 'cifar10'"),
        (
            {"pretraining": "disjoint", "pretraining_classes": 0},
            "pretraining_classes = 0 with pretraining = 'disjoint'",
        ),
        ({"pretraining_classes": 5}, "pretraining_classes = 5 with pretraining = 'none'"),
        ({"pretraining": "disjoint", "pretraining_classes": 3}, "does not divide the 7 classes"),
        ({"pretraining": "disjoint", "pretraining_classes": 10}, "does not divide the 0 classes"),
        ({"pretraining": "imagenet"}, "pretraining = 'imagenet'"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(settings, said):
    with pytest.raises(ValidationError) as caught:
        RunConfig(profile="smoke", **settings)
    assert said in explain(caught.value)


def outcome(config, store):
    """What a run is, but for the time it took and the memory that its process had held."""
    return run(config, store=store).model_dump(exclude={"seconds", "started", "finished", "peak_memory_bytes", "trace"})


def test_runs_that_begin_alike_are_pretrained_once_and_have_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARCL_LITE_DATA", str(tmp_path / "data"))
    trained, really = [], pretrained.pretrain
    monkeypatch.setattr(pretrained, "pretrain", lambda *given, **how: trained.append(given[0]) or really(*given, **how))
    configs = [RunConfig(**SMALL, method=method, pretraining="disjoint") for method in ("sgd", "er", "lightcl")]
    first = [outcome(config, Store(tmp_path / "one")) for config in configs]
    assert trained == configs[:1]
    assert [outcome(config, Store(tmp_path / "two")) for config in configs[:1]] == first[:1]
    assert len(trained) == 1
    for change in ({"seed": 1}, {"pretraining_epochs": 1}, {"pretraining_lr": 0.01}, {"width": 9}, {"batch_size": 8}):
        outcome(configs[0].model_copy(update=change), Store(tmp_path / "one"))
    assert len(trained) == 6
    assert len(list((tmp_path / "data").rglob("*.pt"))) == 6


def test_a_run_is_named_and_shows_epochs_while_it_is_pretrained(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SPARCL_LITE_DATA", str(tmp_path / "data"))
    config, shares, really = RunConfig(**SMALL, method="sgd", pretraining="disjoint"), [], pretrained.pretrain
    monkeypatch.setattr(pretrained, "pretrain", lambda *given, **how: shares.append(None) or really(*given, **how))
    with listening(shares.append):
        run(config, store=tmp_path / "one", progress=True)
    assert shares[:2] == [0, None]
    assert "pre-training: 100%" in capsys.readouterr().err
    run(config, store=tmp_path / "two", progress=True)
    assert "pre-training" not in capsys.readouterr().err


def within(job, epochs, store):
    """Run with a limit of time that ends so many epochs from here."""
    left = iter([False] * epochs)  # it is asked once before the run begins
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(job), "out_of_time", property(lambda self: next(left, True)))
        with pytest.raises(OutOfTime):
            run(job, store=store)


@pytest.mark.parametrize("damaged", [False, True])
def test_pretraining_that_a_limit_of_time_ends_goes_on_in_the_next_call_with_the_same_bits(
    tmp_path, monkeypatch, damaged
):
    monkeypatch.setenv("SPARCL_LITE_DATA", str(tmp_path / "first"))
    config = RunConfig(**SMALL | {"pretraining_epochs": 5}, method="sgd", pretraining="disjoint")
    whole, begun, really = outcome(config, Store(tmp_path / "whole")), [], pretrained.pretrain
    monkeypatch.setenv("SPARCL_LITE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(
        pretrained, "pretrain", lambda *given, **how: begun.append(how["begun"]) or really(*given, **how)
    )
    for epochs in (1, 2):
        within(job_of(config), epochs, tmp_path / "parts")
        (unfinished,) = (tmp_path / "data").rglob("*.pt")
    if damaged:
        unfinished.write_bytes(unfinished.read_bytes()[:-100])
    assert outcome(config, Store(tmp_path / "parts")) == whole
    assert [state and state["epochs"] for state in begun] == [None, 1, None if damaged else 3]
    (finished,) = (tmp_path / "data").rglob("*.pt")
    assert finished != unfinished


def test_a_damaged_pretrained_network_is_trained_again(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARCL_LITE_DATA", str(tmp_path / "data"))
    config = RunConfig(**SMALL, method="sgd", pretraining="disjoint")
    first = outcome(config, Store(tmp_path / "one"))
    (kept,) = (tmp_path / "data").rglob("*.pt")
    whole = kept.read_bytes()
    for number, damaged in enumerate((b"", whole[: len(whole) // 2], whole.replace(whole[5000:5004], b"oops"))):
        kept.write_bytes(damaged)
        assert outcome(config, Store(tmp_path / f"again{number}")) == first
        assert len(kept.read_bytes()) == len(whole)


def test_a_users_own_network_is_pretrained_each_time_since_its_code_may_change(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARCL_LITE_DATA", str(tmp_path / "data"))

    @sl.register.network("own")
    def own(channels, classes, width, size):
        convolution, head = nn.Conv2d(channels, width, 3), nn.Linear(width, classes)
        return nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)

    try:
        config = RunConfig(**SMALL, method="sgd", pretraining="disjoint", network="own")
        assert outcome(config, Store(tmp_path / "one")) == outcome(config, Store(tmp_path / "two"))
    finally:
        NETWORKS.forget("own")
    assert not list((tmp_path / "data").rglob("*.pt"))
