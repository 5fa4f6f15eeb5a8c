"""Tensors of every kind: of a graph, complex, sparse, of several dtypes, under autocast, nested."""

import pytest
import torch
from models import oracle
from modules import seeded
from small_batch import LOSS, WAYS, X, Y, close, layer_of, plain
from torch import nn

import gradkernels as gk
from gradkernels.check.reference import true_gradients


@pytest.mark.parametrize("way", WAYS)
def test_data_from_a_graph_are_data(way):
    backbone, model = nn.Linear(4, 4), seeded(lambda: nn.Linear(4, 3))
    x = backbone(X)
    problem = gk.ModuleProblem(model, LOSS)
    rows = gk.per_sample(problem, None, x, Y, kernel=way)
    close(rows, plain(model, x.detach()))
    assert not any(one.requires_grad for one in rows.values())
    assert backbone.weight.grad is None


class Scaled(nn.Module):
    """A parameter without axes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(4, 3), nn.Parameter(torch.tensor(0.3))

    def forward(self, x):
        return self.layer(x) * self.scale.exp()


class OfComplex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("turn", torch.tensor([1j, 1.0, -1j, 0.5]))

    def forward(self, x):
        return self.layer((x * self.turn).real)


class Casting(nn.Module):
    """A frozen layer in bfloat16, which its input is cast to."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.layer = nn.Linear(4, 4).bfloat16().requires_grad_(False), nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(self.frozen(x.bfloat16()).float())


WORDS = torch.tensor([[0, 1, 1], [2, 3, 0], [4, 4, 4], [1, 0, 2], [3, 2, 1]])


def sparse():
    return nn.Sequential(nn.Embedding(5, 2, sparse=True), nn.Flatten(), nn.Linear(6, 3))


KINDS = {
    "a parameter without axes": (Scaled, X),
    "complex inputs": (OfComplex, torch.complex(X, -X)),
    "sparse gradients": (sparse, WORDS),
}


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("way", ["torch.loop", None])
@pytest.mark.parametrize("quantity", ["per_sample", "norms", "clipped_sum", "gradient", "moments"])
@pytest.mark.parametrize("name", KINDS)
def test_parameters_and_inputs_of_every_kind(name, quantity, way):
    make, x = KINDS[name]
    problem = gk.ModuleProblem(seeded(make), LOSS)
    found = getattr(gk, quantity)(problem, None, x, Y, kernel=way)
    rows = [loss_rows(problem, x, i) for i in range(5)]
    flat = torch.stack([torch.cat([one.flatten() for one in row]) for row in rows]).double()
    norms = flat.norm(dim=1)
    expected = {
        "per_sample": flat,
        "norms": norms,
        "clipped_sum": (flat * (1 / norms).clamp(max=1)[:, None]).sum(0),
        "gradient": flat.mean(0),
        "moments": torch.stack([flat.mean(0), flat.var(0, correction=0)]),
    }[quantity]
    if quantity == "moments":
        found = torch.stack([torch.cat([one.flatten() for one in part.values()]) for part in found])
    elif quantity != "norms":
        first = (5,) if quantity == "per_sample" else ()
        found = torch.cat([one.reshape(*first, -1) for one in found.values()], -1)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def loss_rows(problem, x, i):
    model = problem.model
    parts = torch.autograd.grad(LOSS(model(x[i : i + 1]), Y[i : i + 1]), [*model.parameters()])
    return [part.to_dense() if part.is_sparse else part for part in parts]


def test_frozen_halves_beside_trained_floats():
    problem = gk.ModuleProblem(seeded(Casting), LOSS)
    rows = gk.per_sample(problem, None, X, Y)
    with torch.no_grad():
        inner = problem.model.frozen(X.bfloat16()).float()
    close(layer_of(rows), plain(problem.model.layer, inner))


class TwoDtypes(Casting):
    def __init__(self) -> None:
        super().__init__()
        self.frozen.requires_grad_(True)

    def forward(self, x):
        return self.layer(self.frozen(x.to(self.frozen.weight.dtype)).to(self.layer.weight.dtype))


@pytest.mark.parametrize("way", ["torch.loop", "torch.vmap", "torch.hooks", None])
def test_parameters_of_two_dtypes_give_rows_of_two(way):
    problem = gk.ModuleProblem(seeded(TwoDtypes), LOSS)
    rows = gk.per_sample(problem, None, X, Y, kernel=way)
    assert {name: one.dtype for name, one in rows.items()} == {
        name: one.dtype for name, one in problem.parameters().items()
    }
    for name, expected in oracle(problem.model, LOSS, X, Y).items():
        torch.testing.assert_close(rows[name].double(), expected, rtol=0.05, atol=0.02)


