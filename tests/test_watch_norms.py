"""Norms of a watched step: products of steps and small rows as they arrive, the rest for all layers at once."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import gradkernels as gk
from gradkernels.engines.hooks.rules.linear import convolution, patches
from gradkernels.watch.values import squared_norms, step_products


class Mixer(nn.Module):
    """Maps of steps, three of one input, a normalization, a convolution and a head."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        torch.manual_seed(3)
        self.maps = nn.ModuleList(nn.Linear(12, 12) for _ in range(3))
        self.normed, self.wide = nn.LayerNorm(12), nn.Linear(12, 30)
        self.seen, self.head = nn.Conv1d(30, 4, 2, stride=2), nn.Linear(4, 3)
        self.to(dtype)

    def forward(self, x):
        first, second, third = (one(x) for one in self.maps)
        x = self.normed(x + torch.tanh(first) * second + third)
        return self.head(torch.tanh(self.seen(torch.tanh(self.wide(x)).mT)).mean(2))


def lengths(model, x, y):
    """Norms by a pass for each sample alone."""
    found = []
    for i in range(len(x)):
        parts = torch.autograd.grad(functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1]), [*model.parameters()])
        found.append(sum(one.square().sum() for one in parts).sqrt())
    return torch.stack(found)


@pytest.fixture(scope="module")
def batch():
    torch.manual_seed(4)
    return torch.randn(5, 6, 12, dtype=torch.float64), torch.arange(5) % 3


@pytest.mark.parametrize("kept", [1, squared_norms.KEPT_GRADIENT_BYTES])
@pytest.mark.parametrize("pairs", [1, step_products.STEP_PRODUCT_BYTES])
def test_norms_are_those_of_single_samples_whatever_is_kept(batch, monkeypatch, kept, pairs):
    monkeypatch.setattr(squared_norms, "KEPT_GRADIENT_BYTES", kept)
    monkeypatch.setattr(step_products, "STEP_PRODUCT_BYTES", pairs)
    model = Mixer()
    with gk.watch(model, ["norms", "noise_scale"]) as seen:
        functional.cross_entropy(model(batch[0]), batch[1]).backward()
    expected = lengths(model, *batch)
    torch.testing.assert_close(seen.norms, expected, rtol=1e-12, atol=0)
    total = sum(one.grad.square().sum() for one in model.parameters())
    assert seen.noise_scale == pytest.approx(float(expected.square().mean() / total - 1), rel=1e-9)


