"""`torch.jvp`: products of gradients with directions by forward-mode differentiation, or a sentence why not."""

import pytest
import torch
from models import oracle
from torch import nn
from torch.nn import functional as F

import gradkernels as gk
from gradkernels.engines.hooks.errors import Unfit

LOSS = nn.CrossEntropyLoss()


def directions(model, *leading):
    torch.manual_seed(3)
    return {name: torch.randn(*leading, *one.shape, dtype=one.dtype) for name, one in model.named_parameters()}


def along(rows, v):
    return sum((rows[name].flatten(1) @ one.flatten() for name, one in v.items()))


def require_equal(model, x, y, loss=LOSS):
    problem = gk.ModuleProblem(model, loss)
    rows, v = oracle(model, loss, x, y), directions(model)
    found = gk.kernel("torch.jvp.inner").build(problem)(problem.parameters(), x, y, v)
    torch.testing.assert_close(found, along(rows, v), rtol=1e-9, atol=1e-12)
    assert not found.requires_grad


class Blocked(nn.Module):
    """A scale that `no_grad` takes out of the derivative, as rotary embeddings are, and a value that is detached."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        h = torch.tanh(self.first(x))
        with torch.no_grad():
            scale = self.first.weight.norm() + h.abs().mean(1, keepdim=True)
        return self.second(h * scale) + self.second.bias.detach().exp()


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(7, 4)
        self.out = nn.Linear(4, 7, bias=False)
        self.out.weight = self.words.weight

    def forward(self, ids):
        return self.out(torch.tanh(self.words(ids))).mean(1)[:, :3]


def encoder():
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), nn.Flatten(), nn.Linear(24, 3))


def convolution():
    return nn.Sequential(nn.Conv1d(2, 4, 2), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3))


MODELS = {
    "no_grad and detach": (Blocked, (4,)),
    "an encoder": (encoder, (3, 8)),
    "convolution and normalisation": (convolution, (2, 4)),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n", [1, 5])
def test_along_a_direction(name, n):
    torch.manual_seed(0)
    make, shape = MODELS[name]
    require_equal(make().double().eval(), torch.randn(n, *shape, dtype=torch.float64), torch.arange(n) % 3)


def test_a_parameter_that_is_used_twice():
    torch.manual_seed(0)
    require_equal(Tied().double(), torch.randint(7, (5, 3)), torch.arange(5) % 3)


def test_a_loss_of_ones_own():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3)).double()
    require_equal(model, torch.randn(5, 4, dtype=torch.float64), torch.arange(5) % 3,
                  lambda output, y: F.cross_entropy(output, y) + output.square().mean())  # fmt: skip


def test_several_directions_chunks_and_no_samples():
    torch.manual_seed(0)
    model = Blocked().double()
    x, y, problem = torch.randn(5, 4, dtype=torch.float64), torch.arange(5) % 3, gk.ModuleProblem(model, LOSS)
    rows, v = oracle(model, LOSS, x, y), directions(model, 3)
    want = torch.stack([along(rows, {name: one[k] for name, one in v.items()}) for k in range(3)], 1)
    for kernel in ("torch.jvp.inner", "torch.jvp[chunk=2].inner"):
        compute = gk.kernel(kernel).build(problem)
        torch.testing.assert_close(compute(problem.parameters(), x, y, v), want)
    assert compute(problem.parameters(), x[:0], y[:0], v).shape == (0, 3)
    assert compute(problem.parameters(), x, y, directions(model, 0)).shape == (5, 0)
    with pytest.raises(Unfit, match="^torch.jvp takes a pass for each of 9 directions; torch.hooks has all from one$"):
        compute(problem.parameters(), x, y, directions(model, 9))


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        return 3 * ctx.saved_tensors[0] ** 2 * g


class Cubed(nn.Linear):
    def forward(self, x):
        return Cube.apply(super().forward(x))


def test_an_operation_without_a_forward_mode_is_refused_and_another_kernel_computes():
    torch.manual_seed(0)
    model = Cubed(4, 3).double()
    x, y, problem = torch.randn(5, 4, dtype=torch.float64), torch.arange(5) % 3, gk.ModuleProblem(model, LOSS)
    rows, v = oracle(model, LOSS, x, y), directions(model)
    with pytest.raises(Unfit, match="^torch.jvp needs forward-mode differentiation, which torch has not here: "):
        gk.kernel("torch.jvp.inner").build(problem)(problem.parameters(), x, y, v)
    torch.testing.assert_close(gk.inner(problem, None, x, y, v), along(rows, v))


def test_it_is_proven_and_chosen_like_any_kernel():
    torch.manual_seed(0)
    model = Blocked()
    x, y, problem = torch.randn(5, 4), torch.arange(5) % 3, gk.ModuleProblem(model, LOSS)
    rows, v = oracle(model.double(), LOSS, x.double(), y), directions(model)
    model.float()
    found = gk.inner(problem, None, x, y, {name: one.float() for name, one in v.items()}, kernel="torch.jvp")
    torch.testing.assert_close(found.double(), along(rows, v), rtol=1e-4, atol=1e-5)


def test_a_draw_for_each_sample_is_the_same_in_every_direction_and_none_is_shared():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3)).double()
    x, y, v = torch.randn(5, 4, dtype=torch.float64), torch.arange(5) % 3, directions(model)
    problem = gk.ModuleProblem(model, LOSS, randomness="different")
    compute = gk.kernel("torch.jvp.inner").build(problem)
    one = compute(problem.parameters(), x, y, v)
    both = compute(problem.parameters(), x, y, {name: torch.stack([part, 2 * part]) for name, part in v.items()})
    torch.testing.assert_close(both, torch.stack([one, 2 * one], 1))
    same = gk.ModuleProblem(model, LOSS, randomness="same")
    with pytest.raises(ValueError, match="torch.jvp draws random numbers for a batch, not the same for every sample"):
        gk.inner(same, None, x, y, v, kernel="torch.jvp")
