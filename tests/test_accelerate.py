"""`accelerate`: any module on its nonzero weights, against the same module as PyTorch runs it."""

import copy
import io
import logging
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, prune

import sparcl_lite as sl
from sparcl_lite.engine import engine_for, engine_of
from sparcl_lite.errors import KitError
from sparcl_lite.models import adapted

LAYERS = (nn.Conv2d, nn.Linear)


def images(count=6, channels=3, size=16, seed=0):
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


def convolution(inputs, outputs, kernel=3, **more):
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, **more), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def four_layers():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv2d(16, 16, 2), nn.ReLU(), nn.AvgPool2d(2, 1, padding=1),
        nn.Conv2d(16, 12, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d((2, 3)), nn.Flatten(), nn.Dropout(0.4), nn.Linear(72, 5),
    )  # fmt: skip


class UNet(nn.Module):
    """Two levels with a skip connection that is concatenated, and upsampling without a transposed convolution."""

    def __init__(self):
        super().__init__()
        self.down, self.inner, self.up = (
            convolution(3, 8, padding=1),
            convolution(8, 16, padding=1),
            nn.Upsample(scale_factor=2),
        )
        self.out, self.head = convolution(24, 8, padding=1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        skip = self.down(x)
        return self.head(self.out(torch.cat([skip, self.up(self.inner(F.max_pool2d(skip, 2)))], 1)))


class PreActivation(nn.Module):
    """Batch norm of sums, a sum of three, and a value that is read three times."""

    def __init__(self):
        super().__init__()
        self.stem, self.norms = (
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.ModuleList(nn.BatchNorm2d(8) for _ in range(3)),
        )
        self.convolutions = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.stem(x)
        for norm, layer in zip(self.norms, self.convolutions, strict=True):
            x = x + layer(torch.relu(norm(x)))
        return self.head((x + F.relu(x)).mean(dim=(2, 3)))


class Perceptron(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(12, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 5)
        )
        nn.init.normal_(self.layers[1].bias)  # else a feature without weights lies on the edge of the ReLU

    def forward(self, x):
        return self.layers(x.view(x.size(0), -1))


NETWORKS = {
    "four layers": (four_layers, images()),
    "u-net": (UNet, images()),
    "pre-activation": (PreActivation, images()),
    "perceptron": (Perceptron, images(20, size=2)),
    "kit": (lambda: sl.models.build("small", width=8, channels=3, classes=5, seed=0), images()),
    "resnet18": (lambda: torchvision.models.resnet18(num_classes=5), images(8, size=32)),
    "vgg11_bn": (lambda: torchvision.models.vgg11_bn(num_classes=5, init_weights=False).features, images(4, size=32)),
    "mobilenet_v2": (lambda: torchvision.models.mobilenet_v2(num_classes=5, width_mult=0.25), images(8, size=32)),
}


def pruned(make, amount=0.8, seed=0):
    """A module whose convolutions and linear layers are pruned at random; the same for the same seed."""
    torch.manual_seed(seed)
    module, generator = make(), torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, LAYERS):
            prune.custom_from_mask(layer, "weight", torch.rand(layer.weight.shape, generator=generator) >= amount)
    return module


def twins(make, x, **options):
    """The same pruned module in double precision, as the oracle, and on the kernels."""
    return pruned(make, **options).double(), sl.accelerate(pruned(make, **options), x, "sparse")


def relative(found, expected):
    found, expected = found.detach().double(), expected.detach().double()
    return float((found - expected).norm() / (expected.norm() + 1e-6))


def losses(oracle, module, x, seed=0):
    """A loss of both on one batch, with the same dropout."""
    for each, inputs in ((oracle, x.double()), (module, x)):
        torch.manual_seed(seed)
        outputs = each(inputs)
        outputs = outputs if outputs.dim() < 4 else outputs.mean((2, 3))
        yield outputs.square().mean() + outputs[:, 0].sum()


