"""Loops over cells, and linear maps that are used again and again: one use of all steps, in each quantity."""

import pytest
import torch
from models import oracle
from torch import nn

import gradkernels as gk
from gradkernels.engines.hooks import quantities
from gradkernels.engines.hooks.rules.linear.linear import Linear

CROSS_ENTROPY = nn.CrossEntropyLoss()


class Loop(nn.Module):
    """A cell over the steps of a sequence, begun with zeros of the data's own dtype."""

    def __init__(self, kind, bias=True):
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.head = kind(3, 4, bias=bias), nn.Linear(4, 5)

    def forward(self, x):
        state = x.new_zeros(len(x), 4)
        both = (state, state) if isinstance(self.cell, nn.LSTMCell) else state
        for step in x.unbind(1):
            both = self.cell(step, both)
        return self.head(both[0] if isinstance(both, tuple) else both)


class Repeated(nn.Module):
    """A map that is used with steps, without, transposed, and by a table that is looked up last or first."""

    def __init__(self, table_first):
        super().__init__()
        torch.manual_seed(0)
        self.map, self.words, self.table_first = nn.Linear(4, 4), nn.Embedding(4, 4), table_first
        self.map.weight = self.words.weight

    def forward(self, x):
        ids = (x[:, :, 0] > 0).long()
        steps = x + self.words(ids) if self.table_first else x
        steps = torch.tanh(self.map(torch.tanh(self.map(steps)))) @ self.map.weight
        pooled = self.map(steps.mean(1))
        return pooled if self.table_first else pooled + self.words(ids[:, 0])


MODELS = {
    "gru": (lambda: Loop(nn.GRUCell), 3),
    "lstm without bias": (lambda: Loop(nn.LSTMCell, bias=False), 3),
    "rnn": (lambda: Loop(nn.RNNCell), 3),
    "repeated, table first": (lambda: Repeated(True), 4),
    "repeated, table last": (lambda: Repeated(False), 4),
}


@pytest.mark.parametrize("chunk", [2, 99])
@pytest.mark.parametrize(("n", "steps"), [(1, 4), (3, 1), (4, 3), (5, 9)])
@pytest.mark.parametrize("name", MODELS)
def test_every_quantity(name, n, steps, chunk):
    make, width = MODELS[name]
    model = make().double()
    torch.manual_seed(n)
    x, y = torch.randn(n, steps, width, dtype=torch.float64), torch.randint(4, (n,))
    want = oracle(model, CROSS_ENTROPY, x, y)
    norms = torch.cat([one.flatten(1) for one in want.values()], 1).norm(dim=1)
    problem, limit = gk.ModuleProblem(model, CROSS_ENTROPY), float(norms.median())
    given = problem.parameters(), x, y
    torch.testing.assert_close(quantities.per_sample(problem, chunk)(*given), want, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(quantities.norms(problem, chunk)(*given), norms, rtol=1e-9, atol=0)
    sums = {name: torch.tensordot((limit / norms).clamp(max=1), one, 1) for name, one in want.items()}
    for way in (quantities.clipped_sum, quantities.reweighted_sum):
        torch.testing.assert_close(way(problem, chunk)(*given, max_norm=limit), sums, rtol=1e-9, atol=1e-12)
    variance = {name: one.var(0, correction=0) for name, one in want.items()}
    torch.testing.assert_close(quantities.moments(problem, chunk)(*given).variance, variance, rtol=1e-8, atol=1e-12)


def test_rows_of_a_loop_are_written_once(monkeypatch):
    written, write = [], Linear.write

    def counted(self, target, g, out, at, add):
        written.append(self.targets[target].names[0])
        write(self, target, g, out, at, add)

    monkeypatch.setattr(Linear, "write", counted)
    problem = gk.ModuleProblem(Loop(nn.GRUCell), CROSS_ENTROPY)
    quantities.per_sample(problem, 99)(problem.parameters(), torch.randn(3, 6, 3), torch.arange(3))
    weights = [name for name in written if "weight" in name]
    assert sorted(weights) == ["cell.weight_hh", "cell.weight_ih", "head.weight"]
