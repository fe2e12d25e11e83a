"""Profiles, keys and messages of the configuration."""

import numpy as np
import pytest
from pydantic import ValidationError

from sparcl_lite.config import PROFILES, RunConfig, explain
from sparcl_lite.config.key import canonical
from sparcl_lite.registry import METHODS
from sparcl_lite.sparsity import RigL, SparCL


def paper(**settings):
    return RunConfig(profile="paper", **settings)


@pytest.mark.parametrize(
    ("method", "dataset", "buffer_size", "lr", "alpha", "beta"),
    [
        ("er", "cifar10", 200, 0.1, None, None),
        ("er", "cifar10", 500, 0.1, None, None),
        ("er", "tiny-imagenet", 200, 0.1, None, None),
        ("er", "tiny-imagenet", 500, 0.03, None, None),
        ("der", "cifar10", 200, 0.03, 0.3, None),
        ("der", "tiny-imagenet", 500, 0.03, 0.1, None),
        ("der++", "cifar10", 200, 0.03, 0.1, 0.5),
        ("der++", "cifar10", 500, 0.03, 0.2, 0.5),
        ("der++", "tiny-imagenet", 200, 0.03, 0.1, 1.0),
        ("der++", "tiny-imagenet", 500, 0.03, 0.2, 0.5),
    ],
)
def test_paper_profile_has_the_published_best_values(method, dataset, buffer_size, lr, alpha, beta):
    config = paper(method=method, dataset=dataset, buffer_size=buffer_size)
    assert config.lr == lr
    assert alpha is None or config.alpha == alpha
    assert beta is None or config.beta == beta
    assert (config.network, config.width, config.batch_size, config.replay_batch_size) == ("resnet18", 64, 32, 32)
    assert config.epochs == (100 if dataset == "tiny-imagenet" else 50)
    assert config.tasks == (10 if dataset == "tiny-imagenet" else 5)
    assert (config.class_order, config.images_per_class) == ("native", 0)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("as_dict", [True, False])
def test_official_variant_switches_the_loop(profile, as_dict):
    def loop(config):
        return config.masked_ce, config.replay_from_task, config.drop_last

    official = {"variant": "official"} if as_dict else SparCL(variant="official")
    assert loop(RunConfig(profile=profile, sparse=official)) == (True, 1, True)
    assert loop(RunConfig(profile=profile, sparse=SparCL())) == (False, 0, False)
    assert loop(RunConfig(profile=profile)) == (False, 0, False)
    explicit = RunConfig(profile=profile, sparse=official, masked_ce=False, replay_from_task=2)
    assert loop(explicit) == (False, 2, True)


def test_explicit_values_win():
    config = paper(method="er", dataset="tiny-imagenet", buffer_size=500, lr=0.5, epochs=7, tasks=20, beta=9)
    assert (config.lr, config.epochs, config.tasks, config.beta) == (0.5, 7, 20, 9)


def test_default_profile_is_lite():
    assert RunConfig() == RunConfig(profile="lite")
    assert RunConfig().dataset == "fashion-mnist"


OTHERS = {
    "dataset": "fashion-mnist",
    "method": "er",
    "sparse": SparCL(),
    "seed": 1,
    "tasks": 2,
    "images_per_class": 41,
    "class_order": "native",
    "holdout": "validation",
    "network": "resnet18",
    "width": 9,
    "epochs": 6,
    "batch_size": 17,
    "lr": 0.2,
    "drop_last": True,
    "even_batches": True,
    "masked_ce": True,
    "buffer_size": 201,
    "replay_batch_size": 17,
    "replay_from_task": 1,
    "clfd": True,
    "engine": "sparse",
    "freeze": "layer1",
    "freeze_first_task": True,
    "frozen_norm": "train",
    "pretraining_epochs": 3,
    "pretraining_lr": 0.01,
}
# These change others, too, or need a method and a data set of their own.
TOGETHER = {
    "pretraining": {"pretraining": "disjoint", "pretraining_classes": 4, "tasks": 3},
    "pretraining_classes": {"pretraining": "disjoint", "pretraining_classes": 6, "tasks": 2},
}


def test_key_is_independent_of_profile_and_order_only():
    base = RunConfig(profile="smoke", method="der++")
    fields = base.model_dump() | {"profile": "paper"}
    assert RunConfig(**fields).key == base.key
    assert RunConfig(**dict(reversed(fields.items()))).key == base.key
    changes = {name: {name: value} for name, value in OTHERS.items()} | TOGETHER
    assert set(changes) == set(RunConfig.model_fields) - {"profile", "registered"}
    common = base.model_dump(exclude=set(base.own))
    keys = [RunConfig(**common | change).key for change in changes.values()]
    assert len({base.key, *keys}) == len(changes) + 1


