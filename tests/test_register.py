"""What a user registers: it runs like a built-in, and no stored result of something else answers for it."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import Field, ValidationError
from torch import nn

import sparcl_lite as sl
from sparcl_lite import masks, registry
from sparcl_lite.config import explain
from sparcl_lite.errors import KitError
from sparcl_lite.losses import is_among
from sparcl_lite.plugins import load
from sparcl_lite.registry import CLUSTERERS, METHODS, NETWORKS, RULES, STRATEGIES

pytestmark = pytest.mark.slow

REGISTRIES = (registry.DATASETS, registry.NETWORKS, registry.METHODS, registry.STRATEGIES)
SMOKE = {"profile": "smoke", "epochs": 5}


@pytest.fixture(autouse=True)
def _forget():
    known = [dict(each.items()) for each in REGISTRIES]
    yield
    for each, names in zip(REGISTRIES, known, strict=True):
        for name in set(each) - set(names):
            each.forget(name)


def pictures(counts, *, colour=3, size=8, seed=0, layout="nchw"):
    """Random images with so many of each class, and their labels as text."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([f"class {k}" for k in range(len(counts))], counts)
    images = rng.integers(0, 256, (len(labels), colour, size, size), dtype=np.uint8)
    if layout == "nhwc":
        images = images.transpose(0, 2, 3, 1)
    return (images[:, 0] if layout == "nhw" else images), labels


def mine(name="mine", *, counts=(20, 26, 31, 24), **options):
    given = {key: options.pop(key) for key in ("colour", "size", "layout") if key in options}
    train = options.pop("train", None) or pictures(counts, **given)
    sl.register.dataset(name, train=train, test=pictures([5] * len(counts), seed=1, **given), **options)
    return train


@pytest.mark.parametrize(
    ("layout", "colour", "size"), [("nchw", 3, 8), ("nhwc", 3, 9), ("nhw", 1, 8), ("nchw", 1, (8, 12))]
)
def test_own_arrays_of_unequal_classes_train_like_a_built_in(tmp_path, layout, colour, size):
    if isinstance(size, tuple):
        train = (
            np.random.default_rng(0).integers(0, 256, (101, 1, *size), dtype=np.uint8),
            pictures([20, 26, 31, 24])[1],
        )
        test = train[0][:20], np.repeat([f"class {k}" for k in range(4)], 5)
        sl.register.dataset("mine", train=train, test=test)
    else:
        mine(layout=layout, colour=colour, size=size)
    spec = registry.DATASETS["mine"]
    assert (spec.channels, spec.classes[0], spec.train_images, spec.tasks) == (colour, "class 0", 101, 2)
    result = sl.run(sl.RunConfig(dataset="mine", **SMOKE), store=tmp_path)
    assert np.isfinite(result.matrix()[-1]).all()
    assert result.config.images_per_class == 0


def test_one_pixel_or_one_label_makes_another_run():
    images, labels = mine()
    keys = [sl.RunConfig(dataset="mine", **SMOKE).key]
    images[3, 1, 2, 2] += 1
    mine(train=(images, labels), replace=True)
    keys.append(sl.RunConfig(dataset="mine", **SMOKE).key)
    labels[[0, -1]] = labels[[-1, 0]]
    mine(train=(images, labels), replace=True)
    keys.append(sl.RunConfig(dataset="mine", **SMOKE).key)
    assert len(set(keys)) == 3
    assert sl.RunConfig(dataset="mine", **SMOKE).key == keys[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": (np.zeros((4, 3, 8, 8)), [0, 0, 1, 1])}, "train images are float64; allowed: uint8 from 0 to 255"),
        ({"train": (np.zeros((4, 8, 8, 5), np.uint8), [0, 0, 1, 1])}, r"allowed: \(N, C, H, W\), \(N, H, W, C\)"),
        ({"train": (np.zeros((4, 8, 8), np.uint8), [0, 0, 1])}, r"4 train images, but labels of shape \(3,\)"),
        ({"train": (np.zeros((4, 8, 8), np.uint8), [0, 0, 2, 1])}, "class 2 is not in both train and test"),
        ({"train": (np.zeros((4, 9, 8), np.uint8), [0, 0, 1, 1])}, "train images are 1 x 9 x 8, test images 1 x 8 x 8"),
    ],
)
def test_wrong_arrays_are_one_line(change, message):
    good = np.zeros((4, 8, 8), np.uint8), [0, 0, 1, 1]
    with pytest.raises(KitError, match=message):
        sl.register.dataset("mine", **{"train": good, "test": good} | change)


