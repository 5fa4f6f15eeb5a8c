"""`parameters=`: all is as if everything had been computed and the rest dropped; the model stays as it is."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from models import CROSS_ENTROPY, MODELS, Recurrent, Tied, normalised, oracle
from torch import nn

import gradkernels as gk


class LowRank(nn.Module):
    """A frozen map with a trained product of two small ones beside it."""

    def __init__(self):
        super().__init__()
        self.base = nn.Linear(4, 5)
        self.base.requires_grad_(False)
        self.down, self.up = nn.Linear(4, 2, bias=False), nn.Linear(2, 5, bias=False)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.base(x) + self.up(self.down(x))))


CASES = {
    "perceptron": (*MODELS["multilayer perceptron"](6), ["2.*"], {"2.weight", "2.bias"}),
    "first layer": (*MODELS["multilayer perceptron"](6), "0.weight", {"0.weight"}),
    "tied": (Tied(), CROSS_ENTROPY, torch.randint(0, 7, (6, 5)), torch.randint(0, 7, (6,)), "decoder.*",
             {"embedding.weight"}),
    "low rank": (LowRank(), CROSS_ENTROPY, torch.randn(6, 4), torch.arange(6) % 3, ["up.*", "down.weight"],
                 {"down.weight", "up.weight"}),
    "batch norm": (normalised(), CROSS_ENTROPY, torch.randn(6, 4), torch.arange(6) % 3, "[12].bias",
                   {"1.bias", "2.bias"}),
    "recurrent": (Recurrent(), CROSS_ENTROPY, torch.randn(6, 5, 3), torch.arange(6) % 3, ["head.*", "lstm.weight_hh*"],
                  {"lstm.weight_hh_l0", "head.weight", "head.bias"}),
}  # fmt: skip


def close(found, want):
    torch.testing.assert_close(found, want, rtol=1e-8, atol=1e-10)


def flat(rows):
    return torch.cat([one.flatten(1) for one in rows.values()], 1)


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """A problem, its batch, the names that are asked for, and their rows from single samples."""
    model, loss, x, y, asked, names = CASES[request.param]
    model = copy.deepcopy(model).double()
    x = x.double() if x.is_floating_point() else x
    rows = {name: one for name, one in oracle(model, loss, x, y).items() if name in names}
    assert rows.keys() == names
    return gk.ModuleProblem(model, loss), x, y, asked, rows


def test_every_quantity_is_that_of_the_named_parameters(case):
    problem, x, y, asked, rows = case
    g, n, only = flat(rows), len(y), {"parameters": asked}
    norms, weights = g.norm(dim=1), torch.linspace(-1, 2, n, dtype=torch.float64)
    limit = float(norms.median())
    factors = (limit / norms).clamp(max=1)
    close(gk.gradient(problem, None, x, y, **only), {name: one.mean(0) for name, one in rows.items()})
    close(gk.per_sample(problem, None, x, y, **only), rows)
    close(gk.norms(problem, None, x, y, **only), norms)
    by = {name: one.flatten(1).norm(dim=1) for name, one in rows.items()}
    close(gk.norms(problem, None, x, y, by="parameter", **only), by)
    clipped = {name: torch.tensordot(factors, one, 1) for name, one in rows.items()}
    close(gk.clipped_sum(problem, None, x, y, limit, **only), clipped)
    variance = {name: one.var(0, correction=0) for name, one in rows.items()}
    close(gk.moments(problem, None, x, y, **only).variance, variance)
    weighted = {name: torch.tensordot(weights, one, 1) for name, one in rows.items()}
    close(gk.weighted_sum(problem, None, x, y, weights, **only), weighted)
    groups = [0, 1] * (n // 2)
    sums = {name: torch.stack([one[::2].sum(0), one[1::2].sum(0)]) for name, one in rows.items()}
    close(gk.group_sums(problem, None, x, y, groups, 2, **only), sums)
    v = {name: torch.ones_like(one[0]) for name, one in rows.items()}
    close(gk.inner(problem, None, x, y, v, **only), g.sum(1))
    close(gk.gram(problem, None, x, y, **only), g @ g.T)
    close(gk.outer(problem, None, x, y, **only), g.T @ g)
    projected = gk.project(problem, None, x, y, size=4, **only)
    alone = gk.project(problem, None, x[:2], y[:2], size=4, kernel="torch.loop", **only)
    close(projected[:2], alone)


def test_what_is_made_of_the_calls_knows_the_names_too(case):
    problem, x, y, asked, rows = case
    g, only = flat(rows), {"parameters": asked}
    layout = gk.flat(problem, **only)
    assert list(layout) == list(gk.per_sample(problem, None, x, y, **only))
    assert len(layout) == g.shape[1]
    matrix = gk.rows(problem, None, x, y, **only)
    assert matrix.shape == g.shape
    dense = matrix.dense()
    close(layout.split(dense), rows)
    close(gk.per_sample(problem, None, x, y, flat=True, **only), dense)
    close(matrix @ torch.ones(g.shape[1], dtype=torch.float64), g.sum(1))
    chunks = [part for _, part in gk.per_sample_chunks(problem, None, x, y, chunk=4, **only)]
    close({name: torch.cat([part[name] for part in chunks]) for name in rows}, rows)
    bound = gk.fastest(problem, "norms", like=(None, x, y), **only)
    close(bound(None, x, y), g.norm(dim=1))
    alone = gk.fastest(problem, "norms", like=(None, x, y), audit=False, **only)
    close(alone(None, x, y), g.norm(dim=1))


def test_the_model_is_what_it_was(case):
    problem, x, y, asked, _ = case
    before = [(one, one.requires_grad, one._version, one.grad) for one in problem.model.parameters()]
    gk.norms(problem, None, x, y, parameters=asked)
    with pytest.raises(TypeError):
        gk.norms(problem, None, x, y, out=3, parameters=asked)
    after = [(one, one.requires_grad, one._version, one.grad) for one in problem.model.parameters()]
    assert [item[1:] for item in before] == [item[1:] for item in after]
    assert all(a[0] is b[0] for a, b in zip(before, after, strict=True))


def test_all_of_the_parameters_may_be_given_and_the_others_count():
    torch.manual_seed(1)
    model, loss, x, y = MODELS["multilayer perceptron"](5)
    model, x = model.double(), x.double()
    problem = gk.ModuleProblem(model, loss)
    theta = {name: torch.randn_like(one) for name, one in model.named_parameters()}
    other = copy.deepcopy(model)
    other.load_state_dict(theta)
    rows = {name: one for name, one in oracle(other, loss, x, y).items() if name.startswith("2.")}
    close(gk.per_sample(problem, theta, x, y, parameters="2.*"), rows)
    some = {name: theta[name] for name in ("2.weight", "2.bias")}
    mixed = copy.deepcopy(model)
    mixed.load_state_dict(some, strict=False)
    rows = {name: one for name, one in oracle(mixed, loss, x, y).items() if name.startswith("2.")}
    close(gk.per_sample(problem, some, x, y, parameters="2.*"), rows)
    assert all(one.requires_grad for one in model.parameters())
    with pytest.raises(ValueError, match=r"^theta\['0.bias'\] is \(2,\); it must be \(5,\) as in the model$"):
        gk.norms(problem, {**theta, "0.bias": torch.zeros(2).double()}, x, y, parameters="2.*")
    with pytest.raises(ValueError, match="^theta has 'none' besides"):
        gk.norms(problem, {**theta, "none": torch.zeros(2).double()}, x, y, parameters="2.*")
    with pytest.raises(ValueError, match=r"^theta lacks '2.bias'; the model's trainable parameters are"):
        gk.norms(problem, {"2.weight": theta["2.weight"]}, x, y, parameters="2.*")


def test_the_same_names_are_one_problem_in_any_order_and_no_others():
    model, loss, *_ = MODELS["multilayer perceptron"](5)
    problem = gk.ModuleProblem(model, loss)
    one = problem.restricted(["2.bias", "0.weight"])
    assert problem.restricted(("0.weight", "2.bias", "0.weight")) is one
    assert problem.restricted({"0.weight"}) is not one
    assert one != problem
    assert one.name != problem.name
    assert one.restricted("0.*").parameters().keys() == {"0.weight"}
    for number in range(40):
        problem.restricted(["0.weight", "*" * (number + 1)])
    assert len(problem.cache["restricted"]) == 16


def test_names_that_name_nothing_are_refused_with_near_ones():
    model, loss, x, y = MODELS["multilayer perceptron"](5)
    problem = gk.ModuleProblem(model, loss)
    with pytest.raises(
        ValueError, match=r"^parameters: there is no trained parameter '0.wieght'; did you mean 0.weigh"
    ):
        gk.norms(problem, None, x, y, parameters=["0.wieght", "2.*"])
    with pytest.raises(ValueError, match="^parameters names nothing; give at least one name"):
        gk.norms(problem, None, x, y, parameters=[])
    with pytest.raises(TypeError, match=r"^parameters is 3; it must be a name, or a list of names or globs"):
        gk.gradient(problem, None, x, y, parameters=3)
    with pytest.raises(TypeError, match=r"^parameters is \[1\]; it must be a name"):
        gk.rows(problem, None, x, y, parameters=[1])
    frozen = MODELS["frozen weight"](5)[0]
    with pytest.raises(ValueError, match="there is no trained parameter '0.weight'"):
        gk.flat(gk.ModuleProblem(frozen, loss), parameters="0.weight")
    model.requires_grad_(False)[2].requires_grad_(True)
    with pytest.raises(ValueError, match=r"there is no trained parameter '0.\*'; known: 2.weight, 2.bias"):
        gk.norms(problem, None, x, y, parameters="0.*")


def test_a_regression_has_no_names():
    problem = gk.LinearRegression()
    arrays = problem.draw(5, seed=0)
    says = r"^parameters='w' names parameters of a module; theta of linear is one array"
    for call in (gk.gradient, gk.norms, gk.gram, gk.rows, gk.per_sample_chunks):
        with pytest.raises(TypeError, match=says):
            call(problem, *arrays, parameters="w")
    with pytest.raises(TypeError, match=says):
        gk.flat(problem, parameters="w")
    with pytest.raises(TypeError, match="^problem is a int"):
        gk.norms(3, *arrays, parameters="w")


def test_what_is_trained_later_is_found_and_what_is_not_is_missed():
    model, loss, x, y = MODELS["multilayer perceptron"](5)
    problem = gk.ModuleProblem(model, loss)
    assert gk.per_sample(problem, None, x, y, parameters=["0.*", "2.*"]).keys() == dict(model.named_parameters()).keys()
    model[0].bias.requires_grad_(False)
    assert "0.bias" not in gk.per_sample(problem, None, x, y, parameters=["0.*", "2.*"])
    only = problem.restricted("2.bias")
    model[2].bias.requires_grad_(False)
    with pytest.raises(
        ValueError, match=r"^parameters=\['2.bias'\] names no parameter of Sequential that is trained now"
    ):
        gk.norms(only, None, x, y)


def test_rows_of_the_others_are_not_computed():
    class Watched(torch.autograd.Function):
        """An identity that counts the gradients that pass it."""

        passed = 0

        @staticmethod
        def forward(ctx, x):
            return x.view_as(x)

        @staticmethod
        def backward(ctx, g):
            Watched.passed += 1
            return g

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.below, self.head = nn.Linear(4, 5), nn.Linear(5, 3)

        def forward(self, x):
            return self.head(Watched.apply(torch.tanh(self.below(x))))

    problem = gk.ModuleProblem(Model(), CROSS_ENTROPY)
    x, y = torch.randn(6, 4), torch.arange(6) % 3
    gk.norms(problem, None, x, y, parameters="head.*")
    assert Watched.passed == 0
    gk.norms(problem, None, x, y, kernel="torch.loop", parameters="below.*")
    assert Watched.passed


def test_a_kernel_is_checked_on_the_named_parameters():
    model, loss, x, y = MODELS["multilayer perceptron"](8)
    problem = gk.ModuleProblem(model.double(), loss, example=(x.double(), y))
    case = gk.Case(problem, "norms", n=8)
    proof = gk.check("torch.hooks.norms", case, parameters="2.*")
    assert proof.error <= proof.tolerance

    def of_all(theta, x, y):
        return gk.norms(problem, None, x, y)

    with pytest.raises(gk.Disagreement):
        gk.check(of_all, case, parameters="2.*")
    with pytest.raises(TypeError, match="names parameters of a module"):
        gk.check("numpy.matmul.norms", gk.Case(gk.LinearRegression(), "norms", n=8), parameters="2.*")


def test_numpy_arrays_of_names_are_no_names():
    model, loss, x, y = MODELS["multilayer perceptron"](5)
    with pytest.raises(TypeError, match="^parameters is array"):
        gk.norms(gk.ModuleProblem(model, loss), None, x, y, parameters=np.array(["0.bias"]))


class OwnLoss(nn.Module):
    """Computes its loss itself, of inputs by name; one of them is the same for all samples."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x, labels, scale):
        return SimpleNamespace(loss=CROSS_ENTROPY(self.head(scale * self.body(x)), labels))


def test_a_model_with_a_loss_of_its_own_has_a_matrix_of_rows():
    torch.manual_seed(0)
    problem = gk.ModuleProblem(OwnLoss(), None, shared=("scale",))
    x = {"x": torch.randn(5, 4), "labels": torch.arange(5) % 3, "scale": torch.tensor(2.0)}
    rows = gk.per_sample(problem, None, x, None, parameters="head.*")
    matrix = gk.rows(problem, None, x, None, parameters="head.*")
    assert matrix.shape == (5, 15)
    torch.testing.assert_close(
        matrix.layout.split(gk.per_sample(problem, None, x, None, flat=True, parameters="head.*")), rows
    )
    torch.testing.assert_close(matrix[1:3].dense(), matrix.layout.join({k: one[1:3] for k, one in rows.items()}, 1))
