"""Parameters that change what the pass has computed in place: a bias, positions, a scale."""

import pytest
import torch
from every_quantity import CROSS_ENTROPY, require_equal
from torch import nn

import gradkernels as gk
from gradkernels.engines.hooks import quantities
from gradkernels.engines.hooks.errors import Unfit

N, T, D, H = 6, 5, 3, 4


class Changes(nn.Module):
    """A map whose outputs are changed in place."""

    def __init__(self, program):
        super().__init__()
        torch.manual_seed(0)
        self.program, self.map, self.head = program, nn.Linear(D, H, bias=False), nn.Linear(H, 3)
        self.bias, self.scale = nn.Parameter(torch.randn(H)), nn.Parameter(torch.randn(H))
        self.places, self.table, self.shift = (
            nn.Parameter(torch.randn(T, H)),
            nn.Embedding(T, H),
            nn.Parameter(torch.ones(D)),
        )

    def forward(self, x):
        return self.head(torch.tanh(self.program(self, x)).mean(1))


def sums(m, x):
    h = m.map(x)
    h += m.bias
    h.add_(m.places)
    h -= m.scale
    return h.sub_(m.bias.sin())


def products(m, x):
    h = m.map(x)
    h *= m.scale
    return h.mul_(m.places)


def both(m, x):
    h = m.map(x)
    h *= m.scale
    h += m.bias
    h *= m.scale
    return h


def positions(m, x):
    h = m.map(x)
    h += m.table(torch.arange(T))
    return h


def time_first(m, x):
    h = m.map(x.transpose(0, 1)) * 1.0
    h += m.places[:, None]
    h *= m.scale
    return h.transpose(0, 1)


PROGRAMS = {one.__name__: one for one in (sums, products, both, positions, time_first)}


def data():
    torch.manual_seed(1)
    return torch.randn(N, T, D, dtype=torch.float64), torch.arange(N) % 3


@pytest.mark.parametrize("way", ["hooks", "recorded"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_quantity(name, way):
    require_equal(way, Changes(PROGRAMS[name]).double(), *data())


def input_itself(m, x):
    x += m.shift
    return m.map(x)


def part(m, x):
    h = m.map(x)
    h[:, 0] += m.bias
    return h


@pytest.mark.parametrize("program", [input_itself, part])
def test_what_is_the_callers_or_a_view_is_left_alone(program):
    problem, (x, y) = gk.ModuleProblem(Changes(program).double(), CROSS_ENTROPY), data()
    before = x.clone()
    with pytest.raises(Unfit, match="in place"):
        quantities.per_sample(problem, 99)(problem.parameters(), x, y)
    assert torch.equal(x, before)
