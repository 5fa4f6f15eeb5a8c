"""Numbers that are small beside what they are made of, or beyond the range of their dtype, are right all the same."""

import warnings

import pytest
import torch
from models import oracle
from torch import nn

import gradkernels as gk
from gradkernels.engines.hooks import quantities
from gradkernels.engines.hooks.rules.linear import convolution

MSE = nn.MSELoss()


class Opposed(nn.Module):
    """One weight that is used twice, with almost the opposite gradients."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(3, 2, bias=False)

    def forward(self, x):
        return self.map(x) - self.map(x * (1 + 1e-3))


def test_norms_of_a_tied_weight_whose_uses_cancel():
    torch.manual_seed(0)
    x, y = torch.randn(4, 3, dtype=torch.float64), torch.full((4, 2), 5.0, dtype=torch.float64)
    model = Opposed().double()
    # (w.x - w.(1 + e)x - 5)^2 / 2 has the gradient (-e w.x - 5)(-e x) for each of two outputs.
    slope = -1e-3 * (x @ model.map.weight.T) - y
    want = (slope.norm(dim=1) * 1e-3 * x.norm(dim=1)).detach()
    problem = gk.ModuleProblem(model.float(), MSE)
    norms = gk.norms(problem, None, x.float(), y.float(), kernel="torch.hooks")
    # In single precision (1 + 1e-3) is known to 6e-5 of the 1e-3; without rows half of the digits would be lost.
    torch.testing.assert_close(norms.double(), want, rtol=3e-4, atol=0)


def test_variance_that_is_small_beside_the_mean():
    x = torch.tensor([[1.0], [1.001], [0.999]], requires_grad=False)
    y = torch.tensor([[100.0], [100.001], [99.999]])
    model = nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(0.0)
        model.bias.fill_(0.0)
    found = gk.moments(gk.ModuleProblem(model, MSE), None, x, y, kernel="torch.hooks")
    # Gradients by the bias: -200, -200.002, -199.998; by the weight: -200, -200.202002, -199.798002.
    torch.testing.assert_close(found.mean["bias"], torch.tensor([-200.0]))
    torch.testing.assert_close(found.variance["bias"], torch.tensor([8e-6 / 3]), rtol=0.03, atol=0)
    torch.testing.assert_close(found.variance["weight"], torch.tensor([[0.0272026]]), rtol=2e-4, atol=0)


def test_variance_of_samples_that_are_alike_is_zero():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x, y = torch.ones(5, 3), torch.zeros(5, 2)
    found = gk.moments(gk.ModuleProblem(model, MSE), None, x, y, kernel="torch.hooks[chunk=2]")
    for name, variance in found.variance.items():
        assert (variance <= 1e-12 * found.mean[name].square()).all(), name


def test_variance_of_a_tied_weight_with_draws_of_its_own_for_each_sample():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.Linear(3, 3)).double().train()
    model[2].weight = model[0].weight
    x = torch.ones(6, 3, dtype=torch.float64) + 1e-4 * torch.randn(6, 3, dtype=torch.float64)
    problem = gk.ModuleProblem(model, MSE, randomness="different")
    y = torch.full((6, 3), 100.0, dtype=torch.float64)
    rows = gk.per_sample(problem, None, x, y, kernel="torch.hooks")
    found = gk.moments(problem, None, x, y, kernel="torch.hooks")
    for name, one in rows.items():
        torch.testing.assert_close(found.variance[name], one.var(0, correction=0), rtol=1e-8, atol=1e-12)


def test_norms_beyond_the_range_of_their_squares():
    model = nn.Linear(2, 1, bias=False)
    for scale in (1e-25, 1e25):
        with torch.no_grad():
            model.weight.fill_(0.0)
        x, y = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.tensor([[scale], [scale]])
        norms = gk.norms(gk.ModuleProblem(model, nn.L1Loss()), None, x * scale, y, kernel="torch.hooks")
        torch.testing.assert_close(norms, torch.tensor([5 * scale, 0.0]), rtol=1e-5, atol=0)
        total = gk.clipped_sum(
            gk.ModuleProblem(model, nn.L1Loss()), None, x * scale, y, max_norm=scale, kernel="torch.hooks"
        )
        torch.testing.assert_close(total["weight"], torch.tensor([[-0.6, -0.8]]) * scale, rtol=1e-5, atol=0)


def test_half_precision_sums_in_single_precision():
    model = nn.Linear(128, 4).half()
    x, y = torch.full((2, 128), 4.0).half(), torch.full((2, 4), 100.0).half()
    with torch.no_grad():
        model.weight.zero_()
        model.bias.zero_()
    problem = gk.ModuleProblem(model, MSE)
    # Each of 4 outputs has the slope -50; a row is -50 times (4, ..., 4, 1).
    norms = gk.norms(problem, None, x, y, kernel="torch.hooks")
    torch.testing.assert_close(norms.float(), torch.full((2,), (4 * 2500 * (128 * 16 + 1)) ** 0.5), rtol=1e-3, atol=0)
    total = gk.clipped_sum(problem, None, x, y, max_norm=1.0, kernel="torch.hooks")
    torch.testing.assert_close(total["bias"].float(), torch.full((4,), -2 * 50 / 4527.69), rtol=2e-3, atol=0)


class Pair(nn.Module):
    """Chosen minus rejected: two steps whose gradients are opposite, and almost cancel."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(16, 16), nn.Linear(16, 1)

    def forward(self, x):
        scores = self.head(torch.tanh(self.body(x)))[..., 0]
        return scores[:, 0] - scores[:, 1]