def test_a_folder_of_images_is_a_data_set(tmp_path):
    rng = np.random.default_rng(0)
    for part, counts in (("train", (5, 9)), ("test", (2, 3))):
        for name, count in zip(("cat", "dog"), counts, strict=True):
            place = tmp_path / part / name
            place.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(place / f"{number}.jpg")
    sl.register.folder("pets", tmp_path, size=16)
    spec = registry.DATASETS["pets"]
    assert (spec.classes, spec.channels, spec.size, spec.train_images) == (("cat", "dog"), 3, 16, 14)
    before = registry.DATASETS.entry("pets").identity
    (tmp_path / "train" / "cat" / "0.jpg").unlink()
    sl.register.folder("pets", tmp_path, size=16, replace=True)
    assert registry.DATASETS.entry("pets").identity != before
    (tmp_path / "train" / "cat" / "1.jpg").write_bytes(b"no image")
    with pytest.raises(KitError, match=r"train: cannot identify image file"):
        sl.register.folder("pets", tmp_path, replace=True)
    with pytest.raises(KitError, match=r"allowed: .*<class>/<image>"):
        sl.register.folder("none", tmp_path / "nothing")


class ERACEParameters(sl.Parameters):
    weight: float = Field(1.0, ge=0, description="weight of the replayed samples' cross-entropy")


def er_ace(name="own-ace", **options):
    @sl.register.method(name, label="ER-ACE", **options)
    class ERACE(sl.Method):
        Parameters = ERACEParameters
        uses_buffer = True

        def loss(self, batch):
            memories = self.replay(batch, draws=1)
            logits, *replayed = self.forward(batch, memories)
            count = logits.shape[1]
            kept = is_among(batch.labels.unique(), count)
            if memories:
                kept = kept | ~is_among(memories[0].labels.unique(), count)
            loss = F.cross_entropy(logits.masked_fill(~kept, -1e9), batch.labels)
            for memory, output in zip(memories, replayed, strict=True):
                loss = loss + self.config.weight * F.cross_entropy(output, memory.labels)
            return loss, logits

    return ERACE


def test_own_method_runs_with_its_own_parameter_and_under_sparcl(tmp_path):
    er_ace()
    for sparse in (None, sl.SparCL(sparsity=0.9)):
        config = sl.RunConfig(method="own-ace", weight=0.5, sparse=sparse, **SMOKE)
        result = sl.run(config, store=tmp_path)
        assert result.config.weight == 0.5
        assert result.class_il > 10
    with pytest.raises(ValidationError) as raised:
        sl.RunConfig(method="own-ace", weight=-1, **SMOKE)
    assert explain(raised.value).startswith("weight = -1: ")


def test_a_changed_line_is_another_run_unless_a_version_stands_for_the_source():
    def make(factor, **options):
        @sl.register.method("scaled", replace=True, **options)
        class Scaled(sl.Method):
            def loss(self, batch):
                (logits,) = self.forward(batch, [])
                return scale(factor, self.current_loss(logits, batch)), logits

        return sl.RunConfig(method="scaled", **SMOKE).key

    def scale(factor, loss):
        return factor * loss

    assert make(1.0) == make(1.0) != make(2.0)
    assert make(1.0, version="1") == make(2.0, version="1") != make(2.0, version="2")


