"""Clipped sums keep rows that are small, and are right whether these or the gradients are kept."""

import pytest
import torch
from models import oracle
from torch import nn

import gradkernels as gk
from gradkernels.engines.hooks import quantities
from gradkernels.engines.hooks.rules.linear.convolution import Convolution
from gradkernels.engines.hooks.rules.linear.linear import Linear
from gradkernels.engines.hooks.rules.linear.transposed_convolution import TransposedConvolution
from gradkernels.engines.hooks.rules.materialized import MaterializedUse

MSE = nn.MSELoss()


class Gain(nn.Module):
    """Entries times one number."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        return x * self.scale


N = 4

SMALL = {
    "convolution": (lambda: nn.Conv2d(2, 3, 3, padding=1), (2, 9, 9), Convolution),
    "grouped, dilated": (lambda: nn.Conv1d(4, 4, 3, groups=2, dilation=2), (4, 40), Convolution),
    "transposed": (lambda: nn.ConvTranspose1d(2, 3, 3, stride=2), (2, 20), TransposedConvolution),
    "linear of many steps": (lambda: nn.Linear(3, 4), (12, 3), Linear),
    "one number": (Gain, (3,), MaterializedUse),
    "scale of a norm": (lambda: nn.LayerNorm(6), (2, 6), MaterializedUse),
}
LARGE = {
    "convolution": (lambda: nn.Conv2d(8, 9, 3), (8, 4, 4), Convolution),
    "linear of few steps": (lambda: nn.Linear(9, 8), (2, 9), Linear),
    "linear of one step": (lambda: nn.Linear(9, 8), (9,), Linear),
}


def clipped(layer, shape, dtype):
    """Found sums and those of a float64 loop, half of whose rows are clipped."""
    torch.manual_seed(1)
    model, x = layer().to(dtype), torch.randn(N, *shape)
    y = torch.randn_like(model(x.to(dtype)).float().detach())
    like = layer().double()
    like.load_state_dict({name: one.double() for name, one in model.state_dict().items()})
    rows = oracle(like, MSE, x.to(dtype).double(), y.to(dtype).double())
    norms = torch.cat([one.reshape(N, -1) for one in rows.values()], 1).norm(dim=1)
    limit = float(norms.median())
    want = {name: torch.tensordot((limit / norms).clamp(max=1), one, 1) for name, one in rows.items()}
    problem = gk.ModuleProblem(model, MSE)
    return quantities.clipped_sum(problem, 99)(problem.parameters(), x.to(dtype), y.to(dtype), max_norm=limit), want


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("name", SMALL)
def test_small_rows_are_summed_and_nothing_is_computed_anew(name, dtype, tolerance, monkeypatch):
    layer, shape, use = SMALL[name]

    def again(self, target, g):
        raise AssertionError("the sum is computed from the gradients")

    monkeypatch.setattr(use, "total", again)
    found, want = clipped(layer, shape, dtype)
    for key, one in want.items():
        assert (found[key].double() - one).norm() <= tolerance * one.norm(), key


@pytest.mark.parametrize("name", LARGE)
def test_large_rows_are_not_kept(name, monkeypatch):
    layer, shape, use = LARGE[name]
    asked = []

    def counting(compute):
        def counted(self, target, *factors):
            asked.append(target)
            return compute(self, target, *factors)

        return counted

    for way in ("total", "weighted_total"):
        monkeypatch.setattr(use, way, counting(getattr(use, way)))
    found, want = clipped(layer, shape, torch.float32)
    assert "weight" in asked
    for key, one in want.items():
        assert (found[key].double() - one).norm() <= 1e-4 * one.norm(), key