def test_norms_of_two_dtypes_are_of_the_wider_one():
    norms = gk.norms(gk.ModuleProblem(seeded(TwoDtypes), LOSS), None, X, Y)
    assert norms.dtype == torch.float32


def test_dtypes_that_are_not_the_models_are_refused():
    problem = gk.ModuleProblem(seeded(TwoDtypes), LOSS)
    theta = {**problem.parameters(), "frozen.bias": torch.zeros(4)}
    with pytest.raises(
        TypeError, match=r"mixed dtype: .*theta\['frozen.bias'\] torch.float32.* each to that of the mo"
    ):
        gk.norms(problem, theta, X, Y)


class Turned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, dtype=torch.complex64))

    def forward(self, x):
        return (x.to(torch.complex64) @ self.weight).abs()


def test_complex_parameters_are_refused_with_what_to_do():
    with pytest.raises(TypeError, match=r"theta\['weight'\] is torch.complex64; .* keep torch.view_as_real of it"):
        gk.norms(gk.ModuleProblem(Turned(), LOSS), None, X, Y)


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(5, 3)

    def forward(self, words, offsets):
        return self.bag(words, offsets)


def test_an_embedding_bag_with_offsets_is_refused_with_its_reason():
    x = WORDS.flatten(), torch.arange(0, 15, 3)
    with pytest.raises(ValueError, match="given offsets has the words of all samples on one axis: give it words as"):
        gk.norms(gk.ModuleProblem(Bag(), LOSS), None, x, Y)


class Inside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            output = self.second(torch.tanh(self.first(x)))
        return output.float()


@pytest.mark.parametrize("way", ["torch.loop", "torch.hooks", None])
def test_autocast_inside_the_model(way):
    problem = gk.ModuleProblem(seeded(Inside), LOSS)
    rows = gk.per_sample(problem, None, X, Y, kernel=way)
    for name, expected in oracle(problem.model, LOSS, X, Y).items():
        torch.testing.assert_close(rows[name].double(), expected, rtol=0.05, atol=0.02)


def test_autocast_around_the_call():
    problem = gk.ModuleProblem(seeded(lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))), LOSS)
    with torch.autocast("cpu", torch.bfloat16):
        rows = gk.per_sample(problem, None, X, Y)
    for name, expected in oracle(problem.model, LOSS, X, Y).items():
        torch.testing.assert_close(rows[name].double(), expected, rtol=0.05, atol=0.02)


class MaskedByTheLargest(nn.Module):
    """Adds the smallest number of float32 twice: finite in float32 after the clamp, as attention masks are made."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        huge = torch.finfo(x.dtype).max if x.dtype == torch.float64 else 1.0
        return self.layer(x) + (huge * 2 - huge * 2)


def test_a_reference_that_is_not_finite_in_float64_is_computed_in_the_models_own_dtype():
    problem = gk.ModuleProblem(seeded(MaskedByTheLargest), LOSS)
    rows = gk.per_sample(problem, None, X, Y)
    close(layer_of(rows), plain(problem.model.layer, X))
    theta = {name: one.detach().double().numpy() for name, one in problem.parameters().items()}
    truth = true_gradients(problem, theta, X.double().numpy(), Y.numpy()).rows  # what kernels are timed against
    wanted = torch.cat([one.flatten(1) for one in plain(problem.model.layer, X).values()], 1)
    torch.testing.assert_close(torch.from_numpy(truth), wanted.double(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("loss", "error", "says"),
    [
        (lambda output, y: LOSS(output, y).item(), TypeError, "loss_fn returned a float; it must return a tensor"),
        (lambda output, y: None, TypeError, "loss_fn returned a NoneType; it must return a tensor"),
        (lambda output, y: (LOSS(output, y), 0), TypeError, "loss_fn returned a tuple; it must return a tensor"),
        (lambda output, y: LOSS(output.detach(), y), ValueError, "does not depend on the model's parameters"),
    ],
)
def test_a_loss_without_a_gradient_is_refused_in_a_sentence(loss, error, says):
    with pytest.raises(error, match=says):
        gk.norms(gk.ModuleProblem(nn.Linear(4, 3), loss), None, X, Y)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
def test_nested_tensors_are_refused_in_a_sentence():
    x = torch.nested.nested_tensor([X[0], X[1]])
    with pytest.raises(ValueError, match="x is a nested tensor, .* torch.nested.to_padded_tensor"):
        gk.norms(gk.ModuleProblem(nn.Linear(4, 3), LOSS), None, x, Y[:2])
