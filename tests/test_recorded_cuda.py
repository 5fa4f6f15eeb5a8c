"""torch.recorded on a GPU: all quantities, numbers of samples and random draws, beside single samples and the hooks."""

import modules
import pytest
import torch
from torch import nn
from torch.nn import functional

import gradkernels as gk
from gradkernels.tree import leaves
from gradkernels.zoo import ZOO

DEVICE = "cuda"
QUANTITIES = ("gradient", "per_sample", "norms", "clipped_sum", "moments")

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device on this machine")


class Dropping(nn.Module):
    """Draws masks, and has a buffer and a tensor that is an attribute."""

    def __init__(self):
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 3)
        self.register_buffer("shift", torch.ones(6))
        self.factor = torch.full((6,), 0.5, device=DEVICE)

    def forward(self, x):
        return self.last(self.drop(torch.tanh(self.first(x) + self.shift)) * self.factor)


def agree(got, want, tolerance):
    for one, other in zip(leaves(got), leaves(want), strict=True):
        assert one.device.type == DEVICE
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * float(other.abs().max()))


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("name", ZOO)
def test_models_of_the_zoo_pass_the_checks(name, quantity):
    gk.check(f"torch.recorded.{quantity}", gk.Case(ZOO[name](), quantity, 6, "float64", device=DEVICE))


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("chunk", [1 << 20, 4])
@pytest.mark.parametrize("randomness", ["different", "same"])
def test_what_is_drawn_is_what_the_hooks_draw(randomness, chunk, quantity):
    problem = gk.ModuleProblem(
        modules.seeded(Dropping).double().to(DEVICE), functional.cross_entropy, randomness=randomness
    )
    theta, y = problem.parameters(), (torch.arange(9) % 3).to(DEVICE)
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(3)).double().to(DEVICE)
    plain, compute = (
        gk.kernel(f"torch.{way}[chunk={chunk}].{quantity}").build(problem) for way in ("hooks", "recorded")
    )
    before = torch.cuda.get_rng_state()
    for n in (9, 5, 9):
        agree(compute(theta, x[:n], y[:n]), plain(theta, x[:n], y[:n]), 1e-10)
    assert torch.equal(torch.cuda.get_rng_state(), before)


@pytest.mark.parametrize("quantity", ["per_sample", "norms"])
def test_results_are_written_to_memory_of_the_device(quantity):
    problem = gk.ModuleProblem(ZOO["mlp"]().model.to(DEVICE), functional.cross_entropy)
    x, y = (one[:6].to(DEVICE) for one in ZOO["mlp"]().example)
    theta = problem.parameters()
    if quantity == "norms":
        out = torch.full((6,), torch.nan, device=DEVICE)
    else:
        out = {name: one.new_full((6, *one.shape), torch.nan) for name, one in theta.items()}
    compute = gk.kernel(f"torch.recorded.{quantity}").build(problem)
    assert compute(theta, x, y, out=out) is out
    agree(out, gk.kernel(f"torch.hooks.{quantity}").build(problem)(theta, x, y), 1e-4)


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_a_recording_of_one_device_is_not_used_on_another(quantity):
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    problem = gk.ModuleProblem(model, functional.cross_entropy)
    compute = gk.kernel(f"torch.recorded.{quantity}").build(problem)
    x, y = torch.randn(6, 4).double(), torch.arange(6) % 3
    want = compute(problem.parameters(), x, y)
    theta = {name: one.detach().to(DEVICE) for name, one in problem.parameters().items()}
    got = compute(theta, x.to(DEVICE), y.to(DEVICE))
    for one, other in zip(leaves(got), leaves(want), strict=True):
        assert one.device.type == DEVICE
        torch.testing.assert_close(one.cpu(), other, rtol=1e-10, atol=1e-12)