def test_key_ignores_fields_at_their_declared_default_so_that_new_ones_keep_old_results():
    class Later(RunConfig):
        new: float = 0.5

    fields = RunConfig(profile="smoke", sparse=SparCL()).model_dump()
    assert Later(**fields).key == RunConfig(**fields).key != Later(**fields, new=0.6).key
    assert canonical(RunConfig(**fields))["sparse"] == {"kind": "sparcl"}


@pytest.mark.parametrize("method", METHODS)
def test_key_depends_on_every_field_of_the_methods_own(method):
    base = RunConfig(profile="smoke", method=method)
    for name, value in base.own.items():
        other = {"lightcl": {"ratio": 0.3}}.get(name) or (not value if isinstance(value, bool) else value + 0.25)
        assert RunConfig(profile="smoke", method=method, **{name: other}).key != base.key, name


def test_a_field_of_another_method_is_refused_and_says_whose_it_is():
    with pytest.raises(ValidationError) as raised:
        RunConfig(method="er", penalty=1.0)
    assert explain(raised.value) == "penalty is not a parameter of er; allowed with ewc, lps"


SPARSE_OTHERS = {
    "variant": "official",
    "sparsity": 0.9,
    "tdm": False,
    "ddr": False,
    "dgm": False,
    "interval": 0.2,
    "alpha": 0.6,
    "beta": 0.9,
    "p_inter": 0.02,
    "p_intra": 0.02,
    "growth": "gradient",
    "initial_mask": "magnitude",
    "cwi_gradient": "total",
    "cwi_batches": 3,
    "expand_first_task": True,
    "freeze_from": 0.9,
    "drop_dead_weights": True,
    "freeze_bn_bias": True,
    "removal": 0.2,
    "removal_rule": "random",
    "cutoff": 0.5,
    "difficulty": "forgetting",
    "uncounted": 0.05,
    "ties": "index",
    "kept_gradients": 0.7,
    "gradient_interval": 31,
    "cgi_gradient": "total",
}


def test_key_depends_on_every_field_of_the_sparse_part():
    assert set(SPARSE_OTHERS) == set(SparCL.model_fields) - {"kind"}
    base = RunConfig(profile="smoke", sparse=SparCL())
    variations = [SparCL(**SparCL().model_dump() | {name: value}) for name, value in SPARSE_OTHERS.items()]
    keys = [RunConfig(**base.model_dump() | {"sparse": sparse}).key for sparse in variations]
    assert len({base.key, *keys}) == len(keys) + 1


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"method": "sgdd"}, ["method = 'sgdd': unknown; allowed: ", "sgd", "joint", "er", "der", "der++"]),
        (
            {"sparse": {"kind": "prune"}},
            ["sparse.kind = 'prune': unknown; allowed: ", "sparcl", "random", "magnitude", "snip", "rigl"],
        ),
        ({"sparse": {"kind": "rigl", "interval": 0}}, ["sparse.interval = 0: ", "greater than or equal to 1"]),
        ({"sparse": {"kind": "snip", "tdm": True}}, ["sparse.tdm is not a parameter"]),
        ({"method": "packnet", "sparse": {"kind": "rigl"}}, ["'packnet' has masks of its own"]),
        ({"method": "agem", "buffer_size": 4}, ["buffer_size = 4", "agem keeps 0 samples of each of 5 tasks", "10 or"]),
        ({"method": "fdr", "buffer_size": 9}, ["buffer_size = 9", "fdr keeps 1 samples of each of 5 tasks", "10 or"]),
        ({"method": "agem", "tasks": [4, 3, 3], "buffer_size": 5}, ["of each of 3 tasks", "allowed: 6 or more"]),
        ({"method": "icarl", "buffer_size": 9}, ["buffer_size = 9", "each of 10 classes"]),
        ({"buffer_size": "500"}, ["buffer_size", "'500'", "integer"]),
        ({"dataset": "mnist"}, ["dataset", "'mnist'", "digits", "fashion-mnist", "cifar10"]),
        ({"dataset": ["digits"]}, ["dataset = ['digits']"]),
        ({"method": ["er"]}, ["method = ['er']: unknown; allowed: "]),
        ({"sparse": {"kind": ["snip"]}}, ["sparse.kind = ['snip']: unknown; allowed: "]),
        ({"profile": "huge"}, ["profile", "'huge'", "smoke, lite, desk, paper"]),
        ({"seed": -1}, ["seed", "-1", "0"]),
        ({"lr": 0}, ["lr", "0", "greater than 0"]),
        ({"lr": float("nan")}, ["lr", "nan"]),
        ({"epochs": 2.5}, ["epochs", "2.5", "integer"]),
        ({"batch_size": 1}, ["batch_size", "1", "2"]),
        ({"tasks": 3}, ["tasks", "3", "10 classes"]),
        ({"tasks": [4, 3]}, ["tasks = [4, 3] has 7 classes, not the 10 of digits", "allowed: a divisor of 10"]),
        ({"tasks": [10, 0]}, ["tasks = [10, 0]: allowed: ", "[4, 3, 3]", "1 or more"]),
        ({"tasks": "three"}, ["tasks = 'three': allowed: "]),
        ({"pretraining": "disjoint", "pretraining_classes": 10, "tasks": 1}, ["tasks = 1", "the 0 classes"]),
        ({"buffer_size": 200.0}, ["buffer_size = 200.0", "integer"]),
        ({"buffer_size": np.float64(200)}, ["buffer_size = 200.0", "integer"]),
        ({"holdout": "train"}, ["holdout", "'train'", "'test'", "'validation'"]),
        ({"method": "er", "buffer_size": 0}, ["buffer_size", "0", "2 or more"]),
        ({"sparse": {"sparsity": 1.0}}, ["sparse.sparsity", "1.0", "less than 1"]),
        ({"sparse": {"growth": "none"}}, ["sparse.growth", "'none'", "'random'", "'gradient'"]),
        ({"sparse": {"sparsity": 0.995}}, ["p_intra", "0.01", "0.995"]),
        ({"sparse": {"sparsity": 0.0}}, ["p_inter", "0.01", "0.0"]),
        ({"sparse": {"growth": "gradient", "cwi_gradient": "total"}}, ["growth", "gradient", "cwi_gradient"]),
        ({"epochs": 2, "sparse": {}}, ["epochs", "2", "ddr"]),
        ({"sparse": {"rigl": 1}}, ["sparse.rigl", "not a parameter"]),
        ({"momentum": 0.9}, ["momentum", "not a parameter"]),
    ],
)
def test_bad_input_is_one_line_naming_field_value_and_what_is_allowed(settings, parts):
    with pytest.raises(ValidationError) as raised:
        RunConfig(**{"profile": "smoke"} | settings)
    message = explain(raised.value)
    assert "\n" not in message
    assert [part for part in parts if part not in message] == [], message


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].uses_buffer])
def test_replay_needs_a_buffer_and_others_do_not(method):
    with pytest.raises(ValidationError, match="buffer_size = 0"):
        RunConfig(method=method, buffer_size=0)
    assert RunConfig(method="sgd", buffer_size=0).buffer_size == 0