def test_what_a_method_calls_belongs_to_its_source(tmp_path):
    code = """
        import sparcl_lite as sl
        def scale(loss):
            return {factor} * loss  # {comment}
        @sl.register.method("scaled")
        class Scaled(sl.Method):
            def loss(self, batch):
                (logits,) = self.forward(batch, [])
                return scale(self.current_loss(logits, batch)), logits
        print(sl.RunConfig(profile="smoke", method="scaled").key)
    """

    def key(**values):
        script = tmp_path / "study.py"
        script.write_text(textwrap.dedent(code.format(**values)))
        return subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout

    first = key(factor=1, comment="")
    assert first == key(factor=1, comment="") != key(factor=2, comment="")


def test_own_strategy_runs_over_any_method(tmp_path):
    class SET(sl.Sparse):
        zeta: float = Field(0.3, gt=0, lt=1, description="share of the active weights that move each epoch")

    @sl.register.strategy("set", config=SET)
    class SETStrategy(sl.MaskedStrategy):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            density = self.config.sparse.weight_density
            self.set_masks({n: masks.random_mask(w.data, density, self.rng.mask) for n, w in self.weights.items()})

        def begin_epoch(self, task, epoch, probe):
            self.set_masks({name: self.moved(weight.data, self.masks[name]) for name, weight in self.weights.items()})
            return self.active

        def moved(self, weight, mask):
            active = int(mask.count_nonzero())
            kept = masks.keep_top(weight.abs(), mask, active - int(self.config.sparse.zeta * active))
            return masks.grow_random(kept, active - int(kept.count_nonzero()), self.rng.mask)

    config = sl.RunConfig(method="er", sparse={"kind": "set", "sparsity": 0.8, "zeta": 0.2}, **SMOKE)
    assert config.sparse.zeta == 0.2
    result = sl.run(config, store=tmp_path)
    assert result.weight_density == pytest.approx(0.2, abs=0.01)
    engine = sl.RunConfig(method="er", sparse=SET(kind="set", sparsity=0.8), engine="sparse", **SMOKE)
    assert sl.run(engine, store=tmp_path).class_il > 20


def test_names_are_unique_and_unknown_ones_say_what_is_allowed():
    er_ace()
    with pytest.raises(KitError, match="method = 'own-ace': is registered already; allowed: another name, or replace"):
        er_ace()
    er_ace(replace=True)
    with pytest.raises(KitError, match="is registered already"):
        er_ace("er")
    with pytest.raises(ValidationError) as raised:
        sl.RunConfig(method="er-ase", **SMOKE)
    assert explain(raised.value).startswith("method = 'er-ase': unknown; allowed: agem, ")
    assert "own-ace" in explain(raised.value)


def test_a_stored_result_is_read_without_the_code_that_made_it(tmp_path):
    er_ace()
    config = sl.RunConfig(method="own-ace", **SMOKE)
    made = sl.run(config, store=tmp_path)
    registry.METHODS.forget("own-ace")
    (found,) = sl.Store(tmp_path).results()
    assert found.config.key == made.config.key == config.key
    assert not (tmp_path / "damaged").exists()
    command = [sys.executable, "-m", "sparcl_lite", "store", "list", "--store", str(tmp_path)]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert listed.startswith(f"{config.key}  own-ace, buffer 200, digits, seed 0: ")


def test_workers_run_what_is_registered_here(tmp_path):
    mine()
    er_ace()
    configs = [sl.RunConfig(dataset="mine", method="own-ace", seed=seed, **SMOKE) for seed in range(2)]
    results = sl.sweep(configs, store=tmp_path, workers=2, progress=False)
    assert [r.config.key for r in results] == [c.key for c in configs]


PLUGIN = """
import sparcl_lite as sl

@sl.register.method("plugged")
class Plugged(sl.Method):
    def loss(self, batch):
        (logits,) = self.forward(batch, [])
        return self.current_loss(logits, batch), logits
"""