class Turned(nn.Module):
    """Maps of steps by a weight and by the transpose of one, some of them without a bias, and a bias alone."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.weights = nn.ParameterList(torch.randn(12, 12, dtype=torch.float64) / 4 for _ in range(4))
        self.biases = nn.ParameterList(torch.randn(12, dtype=torch.float64) for _ in range(3))
        self.head = nn.Linear(12, 3, dtype=torch.float64)
        self.weights[3].requires_grad_(False)

    def forward(self, x):
        first, second, third, frozen = self.weights
        x = functional.linear(x, first, self.biases[0]) + functional.linear(x, second.T, self.biases[1])
        x = functional.linear(torch.tanh(functional.linear(torch.tanh(x), third.T)), frozen, self.biases[2])
        return self.head(torch.tanh(x).mean(1))


def test_maps_by_a_transposed_weight_and_maps_without_a_bias_are_those_of_single_samples(batch):
    model = Turned()
    with gk.watch(model) as seen:
        functional.cross_entropy(model(batch[0]), batch[1]).backward()
    found = []
    trained = [one for one in model.parameters() if one.requires_grad]
    for i in range(5):
        loss = functional.cross_entropy(model(batch[0][i : i + 1]), batch[1][i : i + 1])
        found.append(sum(one.square().sum() for one in torch.autograd.grad(loss, trained)).sqrt())
    torch.testing.assert_close(seen.norms, torch.stack(found), rtol=1e-12, atol=0)


def test_terms_that_cancel_have_their_digits():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 40), nn.Flatten(1), nn.Linear(80, 1))
    start, off = torch.randn(4, 1, 40), 1e-4 * torch.randn(4, 1, 40)
    with torch.no_grad():  # the second step's gradient is that of the first one with another sign
        model[2].weight[:, 40:] = -model[2].weight[:, :40]
    x = torch.cat([start, start + off], 1)
    with gk.watch(model, reduction="sum") as seen:
        model(x).sum().backward()
    of_bias = torch.zeros(4)
    of_weight = off[:, 0].norm(dim=1) * model[2].weight[0, :40].norm()
    of_head = (model[0](x).flatten(1).square().sum(1) + 1).sqrt()
    expected = (of_weight.square() + of_bias + of_head.square()).sqrt()
    torch.testing.assert_close(seen.norms, expected.detach(), rtol=1e-5, atol=0)
    model[2].requires_grad_(False)
    with gk.watch(model, reduction="sum") as seen:
        model(x).sum().backward()
    torch.testing.assert_close(seen.norms, of_weight.detach(), rtol=1e-3, atol=0)


@pytest.mark.parametrize(("stride", "dilation", "padding"), [((2, 3), (2, 1), (1, 2)), ((1, 1), (1, 1), "same")])
def test_norms_of_a_convolution_from_lines_of_patches(monkeypatch, stride, dilation, padding):
    monkeypatch.setattr(convolution, "fastest_of", lambda key, ways, arguments, trial: ways["runs"](*arguments))
    torch.manual_seed(1)
    a, weight = torch.randn(3, 4, 9, 8, dtype=torch.float64), torch.randn(5, 4, 3, 3, dtype=torch.float64)
    given = {"weight": weight.requires_grad_(), "stride": stride, "dilation": dilation, "padding": padding}
    use = convolution.Convolution({}, a, given)
    output = functional.conv2d(a, **given)
    g = torch.randn_like(output)
    alone = [torch.autograd.grad(output[i], weight, g[i], retain_graph=True)[0].square().sum() for i in range(3)]
    torch.testing.assert_close(use.squared_norms("weight", g), torch.stack(alone), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("channels", "width", "kernel", "stride"), [(1, 8, 4, 2), (1, 9, 4, 2), (2, 7, 3, 1), (1, 8, 3, 1)]
)
@pytest.mark.parametrize("offset", [0, 1])
def test_patches_are_copied_as_they_are_whatever_their_lines_begin_with(channels, width, kernel, stride, offset):
    a = torch.arange(offset + 3 * channels * 6 * width, dtype=torch.float32)[offset:].view(3, channels, 6, width)
    geometry = patches.geometry_of(torch.empty(2, channels, 2, kernel), {"stride": stride})
    places = functional.unfold(a, (2, kernel), stride=stride).mT
    by_channel = places.unflatten(2, (channels, 2, kernel)).permute(0, 1, 3, 4, 2)
    torch.testing.assert_close(geometry.runs(a), by_channel.flatten(2), rtol=0, atol=0)


class Normed(nn.Module):
    """Normalizations of one shape, of which one has no bias, of another shape, and by root mean squares."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(6)
        self.alike = nn.ModuleList(nn.LayerNorm(12) for _ in range(4))
        self.alike[2].bias = None
        self.whole, self.roots, self.head = nn.LayerNorm((6, 12)), nn.RMSNorm(12), nn.Linear(12, 3)
        self.double()
        with torch.no_grad():
            for one in self.parameters():
                one.add_(torch.randn_like(one) / 3)

    def forward(self, x):
        for one in (*self.alike, self.whole, self.roots):
            x = torch.sin(2 * one(x) + x)
        return self.head(x.mean(1))


@pytest.mark.parametrize("joined", [0, squared_norms.JOINED_BYTES])
@pytest.mark.parametrize("kept", [2000, squared_norms.KEPT_GRADIENT_BYTES])
def test_normalizations_that_wait_for_each_other_have_norms_of_single_samples(batch, monkeypatch, kept, joined):
    monkeypatch.setattr(squared_norms, "KEPT_GRADIENT_BYTES", kept)
    monkeypatch.setattr(squared_norms, "JOINED_BYTES", joined)
    model = Normed()
    expected = lengths(model, *batch)
    with gk.watch(model) as seen:
        for _ in range(2):
            functional.cross_entropy(model(batch[0]), batch[1]).backward()
            torch.testing.assert_close(seen.norms, expected, rtol=1e-12, atol=0)
