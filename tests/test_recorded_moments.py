"""torch.recorded.moments where variances are small beside means: squares of deviations, recorded as well."""

import modules
import pytest
import torch
from torch import nn
from torch.nn import functional

import gradkernels as gk
from gradkernels.engines.hooks import quantities as hooks
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.recorded import mending, recordings
from gradkernels.engines.recorded.quantities import recorded_parts


class Steps(nn.Module):
    """A map of each step and one of their mean, whose normalization and scale are parameters too."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3)
        self.scale = nn.Parameter(torch.full((6,), 1.5))

    def forward(self, x):
        return self.last(self.norm(torch.tanh(self.first(x))).mean(1) * self.scale)


class Twice(nn.Module):
    """A map that is used two times."""

    def __init__(self):
        super().__init__()
        self.map, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(torch.tanh(self.map(torch.tanh(self.map(x)))))


class Pictures(nn.Module):
    """A convolution and a map of its output."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 3, 3), nn.Linear(12, 3)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)).flatten(1))


MODELS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)), (4,)),
    "steps": (Steps, (5, 4)),
    "twice": (Twice, (4,)),
    "pictures": (Pictures, (1, 4, 4)),
}
N = 7


def made(name, spread, dtype=torch.float32, **settings):
    """A model and samples that are alike but for `spread`: rows are as well, and their variances small."""
    make, shape = MODELS[name]
    problem = gk.ModuleProblem(modules.seeded(make).to(dtype), functional.cross_entropy, **settings)
    generator = torch.Generator().manual_seed(1)
    one, others = (torch.randn(n, *shape, generator=generator) for n in (1, N))
    return problem, (one + spread * others).to(dtype), torch.full((N,), 1)


def by_single_samples(problem, x, y):
    """Mean and variance of rows in float64, each from a backward pass of its own, of a model in float64."""
    model = problem.model.double()
    rows = []
    for at in range(len(x)):
        loss = problem.loss_fn(model(x[at : at + 1].double()), y[at : at + 1])
        rows.append(torch.autograd.grad(loss, list(model.parameters())))
    names = [name for name, _ in model.named_parameters()]
    return {name: torch.stack(of).var(0, correction=0) for name, of in zip(names, zip(*rows, strict=True), strict=True)}


@pytest.fixture
def recorded_only(monkeypatch):
    """No second pass of the hooks."""

    def none(*given):
        raise AssertionError("the hooks compute")

    monkeypatch.setattr(hooks, "variances_around", lambda *given: none)


def close(got, want, tolerance):
    for name, one in want.items():
        torch.testing.assert_close(got[name].double(), one, rtol=tolerance, atol=tolerance * float(one.max()))


@pytest.mark.parametrize(
    ("dtype", "spread", "tolerance"), [(torch.float32, 1e-2, 1e-3), (torch.float64, 1e-5, 1e-6)], ids=str
)
@pytest.mark.parametrize("chunk", [1 << 20, 3])
@pytest.mark.parametrize("name", MODELS)
def test_small_variances_have_their_digits(name, chunk, dtype, spread, tolerance, recorded_only):
    problem, x, y = made(name, spread, dtype)
    compute = gk.kernel(f"torch.recorded[chunk={chunk}].moments").build(problem)
    got = [compute(problem.parameters(), x[:n], y[:n]).variance for n in (N, 5)]
    for n, one in zip((N, 5), got, strict=True):
        close(one, by_single_samples(problem, x[:n], y[:n]), tolerance)


def test_variances_of_one_layer_in_float32_keep_more_digits_than_rows_have():
    """Rows are y x, about 1: their variance is known in closed form, and rows in float32 would round it.

    They are so far apart that the square of what rounds their mean, 1e-14, is nothing.
    """
    torch.manual_seed(0)
    problem = gk.ModuleProblem(nn.Linear(3, 1, bias=False), lambda output, y: (output * y).sum())
    x, y = 1 + 1e-3 * torch.rand(4, 3), 1 + 1e-3 * torch.rand(4, 1)
    want = (x.double() * y.double()).var(0, correction=0)
    for way in ("hooks", "recorded"):
        got = gk.kernel(f"torch.{way}.moments").build(problem)(problem.parameters(), x, y).variance["weight"][0]
        torch.testing.assert_close(got.double(), want, rtol=1e-6, atol=0)


@pytest.fixture
def traces(monkeypatch):
    made = []
    trace = recordings.Recordings._record_once
    monkeypatch.setattr(
        recordings.Recordings, "_record_once", lambda self, *given: made.append(self._make) or trace(self, *given)
    )
    return made


def test_a_pass_is_recorded_for_more_parameters_a_few_times(traces):
    problem, x, y = made("mlp", 1e-2)
    theta = problem.parameters()
    around = mending.SmallVariances(problem, 100, recorded_parts)
    means = {name: torch.zeros_like(one) for name, one in theta.items()}
    for name in theta:
        got = around(theta, (x, y), means, frozenset([name]))
        assert [*got] == [name]
    assert len(traces) == 2 * mending.MOST_TIMES == 2 * len(theta)
    around(theta, (x, y), means, frozenset(theta))
    assert len(traces) == 2 * mending.MOST_TIMES


def test_where_the_second_pass_cannot_be_recorded_the_hooks_compute_it(monkeypatch):
    problem, x, y = made("mlp", 1e-2)
    call = recordings.Recordings.__call__

    def refused(self, *given, more=(), **options):
        if more:
            raise Unfit("no second pass")
        return call(self, *given, **options)

    monkeypatch.setattr(recordings.Recordings, "__call__", refused)
    got = gk.kernel("torch.recorded.moments").build(problem)(problem.parameters(), x, y).variance
    close(got, by_single_samples(problem, x, y), 1e-3)


def test_the_second_pass_draws_what_the_first_has_drawn(recorded_only):
    """Masks of dropout are the same ones again, else deviations would be from the mean of other rows."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 3))
    problem = gk.ModuleProblem(model, functional.cross_entropy, randomness="different")
    x, y = 1 + 1e-3 * torch.randn(N, 4), torch.full((N,), 1)
    theta = problem.parameters()
    rows = gk.kernel("torch.recorded.per_sample").build(problem)(theta, x, y)
    got = gk.kernel("torch.recorded.moments").build(problem)(theta, x, y).variance
    close(got, {name: one.double().var(0, correction=0) for name, one in rows.items()}, 1e-3)


@pytest.mark.parametrize("way", ["torch.hooks", "torch.recorded"])
@pytest.mark.parametrize(
    ("rows", "variance"),
    # Squares of 1e20 are infinite in float32: the variance is of deviations from the mean, if they are finite.
    [([1e20, 1e20, 1e20], 0.0), ([1e20, 3e20], float("inf")), ([1e20, 1e20 + 1e19], 2.5e37), ([1e20], 0.0)],
)
def test_means_whose_squares_leave_the_range_have_variances(way, rows, variance):
    model = nn.Linear(1, 1, bias=False)
    problem = gk.ModuleProblem(model, lambda output, y: output.mean())
    x = torch.tensor(rows)[:, None]
    moments = gk.kernel(f"{way}.moments").build(problem)(problem.parameters(), x, torch.zeros(len(x), 1))
    assert moments.mean["weight"].item() == pytest.approx(sum(rows) / len(rows), rel=1e-6)
    assert moments.variance["weight"].item() == pytest.approx(variance, rel=1e-3)
