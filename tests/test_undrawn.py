"""Torch's own random numbers go on as if nothing had been drawn, whatever a call does besides computing."""

import pytest
import torch
from torch import nn

import gradkernels as gk


class Noisy(nn.Module):
    """Draws by a function that hooks cannot follow."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        h = self.first(x)
        return self.last(torch.tanh(h + torch.randn_like(h)))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers, self.last = nn.GRU(2, 3, num_layers=2, dropout=0.3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x):
        return self.last(self.layers(x.view(len(x), 2, 2))[0][:, -1])


MODELS = {
    "randn_like": Noisy,
    "RReLU": lambda: nn.Sequential(nn.Linear(4, 5), nn.RReLU(), nn.Linear(5, 3)),
    "GRU": Recurrent,
}


@pytest.mark.parametrize("quantity", ["norms", "gradient"])
@pytest.mark.parametrize("randomness", ["error", "same", "different"])
@pytest.mark.parametrize("name", MODELS)
def test_no_call_moves_the_generator(name, randomness, quantity):
    torch.manual_seed(0)
    model, x, y = MODELS[name](), torch.randn(6, 4), torch.arange(6) % 3
    problem = gk.ModuleProblem(model, nn.CrossEntropyLoss(), randomness=randomness)
    before = torch.get_rng_state()
    for _ in range(9):
        if randomness == "error":
            with pytest.raises(ValueError, match="draws random numbers"):
                getattr(gk, quantity)(problem, None, x, y)
        else:
            getattr(gk, quantity)(problem, None, x, y)
        assert torch.equal(torch.get_rng_state(), before)


def test_a_plain_call_does_not_look_at_the_generator(monkeypatch):
    """It would wait for a GPU: only audits, first calls and kernels that are tried again do."""
    model, x, y = nn.Sequential(nn.Linear(4, 3)), torch.randn(6, 4), torch.arange(6) % 3
    problem = gk.ModuleProblem(model, nn.CrossEntropyLoss())
    for _ in range(4):
        gk.norms(problem, None, x, y)
    monkeypatch.setattr(torch, "get_rng_state", None)
    for _ in range(3):
        gk.norms(problem, None, x, y)
    with pytest.raises(TypeError):
        gk.norms(problem, None, x, y)