def assert_same_gradients(module, oracle, tolerance=1e-3):
    largest = max(float(p.grad.norm()) for p in oracle.parameters() if p.grad is not None)
    for (name, ours), theirs in zip(module.named_parameters(), oracle.parameters(), strict=True):
        if theirs.grad is not None:
            distance = float((ours.grad.double() - theirs.grad).norm())
            assert distance < tolerance * float(theirs.grad.norm()) + 1e-5 * largest, name


def test_a_pass_sets_each_pruned_weight_once(monkeypatch):
    """A layer with a bias has two parameters, and one mask."""
    module = sl.accelerate(pruned(four_layers), images(), "sparse")
    calls, apply_mask = [], prune.BasePruningMethod.apply_mask
    monkeypatch.setattr(
        prune.BasePruningMethod, "apply_mask", lambda self, layer: calls.append(layer) or apply_mask(self, layer)
    )
    module(images())
    assert calls == [layer for layer in module if isinstance(layer, LAYERS)]


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_and_gradients_are_those_of_pytorch(name):
    make, x = NETWORKS[name]
    oracle, module = twins(make, x)
    for seed in (0, 1):
        for loss in losses(oracle, module, x, seed):
            loss.backward()
    assert engine_of(module).current is not None
    # in deep networks a ReLU may round to the other side
    assert_same_gradients(module, oracle, 1e-3 if name in ("four layers", "perceptron", "u-net") else 2e-2)
    for (key, ours), theirs in zip(module.state_dict().items(), oracle.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=1e-3, atol=1e-5, msg=key)
    oracle.eval()
    module.eval()
    with torch.no_grad():
        assert relative(module(x), oracle(x.double())) < 1e-3


OPTIMISERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.02, momentum=0.9, weight_decay=1e-3),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.1),
}


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("masks", ["prune", "zeros"])
def test_fifty_steps_stay_close(optimiser, masks):
    """With clipped gradients, decay in the loss and two backward passes a step, as the same script without the call."""
    modules = [pruned(four_layers), sl.accelerate(pruned(four_layers), images(), "sparse")]
    if masks == "zeros":
        for number in (0, 1):
            module = pruned(four_layers)
            for layer in module.modules():
                if isinstance(layer, LAYERS):
                    prune.remove(layer, "weight")
            modules[number] = sl.accelerate(module, images(), "sparse") if number else module
    optimisers = [OPTIMISERS[optimiser](module.parameters()) for module in modules]
    for step in range(50):
        labels = torch.randint(5, (6,), generator=torch.Generator().manual_seed(step))
        for module, each in zip(modules, optimisers, strict=True):
            each.zero_grad()
            for part in (0, 1):
                torch.manual_seed(step)
                F.cross_entropy(module(images(seed=2 * step + part)), labels).backward()
            (1e-3 * sum(p.square().sum() for p in module.parameters())).backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            each.step()
    for (name, ours), theirs in zip(modules[1].named_parameters(), modules[0].parameters(), strict=True):
        assert relative(ours, theirs) < 1e-3, name


def test_masks_may_change_at_any_step():
    x = images()
    oracle, module = twins(four_layers, x)
    for amount in (0.0, 0.3, 0.9):
        for each in (oracle, module):
            if amount:
                prune.l1_unstructured(each[0], "weight", amount=amount)
                prune.ln_structured(each[3], "weight", amount=amount, n=2, dim=0)
            each.zero_grad()
        for loss in losses(oracle, module, x):
            loss.backward()
        assert_same_gradients(module, oracle)
    for each in (oracle, module):
        prune.remove(each[3], "weight")  # its zeros stay
        each.zero_grad()
    for loss in losses(oracle, module, x):
        loss.backward()
    assert_same_gradients(module, oracle)
    with torch.no_grad():
        for each in (oracle, module):
            each[3].weight.add_(0.01)  # and go
            each.zero_grad()
    for loss in losses(oracle, module, x):
        loss.backward()
    assert_same_gradients(module, oracle)


