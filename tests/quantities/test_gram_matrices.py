"""Gram matrices of modules: other samples, samples of other lengths, terms that cancel."""

import pytest
import torch
from hand_worked import close, wide
from models import oracle
from torch import nn

import gradkernels as gk
from gradkernels.engines.hooks.errors import Unfit


def test_gram_matrices_of_a_module(module):
    problem, x, y, rows = module
    g = wide(rows)
    close(gk.gram(problem, None, x, y), g @ g.T)
    close(gk.gram(problem, None, x[:2], y[:2], other=(x[1:], y[1:])), g[:2] @ g[1:].T)


@pytest.mark.parametrize("way", ["torch.hooks", "torch.vmap"])
def test_every_way_to_a_gram_matrix_is_proven_and_audited(module, way):
    problem, x, y, rows = module
    g = wide(rows)
    for _ in range(3):  # an audit that cannot be made is a warning
        close(gk.gram(problem, None, x[:4], y[:4], other=(x[4:], y[4:]), kernel=way), g[:4] @ g[4:].T)
    assert gk.gram(problem, None, x, y, other=(x[:0], y[:0]), kernel=way).shape == (6, 0)


class SignedSum(nn.Module):
    """Adds up what a layer makes of each step, with signs that let rows cancel where steps are nearly the same."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.register_buffer("signs", torch.tensor([1.0, -1.0, 1.0, -0.999])[:, None])

    def forward(self, x):
        return (self.layer(x) * self.signs).sum(1)


@pytest.mark.parametrize("layer", [nn.Linear(64, 48, bias=False), nn.Embedding(9, 48)], ids=["linear", "embedding"])
def test_gram_matrices_keep_their_digits_where_steps_cancel(layer):
    torch.manual_seed(0)
    model, y = SignedSum(layer), torch.randn(5, 48)
    embeds = isinstance(layer, nn.Embedding)
    x = torch.full((5, 4), 3) if embeds else torch.randn(5, 1, 64) + 1e-3 * torch.randn(5, 4, 64)
    problem = gk.ModuleProblem(model, nn.MSELoss())
    found = gk.kernel("torch.hooks.gram").build(problem)(dict(model.named_parameters()), x, y)
    g = wide(oracle(model.double(), nn.MSELoss(), x if embeds else x.double(), y.double()))
    assert float((found - g @ g.T).abs().max() / (g @ g.T).abs().max()) < 1e-4
    model.float()


class MeanOfSteps(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x).mean(1)


def test_gram_matrices_of_samples_of_another_length():
    torch.manual_seed(0)
    model = MeanOfSteps(nn.Linear(3, 2)).double()
    problem, y = gk.ModuleProblem(model, nn.CrossEntropyLoss()), torch.arange(4) % 2
    x, longer = torch.randn(4, 5, 3, dtype=torch.float64), torch.randn(2, 7, 3, dtype=torch.float64)
    g, h = (wide(oracle(model, nn.CrossEntropyLoss(), one, y[: len(one)])) for one in (x, longer))
    close(gk.gram(problem, None, x, y, other=(longer, y[:2])), g @ h.T)
    with pytest.raises(Unfit, match="^torch.hooks runs both batches as one, which these cannot be: "):
        gk.gram(problem, None, x, y, other=(longer, y[:2]), kernel="torch.hooks")


def test_other_samples_of_a_module_are_looked_at(module):
    problem, x, y, _ = module
    with pytest.raises(ValueError, match=r"^x \(6, 2, 4\), y \(3,\): the first axis is the samples"):
        gk.gram(problem, None, x, y, other=(x, y[:3]))
    with pytest.raises(TypeError, match=r"^x is a numpy.ndarray; a module takes torch tensors"):
        gk.gram(problem, None, x, y, other=(x.numpy(), y.numpy()))
    with pytest.raises(TypeError, match=r"^x of other is torch.float32, x of the call torch.float64; convert one of"):
        gk.gram(problem, None, x, y, other=(x.float(), y))


def test_gram_matrices_of_samples_with_draws_of_their_own_are_the_same_by_every_kernel():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2)).double()
    problem = gk.ModuleProblem(model, nn.CrossEntropyLoss(), randomness="different")
    x, y = torch.randn(4, 3, dtype=torch.float64), torch.arange(4) % 2
    found = []
    for way in (None, "torch.loop", "torch.vmap"):
        torch.manual_seed(5)
        found.append(gk.gram(problem, None, x, y, other=(x[:2], y[:2]), kernel=way))
    close(found[0], found[1])
    close(found[2], found[1])
    with pytest.raises(Unfit, match="torch.hooks draws random numbers for both batches in a row; use torch.loop"):
        gk.gram(problem, None, x, y, other=(x[:2], y[:2]), kernel="torch.hooks")


def test_a_gram_matrix_takes_memory_for_all_of_its_samples(module):
    problem, x, y, _ = module
    many = x.repeat(500, 1, 1), y.repeat(500)
    limit = 2**24
    want = gk.gram(problem, None, x, y, max_bytes=limit)
    assert want.shape == (6, 6)
    close(gk.gram(problem, None, *many, other=(x[:1], y[:1]), max_bytes=limit), want[:, :1].repeat(500, 1))
    close(gk.gram(problem, None, x[:1], y[:1], other=many, max_bytes=limit), want[:1].repeat(1, 500))
    with pytest.raises(ValueError, match=r"torch.hooks.gram needs about \d\d,\d+,\d+ bytes, max_bytes=16,777,216"):
        gk.gram(problem, None, *many, max_bytes=limit)