def test_numbers_of_numpy_are_those_of_python():
    numpys = {int: np.int64, float: np.float64, bool: np.bool_}

    def converted(values):
        return {n: numpys[type(v)](v) if type(v) in numpys else v for n, v in values.items()}

    for base in (RunConfig(profile="smoke", sparse=SparCL(), method="er"), RunConfig(sparse=RigL())):
        values = base.model_dump()
        given = converted(values) | {"sparse": converted(values["sparse"])}
        assert RunConfig(**given) == base
        assert RunConfig(**given).key == base.key
    assert SparCL(sparsity=np.float32(0.5), gradient_interval=np.int16(7)).gradient_interval == 7
    assert RunConfig(buffer_size=np.int64(500)).lr == RunConfig(buffer_size=500).lr  # profiles look at it
    disjoint = {"profile": "smoke", "pretraining": "disjoint"}
    assert (
        RunConfig(**disjoint, pretraining_classes=np.int64(4)).key == RunConfig(**disjoint, pretraining_classes=4).key
    )


def test_configurations_are_frozen():
    config = RunConfig(sparse=SparCL())
    with pytest.raises(ValidationError):
        config.lr = 1.0
    with pytest.raises(ValidationError):
        config.sparse.sparsity = 0.5


def test_nominal_densities():
    assert SparCL(sparsity=0.75).weight_density == pytest.approx(0.25)
    assert SparCL(sparsity=0.75).gradient_density == pytest.approx(0.20)
    assert SparCL(sparsity=0.75, tdm=False).gradient_density == pytest.approx(0.8)
    assert SparCL(sparsity=0.9, dgm=False).gradient_density == pytest.approx(0.1)


def test_json_round_trip():
    config = paper(sparse=SparCL(variant="official", sparsity=0.9))
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("profile", "engine"), [("smoke", "dense"), ("lite", "sparse"), ("desk", "auto"), ("paper", "auto")]
)
@pytest.mark.parametrize("kind", ["sparcl", "rigl", "snip", "random", "magnitude"])
def test_sparse_runs_have_the_sparse_engine_by_default(profile, engine, kind):
    assert RunConfig(profile=profile).engine == "dense"
    assert RunConfig(profile=profile, sparse={"kind": kind, "sparsity": 0.9}).engine == engine
