"""What hooks cannot follow the next kernel computes: no model is refused that another takes, none silently wrong."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

import gradkernels as gk
from gradkernels.engines.hooks import quantities
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.tree import leaves


class InPlace(nn.Module):
    """Adds a parameter in place to data that have met none before."""

    def __init__(self):
        super().__init__()
        self.linear, self.shift = nn.Linear(4, 3, bias=False), nn.Parameter(torch.randn(4))

    def forward(self, x):
        h = x.clone()
        h += self.shift
        return self.linear(torch.tanh(h))


class Complex(nn.Module):
    """A parameter seen as complex numbers."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3, 2))

    def forward(self, x):
        return (torch.fft.rfft(x) @ torch.view_as_complex(self.weight)).abs()


class Scale(torch.autograd.Function):
    """Data times a parameter, where torch shows no call of a function."""

    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward(x, scale)
        return x * scale

    @staticmethod
    def backward(ctx, g):
        x, scale = ctx.saved_tensors
        return g * scale, (g * x).sum(0)


class Ended(nn.Module):
    """Its output is what an autograd.Function made of data and a parameter."""

    def __init__(self):
        super().__init__()
        self.linear, self.scale = nn.Linear(4, 3), nn.Parameter(torch.ones(3))

    def forward(self, x):
        return Scale.apply(self.linear(x), self.scale)