def test_changes_through_data_are_seen():
    x = images()
    plain, module = four_layers(), four_layers()
    module.load_state_dict(plain.state_dict())
    sl.accelerate(module, x, "sparse")
    for change in (lambda w: w.mul_(torch.arange(w.numel()).view(w.shape) % 3 == 0), lambda w: w.add_(0.1)):
        for each in (plain, module):
            change(each[3].weight.data)
            change(each[13].weight.data)
            each.zero_grad()
            torch.manual_seed(0)
            each(x).square().sum().backward()
        assert_same_gradients(module, plain)


def test_a_backward_pass_after_another_forward_pass_uses_its_own_weights():
    x = images(20, size=2)
    oracle, module = twins(Perceptron, x)
    for each, inputs in ((oracle, x.double()), (module, x)):
        first = each(inputs).square().sum()
        prune.l1_unstructured(each.layers[3], "weight", amount=0.5)  # another mask
        second = each(inputs).sum()
        (first + 3 * second).backward()
    assert_same_gradients(module, oracle)


def test_pruned_biases_and_other_parametrisations_are_read_as_they_are():
    def make():
        module = four_layers()
        prune.random_unstructured(module[3], "bias", amount=0.5)
        parametrizations.weight_norm(module[5])
        return module

    oracle, module = (pruned_but_5(make) for _ in range(2))
    oracle, module = oracle.double(), sl.accelerate(module, images(), "sparse")
    for loss in losses(oracle, module, images()):
        loss.backward()
    assert_same_gradients(module, oracle)


def pruned_but_5(make):
    torch.manual_seed(0)
    module = make()
    for number in (0, 3, 8):
        mask = torch.rand(module[number].weight.shape, generator=torch.Generator().manual_seed(number)) < 0.3
        prune.custom_from_mask(module[number], "weight", mask)
    return module


def test_two_models_in_one_loss_and_gradients_of_the_inputs():
    x = images().requires_grad_()
    (oracle, module), (other_oracle, other) = twins(four_layers, x), twins(UNet, x, seed=1)
    y = images().double().requires_grad_()
    for first, second, inputs in ((oracle, other_oracle, y), (module, other, x)):
        torch.manual_seed(0)
        (first(inputs)[:, :4] - second(inputs).mean((2, 3))).square().sum().backward()
    assert_same_gradients(module, oracle)
    assert_same_gradients(other, other_oracle)
    assert relative(x.grad, y.grad) < 1e-3


def test_frozen_layers_and_evaluation_mode_train_as_in_pytorch():
    x = images()
    oracle, module = twins(PreActivation, x)
    for each in (oracle, module):
        each.stem.requires_grad_(False)
        each.norms[0].requires_grad_(False)
        each.norms[1].eval()
    for loss in losses(oracle, module, x):
        loss.backward()
    assert module.stem.weight_orig.grad is None
    assert_same_gradients(module, oracle)