def preferred(output, y):
    return nn.functional.softplus(-output).mean()


def test_norms_of_samples_whose_steps_cancel():
    torch.manual_seed(0)
    model = Pair()
    chosen = torch.randn(8, 16)
    x, y = torch.stack([chosen, chosen + 1e-2 * torch.randn(8, 16)], 1), torch.zeros(8)
    rows = oracle(model, preferred, x, y)
    want = torch.stack([one.flatten(1).norm(dim=1) for one in rows.values()]).norm(dim=0)
    problem = gk.ModuleProblem(model, preferred)
    own = problem.parameters()
    torch.testing.assert_close(quantities.norms(problem, 99)(own, x, y).double(), want, rtol=2e-5, atol=0)
    clipped = quantities.clipped_sum(problem, 99)(own, x, y, max_norm=float(want.min()) / 2)
    factor = float(want.min()) / 2 / want
    for name, one in rows.items():
        torch.testing.assert_close(
            clipped[name].double(), torch.tensordot(factor, one, 1), rtol=1e-4, atol=1e-4 * float(want.min())
        )


class Difference(nn.Module):
    """A convolution of 8 channels by 16, whose left place minus its right one is what counts."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv1d(8, 16, 3)

    def forward(self, x):
        features = torch.tanh(self.body(x))
        return (features[..., 0] - features[..., 1]).sum(1)


@pytest.mark.parametrize("way", ["gram", "groups", "patches"])
def test_norms_of_a_convolution_whose_places_cancel(way, monkeypatch):
    def only(key, ways, arguments=(), trial=()):
        return ways.get(way, ways[next(iter(ways))])(*arguments)

    monkeypatch.setattr(convolution, "fastest_of", only)
    torch.manual_seed(0)
    model, signal = Difference(), torch.randn(6, 8, 1).expand(6, 8, 4)
    x, y = signal + 1e-2 * torch.randn(6, 8, 4), torch.zeros(6)
    want = torch.stack([one.flatten(1).norm(dim=1) for one in oracle(model, preferred, x, y).values()]).norm(dim=0)
    problem = gk.ModuleProblem(model, preferred)
    torch.testing.assert_close(
        quantities.norms(problem, 99)(problem.parameters(), x, y).double(), want, rtol=3e-5, atol=0
    )


def test_norms_of_words_whose_gradients_cancel():
    torch.manual_seed(0)
    table = nn.Embedding(3, 8)

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = table

        def forward(self, words):
            h = self.table(words)
            return h[:, 0] * 1.001 - h[:, 1]

    words, y = torch.tensor([[1, 1], [2, 2], [0, 1]]), torch.full((3, 8), 5.0)
    problem = gk.ModuleProblem(Twice(), MSE)
    rows = oracle(problem.model, MSE, words, y)["table.weight"]
    got = quantities.norms(problem, 99)(problem.parameters(), words, y)
    torch.testing.assert_close(got.double(), rows.flatten(1).norm(dim=1), rtol=1e-3, atol=0)


class TwoDtypes(nn.Module):
    """A layer in double precision before one in single precision."""

    def __init__(self, features=1, outputs=1):
        super().__init__()
        self.a = nn.Linear(features, features, bias=False).double()
        self.b = nn.Linear(features, outputs, bias=False)

    def forward(self, x):
        return self.b(self.a(x.double()).float())


METHODS = [None, "torch.loop+", "torch.vmap+", "torch.hooks", "torch.reweighted"]


@pytest.mark.parametrize("method", METHODS)
def test_clipped_sums_of_parameters_of_several_dtypes(method):
    model = TwoDtypes()
    with torch.no_grad():
        model.a.weight.fill_(2.0)
        model.b.weight.fill_(3.0)
    problem = gk.ModuleProblem(model, lambda output, y: (output * y).mean())
    x, y = torch.tensor([[1.0], [2.0]]), torch.ones(2, 1)
    # The gradients are (3 x, 2 x), of lengths sqrt(13) x: the second counts by half.
    found = gk.clipped_sum(problem, None, x, y, max_norm=13**0.5, kernel=method)
    assert {name: (part.dtype, round(part.item(), 5)) for name, part in found.items()} == {
        "a.weight": (torch.float64, 6.0),
        "b.weight": (torch.float32, 4.0),
    }


@pytest.mark.parametrize("method", METHODS[:-1])
def test_parameters_of_several_dtypes_are_proven_to_the_coarsest(method):
    torch.manual_seed(0)
    model, x, y = TwoDtypes(5, 3), torch.randn(7, 5), torch.randint(3, (7,))
    with warnings.catch_warnings(), gk.audit("always"):
        warnings.simplefilter("error")  # a method that is set aside
        norms = gk.norms(gk.ModuleProblem(model, nn.CrossEntropyLoss()), None, x, y, kernel=method)
    losses = [nn.functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1]) for i in range(7)]
    rows = [torch.autograd.grad(loss, [*model.parameters()]) for loss in losses]
    want = [torch.cat([part.double().flatten() for part in row]).norm() for row in rows]
    torch.testing.assert_close(norms, torch.stack(want), rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", ["steps", "images"])
def test_under_autocast_to_bfloat16_gradients_are_in_the_parameters_dtype(kind):
    torch.manual_seed(0)
    steps = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 8), nn.Flatten(), nn.Linear(48, 3))
    images = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 4, 2), nn.Flatten(), nn.Linear(36, 3)
    )
    model, shape = {"steps": (steps, (6, 5)), "images": (images, (2, 6, 6))}[kind]
    x, y = torch.randn(4, *shape), torch.arange(4) % 3
    rows = []
    for i in range(4):
        loss = nn.functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1])
        parts = torch.autograd.grad(loss, [*model.parameters()])
        rows.append(torch.cat([one.flatten() for one in parts]))
    exact = torch.stack(rows)
    problem = gk.ModuleProblem(model, nn.CrossEntropyLoss())
    with torch.autocast("cpu", torch.bfloat16):
        found = gk.per_sample(problem, None, x, y, kernel="torch.hooks")
        norms = gk.norms(problem, None, x, y, kernel="torch.hooks")
        clipped = gk.clipped_sum(problem, None, x, y, kernel="torch.hooks", max_norm=0.1)
    assert {one.dtype for one in (*found.values(), *clipped.values(), norms)} == {torch.float32}
    flat = torch.cat([one.flatten(1) for one in found.values()], 1)
    assert float((flat - exact).norm(dim=1).max()) < 0.05 * float(exact.norm(dim=1).max())
    torch.testing.assert_close(norms, exact.norm(dim=1), rtol=0.05, atol=0)
    expected = (exact * (0.1 / exact.norm(dim=1)).clamp(max=1)[:, None]).sum(0)
    summed = torch.cat([one.flatten() for one in clipped.values()])
    assert float((summed - expected).norm()) < 0.05 * float(expected.norm())
