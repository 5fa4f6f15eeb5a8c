"""Long sequences: norms and clipped sums in tiles of steps, right at every length, in memory that grows with it."""

import pytest
import torch
from models import oracle
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

import gradkernels as gk
from gradkernels.engines.hooks import quantities
from gradkernels.engines.hooks.accumulate import inner_products
from gradkernels.engines.hooks.rules.linear import gram

CROSS_ENTROPY = nn.CrossEntropyLoss()


class Texts(nn.Module):
    """Words, a wide and a narrow map of every step, and the mean over steps; the last weight may be the table."""

    def __init__(self, words=11, width=6, tied=False):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.norm = nn.Embedding(words, width), nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, 64), nn.Linear(64, width, bias=False)
        self.head = nn.Linear(width, words)
        if tied:
            self.head.weight = self.table.weight

    def forward(self, words):
        steps = self.table(words)
        steps = steps + self.narrow(torch.tanh(self.wide(self.norm(steps))))
        return torch.tanh(self.head(steps)).mean(1)


def texts(n, steps):
    torch.manual_seed(steps)
    return torch.randint(11, (n, steps)), torch.randint(11, (n,))


@pytest.mark.parametrize("way", ["gram", "rows"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("n", "steps"), [(1, 9), (3, 1), (3, 4), (3, 5), (2, 13), (5, 8)])
def test_norms_and_clipped_sums_in_tiles(n, steps, tied, way, monkeypatch):
    monkeypatch.setattr(gram, "TILE", 4)
    monkeypatch.setattr(gram, "TILE_BYTES", 2 * 2 * 4 * 4 * 8)  # two samples at a time
    monkeypatch.setattr(inner_products, "PRODUCT_BYTES", 3 * n * steps * 8)  # three steps at a time
    monkeypatch.setattr("gradkernels.engines.hooks.rules.linear.linear.cheaper_ways", lambda *sizes: (way,))
    model, (x, y) = Texts(tied=tied).double(), texts(n, steps)
    rows = oracle(model, CROSS_ENTROPY, x, y)
    norms = torch.cat([one.flatten(1) for one in rows.values()], 1).norm(dim=1)
    problem, limit = gk.ModuleProblem(model, CROSS_ENTROPY), float(norms.min())
    given = problem.parameters(), x, y
    torch.testing.assert_close(quantities.norms(problem, 99)(*given), norms, rtol=1e-10, atol=0)
    for name, one in quantities.clipped_sum(problem, 99)(*given, max_norm=limit).items():
        want = torch.tensordot(limit / norms, rows[name], 1)
        torch.testing.assert_close(one, want, rtol=1e-9, atol=1e-12 * limit)


def test_what_multiplies_less_is_tried_first_and_what_multiplies_much_more_not_at_all():
    assert gram.cheaper_ways(16, 64, 64) == ("gram", "rows")  # 16 x 128 against 64 x 64
    assert gram.cheaper_ways(64, 64, 64) == ("rows", "gram")
    assert gram.cheaper_ways(4096, 64, 64) == ("rows",)
    assert gram.cheaper_ways(4, 4096, 4096) == ("gram",)
    assert gram.cheaper_ways(4096, 4096, 4096) == ("gram", "rows")  # half of the products are the other half's mirror


class Largest(TorchDispatchMode):
    """How many entries the largest tensor has that an operation gives."""

    entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for one in pytree.tree_leaves(result):
            if isinstance(one, torch.Tensor):
                self.entries = max(self.entries, one.untyped_storage().nbytes() // one.element_size())
        return result


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("quantity", ["norms", "clipped_sum"])
def test_nothing_is_as_large_as_the_square_of_the_length(quantity, tied):
    """Also not when the ways are measured, at the first call."""
    steps = 4096
    model, (x, y) = Texts(tied=tied), texts(2, steps)
    problem = gk.ModuleProblem(model, CROSS_ENTROPY)
    with Largest() as largest:
        getattr(quantities, quantity)(problem, 99)(problem.parameters(), x, y)
    widest = 2 * steps * 64  # the hidden layer of all steps
    assert widest <= largest.entries <= max(widest, inner_products.PRODUCT_BYTES // 4)