def test_a_weight_that_changed_between_forward_and_backward_is_an_error_as_in_pytorch():
    module = sl.accelerate(Perceptron(), images(20, size=2), "sparse")
    loss = module(images(20, size=2)).sum()
    with torch.no_grad():
        module.layers[0].weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_names_copies_and_files():
    x = images()
    plain, module = pruned(four_layers), sl.accelerate(pruned(four_layers), x, "sparse")
    assert list(module.state_dict()) == list(plain.state_dict())
    module.eval()
    expected = module(x)
    twin = sl.accelerate(pruned(four_layers, seed=1), x, "sparse").eval()
    again = sl.accelerate(Perceptron(), images(20, size=2), "sparse").eval()
    copied = copy.deepcopy(again)
    assert copied.forward.model is copied
    with torch.no_grad():
        copied.layers[0].weight.zero_()
    assert not again(images(20, size=2)).equal(copied(images(20, size=2)))
    file = io.BytesIO()
    torch.save(again, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert relative(loaded(images(20, size=2)), again(images(20, size=2))) < 1e-6
    twin.load_state_dict(module.state_dict())
    assert relative(twin(x), expected) < 1e-6


def test_hooks_of_the_whole_module_run_and_those_inside_stay_in_pytorch(caplog):
    caplog.set_level(logging.INFO, logger="sparcl_lite.engine")
    x, seen = images(), []
    module = four_layers()
    module[4].register_forward_hook(lambda layer, inputs, output: seen.append("inside"))
    sl.accelerate(module, x, "sparse")
    module.register_forward_hook(lambda layer, inputs, output: seen.append("whole"))
    module(x).sum().backward()
    assert seen == ["inside", "whole"]
    assert "ReLU with hooks" in caplog.text


def test_what_the_kernels_do_not_know_splits_the_graph_and_one_line_says_so(caplog):
    caplog.set_level(logging.INFO, logger="sparcl_lite.engine")
    sl.accelerate(UNet(), images(), "sparse")
    (record,) = caplog.records
    assert record.message == "UNet: Upsample, cat run in PyTorch; 2 segments on the sparse kernels"


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else self.layer(-x)


def test_what_cannot_be_traced_runs_dense_and_one_line_says_so(caplog):
    caplog.set_level(logging.INFO, logger="sparcl_lite.engine")
    module = sl.accelerate(Branching(), images(), "sparse")
    assert module(images()).shape == (6, 4, 14, 14)
    (record,) = caplog.records
    assert record.message.startswith("Branching cannot be traced and runs dense (")


def test_other_inputs_than_the_example():
    oracle, module = twins(UNet, images())
    for x in (images(1), images(40, size=8), images(3, size=20)):
        for loss in losses(oracle, module, x):
            loss.backward()
        with torch.no_grad():
            oracle.eval(), module.eval()
            assert relative(module(x), oracle(x.double())) < 1e-3
            oracle.train(), module.train()
    assert_same_gradients(module, oracle)
    double = copy.deepcopy(Perceptron()).double()
    sl.accelerate(double, images(20, size=2), "sparse")
    assert double(images(20, size=2).double()).dtype == torch.float64  # as PyTorch runs it


def test_dense_and_unknown_engines():
    module = four_layers()
    assert sl.accelerate(module, images(), "dense") is module
    assert engine_of(module) is None
    sl.accelerate(module, images(), "sparse")
    assert engine_of(sl.accelerate(module, images(), "dense")) is None
    with pytest.raises(KitError, match="engine = 'fast': unknown; allowed: dense, auto, sparse"):
        sl.accelerate(module, images(), "fast")


def test_auto_says_once_which_way_is_faster(caplog):
    caplog.set_level(logging.INFO, logger="sparcl_lite.engine")
    module = sl.accelerate(pruned(four_layers), images())
    before = copy.deepcopy({k: v for k, v in module.state_dict().items() if "running" in k})
    state = torch.get_rng_state()
    module.train()(images()).sum().backward()
    assert [record.message.startswith("engine auto: ") for record in caplog.records] == [True]
    assert all(module.state_dict()[k].equal(v) for k, v in before.items())
    assert not torch.get_rng_state().equal(state)  # dropout drew its noise once
    torch.set_rng_state(state)
    F.dropout(torch.ones(6, 72), 0.4)


@st.composite
def graphs(draw):
    """A random network of layers, sums and pools, the images and the share of weights that its masks remove."""
    torch.manual_seed(0)
    channels = draw(st.sampled_from([2, 4, 6]))
    layers, count = [], channels
    for _ in range(draw(st.integers(1, 5))):
        kernel, groups = draw(st.sampled_from([1, 2, 3, 5])), draw(st.sampled_from([1, 2]))
        following = draw(st.sampled_from([2, 4, 8]))
        stride, bias = draw(st.sampled_from([1, 1, 2])), draw(st.booleans())
        layers.append(nn.Conv2d(count, following, kernel, stride, kernel // 2, groups=groups, bias=bias))
        more = draw(st.sampled_from(["norm", "relu", "norm relu", "pool", "mean", "residual", ""]))
        layers += [nn.BatchNorm2d(following)] * ("norm" in more) + [nn.ReLU()] * ("relu" in more)
        layers += [nn.MaxPool2d(3, 1, 1)] * (more == "pool") + [nn.AvgPool2d(2, 1, 1)] * (more == "mean")
        layers += [Residual(following, draw(st.booleans()))] * (more == "residual")
        count = following
    module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(draw(st.integers(1, 3))), nn.Flatten(), nn.LazyLinear(3))
    count, size, amount = draw(st.integers(2, 35)), draw(st.integers(4, 11)), draw(st.sampled_from([0, 0.5, 0.9, 1]))
    return module, images(count, channels, size), amount


class Residual(nn.Module):
    def __init__(self, channels, after):
        super().__init__()
        self.inner, self.norm, self.after = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), after

    def forward(self, x):
        y = self.norm(self.inner(x)) + x
        return F.relu(y) if self.after else y


@given(graphs())
@settings(max_examples=40, deadline=None)
def test_random_graphs(problem):
    module, x, amount = problem
    module(x)  # the lazy layer takes its shape
    generator = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, LAYERS):
            nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5, generator=generator)
            prune.custom_from_mask(layer, "weight", torch.rand(layer.weight.shape, generator=generator) >= amount)
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = 0.1  # else a channel of nearly equal values magnifies the rounding errors below it
            nn.init.normal_(layer.bias, generator=generator)  # else a channel without weights lies on the ReLU's edge
    module.zero_grad()
    state = {key: value.clone() for key, value in module.state_dict().items()}
    oracle = copy.deepcopy(detached(module)).double()
    sl.accelerate(module, x, "sparse")
    module.load_state_dict(state)
    for loss in losses(oracle, module, x):
        loss.backward()
    assert_same_gradients(module, oracle, 1e-2)


