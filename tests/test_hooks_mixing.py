"""Models whose samples meet in a batch are refused by the hooks, whatever it is that brings them together."""

import pytest
import torch
from models import oracle
from torch import nn
from torch.nn import functional as F

import gradkernels as gk
from gradkernels.engines.hooks import quantities
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.problems.module.module_problem import ModuleProblem

LOSS = nn.CrossEntropyLoss()
N, T, D = 5, 3, 4


class Body(nn.Module):
    """`body(h, x)` on `(n, t, d)` between two linear layers; x are the data themselves."""

    def __init__(self, body):
        super().__init__()
        self.first, self.out, self.body = nn.Linear(D, D), nn.Linear(D, 3), body

    def forward(self, x):
        h = self.body(torch.tanh(self.first(x)), x)
        return self.out(h.flatten(1, -2).mean(1) if h.ndim > 2 else h)


def first_zero(h, x):
    h = h * 1
    h[0] = 0.0
    return h


def mean_written(h, x):
    h = h * 1
    h[:, 0] = x.mean((0, 1))
    return h


MIXING = {
    "flip of two axes": lambda h, x: h + h.flip(1, 0),
    "flip by a list": lambda h, x: h + h.flip([0, 2]),
    "roll": lambda h, x: h + h.roll(1, 0),
    "renorm": lambda h, x: h.renorm(2, 1, 0.5),
    "triangle": lambda h, x: h.mean(1).tril(),
    "picked by an index of the data": lambda h, x: h.index_select(1, (x[:, 0, 0] > 0).long()),
    "a sample that is written to": first_zero,
    "the batch's mean, written to a step": mean_written,
    "the batch's mean": lambda h, x: h - x.mean(0),
    "the batch's largest": lambda h, x: h / x.abs().max(),
    "the batch's order": lambda h, x: h + x[x[:, 0, 0].argsort()],
    "samples in another order": lambda h, x: h + x.flip(0),
}
APART = {
    "flip of others": lambda h, x: h + h.flip(1, 2),
    "flip by a list": lambda h, x: h + h.flip([-1, 1]),
    "triangles of steps": lambda h, x: h[:, :, :T].tril() + h[:, :, :T].triu(),
    "picked": lambda h, x: h.index_select(1, torch.tensor([2, 0])),
    "a step that is written to": lambda h, x: torch.stack([h[:, 0], x[:, 1]], 1),
    "its own mean": lambda h, x: h - x.mean(1, keepdim=True),
    "sorted steps": lambda h, x: h + x.sort(1).values,
}


@pytest.mark.parametrize("name", MIXING)
def test_samples_that_meet_are_refused(name):
    problem = ModuleProblem(Body(MIXING[name]).double(), LOSS)
    x, y = torch.randn(N, T, D, dtype=torch.float64), torch.arange(N) % 3
    with pytest.raises(Unfit):
        quantities.per_sample(problem, 99)(problem.parameters(), x, y)


@pytest.mark.parametrize("name", APART)
@pytest.mark.parametrize("n", [2, T, D, 7])
def test_samples_that_do_not_are_followed(name, n):
    torch.manual_seed(0)
    problem = ModuleProblem(Body(lambda h, x: F.pad(APART[name](h, x), (0, 4))[..., :D]).double(), LOSS)
    x, y = torch.randn(n, T, D, dtype=torch.float64), torch.arange(n) % 3
    got = quantities.per_sample(problem, 99)(problem.parameters(), x, y)
    for key, rows in oracle(problem.model, LOSS, x, y).items():
        torch.testing.assert_close(got[key], rows)


# --- numbers drawn for each sample


SHARED = {
    "one for all": lambda h, x: h * torch.rand(()),
    "one for each step": lambda h, x: h + torch.randn(1, T, 1),
    "depth": lambda h, x: h * torch.randint(1, 3, (1,)),
    "weights left out": lambda h, x: h @ F.dropout(torch.eye(D, dtype=h.dtype), 0.5),
}
OWN = {
    "paths left out": lambda h, x: h * (torch.rand(len(h), 1, 1) > 0.5),
    "noise": lambda h, x: h + 0.1 * torch.randn_like(h),
    "noise like data": lambda h, x: h + 0.1 * torch.randn(h.shape),
    "dropout": lambda h, x: F.dropout(h, 0.5),
}


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("n", [N, T])
def test_one_draw_for_all_samples_is_refused_where_each_is_to_have_its_own(name, n):
    problem = ModuleProblem(Body(SHARED[name]).double(), LOSS, randomness="different")
    x, y = torch.randn(n, T, D, dtype=torch.float64), torch.arange(n) % 3
    with pytest.raises(Unfit, match="random numbers are drawn for all samples together"):
        quantities.norms(problem, 99)(problem.parameters(), x, y)


def test_weights_that_are_left_out_are_refused_too():
    class DropConnect(nn.Linear):
        def forward(self, x):
            return F.linear(x, F.dropout(self.weight, 0.5), self.bias)

    problem = ModuleProblem(DropConnect(D, 3).double(), LOSS, randomness="different")
    x, y = torch.randn(N, D, dtype=torch.float64), torch.arange(N) % 3
    with pytest.raises(Unfit, match="random numbers are drawn for all samples together"):
        quantities.norms(problem, 99)(problem.parameters(), x, y)


@pytest.mark.parametrize("name", OWN)
def test_each_sample_has_its_own_draw(name):
    problem = ModuleProblem(Body(OWN[name]).double(), LOSS, randomness="different")
    x, y = torch.randn(1, T, D, dtype=torch.float64).expand(8, T, D).contiguous(), torch.zeros(8, dtype=torch.int64)
    norms = quantities.norms(problem, 99)(problem.parameters(), x, y)
    assert len(set(norms.tolist())) > 1


def test_a_draw_for_all_goes_to_a_kernel_that_draws_for_each():
    class Scaled(nn.Linear):
        def forward(self, x):
            return super().forward(x) * torch.rand(())

    problem = gk.ModuleProblem(Scaled(4, 3), LOSS, randomness="different")
    x, y = torch.randn(1, 4).expand(5, 4).clone(), torch.zeros(5, dtype=torch.int64)
    assert len(set(gk.norms(problem, None, x, y).tolist())) == 5