class Listing(nn.Module):
    """A list, with what is no tensor in it."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        return [self.linear(x), None]


MODELS = {"in place": InPlace, "complex": Complex}
QUANTITIES = ("per_sample", "norms", "moments", "clipped_sum", "gradient")


def looped(model, x, y, loss):
    """One backward pass per sample."""
    own = [one for one in model.parameters() if one.requires_grad]
    rows = []
    for i in range(len(y)):
        found = torch.autograd.grad(loss(model(x[i : i + 1]), y[i : i + 1]), own, allow_unused=True)
        rows.append([torch.zeros_like(p) if g is None else g for p, g in zip(own, found, strict=True)])
    return [torch.stack(parts) for parts in zip(*rows, strict=True)]


def data():
    torch.manual_seed(3)
    return torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_what_hooks_cannot_follow_is_right_all_the_same(kind, quantity):
    x, y = data()
    model = MODELS[kind]().double()
    problem = gk.ModuleProblem(model, nn.CrossEntropyLoss())
    with pytest.raises(Unfit):
        quantities.per_sample(problem, 100)(problem.parameters(), x, y)
    bound = gk.fastest(problem, quantity, like=(None, x, y))
    assert "hooks" not in bound.kernel.key
    if quantity != "gradient":  # which hooks are no first choice for
        assert bound.why.splitlines()[1].startswith(f"  torch.hooks.{quantity}: Unfit: ")
    for way in ("torch.hooks", "torch.hooks[chunk=4]"):
        with pytest.raises(Unfit):
            gk.fastest(problem, quantity, like=(None, x, y), kernel=way)
    rows = looped(model, x, y, nn.CrossEntropyLoss())
    norms = sum(part.flatten(1).square().sum(1) for part in rows).sqrt()
    factor = norms.clamp(min=1).reciprocal()
    expected = {
        "per_sample": rows,
        "norms": [norms],
        "moments": [part.mean(0) for part in rows] + [part.var(0, correction=0) for part in rows],
        "clipped_sum": [torch.tensordot(factor, part, 1) for part in rows],
        "gradient": [part.mean(0) for part in rows],
    }
    for got, want in zip(leaves(bound(None, x, y)), expected[quantity], strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)


def test_memory_that_is_given_is_written_to_all_the_same():
    x, y = data()
    problem = gk.ModuleProblem(InPlace().double(), nn.CrossEntropyLoss())
    out = {name: one.new_full((6, *one.shape), float("nan")).detach() for name, one in problem.parameters().items()}
    assert gk.per_sample(problem, None, x, y, out=out) is out
    assert not any(one.isnan().any() for one in out.values())
    given = x.new_empty(6)
    assert gk.norms(problem, None, x, y, out=given) is given
    torch.testing.assert_close(given, gk.norms(problem, None, x, y, kernel="torch.loop"))


class Switched(nn.Module):
    """Goes another way once a switch is set that no stamp tells."""

    def __init__(self):
        super().__init__()
        self.linear, self.other, self.twice = nn.Linear(4, 3), nn.Linear(3, 3), False

    def forward(self, x):
        h = self.linear(x)
        return self.other(torch.tanh(h)) if self.twice else h


def test_a_model_that_changed_is_looked_at_anew():
    x, y = data()
    model = Switched().double()
    problem = gk.ModuleProblem(model, nn.CrossEntropyLoss())
    bound = gk.fastest(problem, "per_sample", like=(None, x, y), kernel="torch.hooks")
    for model.twice in (False, True, False):
        for got, want in zip(bound(None, x, y).values(), looped(model, x, y, nn.CrossEntropyLoss()), strict=True):
            torch.testing.assert_close(got, want)


def first(output, y):
    return nn.functional.cross_entropy(output[0], y)


def test_a_parameter_that_a_function_of_autograd_takes_at_the_end_is_not_left_out():
    x, y = data()
    problem = gk.ModuleProblem(Ended().double(), nn.CrossEntropyLoss())
    with pytest.raises(Unfit, match=r"^the output of \(6, 3\) is computed from parameters where no call .* shows it"):
        quantities.per_sample(problem, 100)(problem.parameters(), x, y)
    rows = gk.per_sample(problem, None, x, y)
    for got, want in zip(rows.values(), looped(problem.model, x, y, nn.CrossEntropyLoss()), strict=True):
        torch.testing.assert_close(got, want)


class Stacked(nn.Module):
    """A bias of the same number twice and of what is made of it."""

    def __init__(self):
        super().__init__()
        self.weight, self.number = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        return nn.functional.linear(x, self.weight, torch.stack([self.number, self.number, self.number.sin()]))


def test_a_parameter_that_a_made_weight_has_more_than_once_is_counted_as_often():
    x, y = data()
    problem = gk.ModuleProblem(Stacked().double(), nn.CrossEntropyLoss())
    rows = quantities.per_sample(problem, 100)(problem.parameters(), x, y)
    for got, want in zip(rows.values(), looped(problem.model, x, y, nn.CrossEntropyLoss()), strict=True):
        torch.testing.assert_close(got, want)


def test_outputs_may_be_lists_with_anything_in_them():
    x, y = data()
    problem = gk.ModuleProblem(Listing().double(), first)
    (weight, bias) = quantities.per_sample(problem, 100)(problem.parameters(), x, y).values()
    for got, want in zip((weight, bias), looped(problem.model, x, y, first), strict=True):
        torch.testing.assert_close(got, want)


@dataclass
class Output:
    """Of no kind that torch knows."""

    logits: Any


class Data(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        return Output(self.linear(x))


def test_outputs_may_be_dataclasses():
    def loss(output, y):
        return nn.functional.cross_entropy(output.logits, y)

    x, y = data()
    problem = gk.ModuleProblem(Data().double(), loss)
    rows = gk.per_sample(problem, None, x, y)
    for got, want in zip(rows.values(), looped(problem.model, x, y, loss), strict=True):
        torch.testing.assert_close(got, want)


def test_a_sample_that_is_not_finite_proves_nothing_and_stays_in_its_row():
    x, y = data()
    x[1, 2] = float("inf")
    problem = gk.ModuleProblem(
        nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double(), nn.CrossEntropyLoss()
    )
    norms = gk.norms(problem, None, x, y)
    assert norms.isfinite().tolist() == [True, False, True, True, True, True]
    assert not all(one.isfinite().all() for one in gk.moments(problem, None, x, y).mean.values())