def detached(module):
    """The module without the weights that a pass has computed, which cannot be copied."""
    for layer in module.modules():
        if isinstance(layer, LAYERS):
            layer.weight = layer.weight.detach()
    return module


class ByKeyword(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, x):
        x = F.relu(input=self.first(input=x))
        return self.second(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def test_inputs_by_keyword_stay_in_pytorch():
    oracle, module = twins(ByKeyword, images())
    for loss in losses(oracle, module, images()):
        loss.backward()
    assert_same_gradients(module, oracle)


def test_batch_norm_outside_of_the_kernels_keeps_statistics_of_each_chunk():
    def make():
        torch.manual_seed(0)
        layers = (
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 5),
        )
        module = nn.Sequential(*layers)
        module[1].register_forward_hook(lambda layer, inputs, output: None)  # keeps it in PyTorch
        return adapted(module, images())

    network, oracle = make(), make().double()
    masking = SimpleNamespace(existing={}, wanted={}, reads_gradients=False)
    network.engine = engine_for("sparse", network, masking, alone=True)
    x = images(9)
    assert relative(network(x, chunks=(5, 4)), oracle(x.double(), chunks=(5, 4))) < 1e-4


def test_a_linear_layer_with_all_weights_is_a_matrix_product_without_an_index():
    def make():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(784, 20), nn.ReLU(), nn.Linear(20, 3)
        )

    oracle, module = make().double(), make()
    for each in (oracle, module):
        prune.l1_unstructured(each[0], "weight", amount=0.8)
    sl.accelerate(module, images(18), "sparse")
    for _ in range(2):
        for loss in losses(oracle, module, images(18)):
            loss.backward()  # twice: gradients add up
    assert_same_gradients(module, oracle)
    (segment,) = engine_of(module).current.segments
    _, *linear = segment.used.layers
    assert [len(layer.forward_rows.source) for layer in linear] == [0, 0]