@pytest.mark.parametrize("place", ["option", "environment"])
def test_a_plugin_is_a_file_on_the_command_line_or_in_the_environment(tmp_path, place, monkeypatch):
    plugin = tmp_path / "my_study.py"
    plugin.write_text(PLUGIN)
    command = [sys.executable, "-m", "sparcl_lite", "flops", "--profile", "smoke", "--method", "plugged", "--json"]
    if place == "option":
        command += ["--plugin", str(plugin)]
    else:
        monkeypatch.setenv("SPARCL_LITE_PLUGINS", str(plugin))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"honest"' in done.stdout


def test_a_broken_plugin_is_one_line(tmp_path):
    plugin = tmp_path / "broken.py"
    plugin.write_text("import nothing_of_this_name")
    command = [sys.executable, "-m", "sparcl_lite", "--plugin", str(plugin), "store", "list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "ModuleNotFoundError: No module named 'nothing_of_this_name'" in done.stderr


@pytest.mark.parametrize("code", ["raise SystemExit(0)", "import sys; sys.exit('stop')", "1 / 0", "x = '\\0"])
def test_whatever_a_plugin_raises_is_one_line_and_ends_nothing(tmp_path, code):
    plugin = tmp_path / "ends.py"
    plugin.write_text(code)
    with pytest.raises(KitError, match=r"^plugin = .+ends\.py: (SystemExit|ZeroDivisionError|SyntaxError)"):
        load([str(plugin)])


@pytest.mark.parametrize(
    "register",
    [
        lambda: sl.register.method("bad")(object),
        lambda: sl.register.method("bad")(lambda: 0),
        lambda: sl.register.network("bad")(7),
        lambda: sl.register.strategy("bad", config=dict)(sl.Strategy),
        lambda: sl.register.strategy("bad", config=sl.Sparse)(object),
        lambda: sl.register.clusterer("bad")(None),
        lambda: sl.register.rule("bad")("text"),
    ],
)
def test_what_cannot_run_is_not_registered(register):
    with pytest.raises(KitError, match=r"^'bad': .+ cannot be registered; allowed: (a class or a function|a subclass)"):
        register()
    assert not any("bad" in names for names in (METHODS, NETWORKS, STRATEGIES, CLUSTERERS, RULES))


class Plain(nn.Module):
    """A network as a user has it."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = F.relu(self.norm(self.second(F.relu(self.first(x)))))
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("sparse", [sl.SparCL(sparsity=0.75), sl.RigL(sparsity=0.75), sl.StaticMask(kind="snip")])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sparsify_keeps_a_network_sparse_in_a_loop_of_the_users_own(sparse, momentum):
    torch.manual_seed(0)
    model, epochs = Plain(), 10
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=momentum)
    trainer, kept = sl.sparsify(model, sparse, epochs=epochs, batch_size=8), []
    for task in range(2):
        inputs, labels = torch.rand(48 + 8 * task, 1, 8, 8), torch.arange(48 + 8 * task) % 3
        trainer.begin_task((inputs, labels))
        for _ in range(epochs):
            samples = trainer.begin_epoch()
            kept.append(len(samples))
            for part in samples[torch.randperm(len(samples))].split(8):
                optimizer.zero_grad()
                F.cross_entropy(model(inputs[part]), labels[part]).backward()
                trainer.after_backward()
                optimizer.step()
        trainer.end_task()
        share = model.second.weight.count_nonzero() / model.second.weight.numel()
        assert share == pytest.approx(0.25, abs=0.02)
        assert model.first.weight.count_nonzero() == model.first.weight.numel()
    removed = isinstance(sparse, sl.SparCL)
    assert kept[0] == 48
    assert (kept[9] < 48) == (kept[19] < 56) == removed
    assert kept[10] == 56
