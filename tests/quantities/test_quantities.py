"""Quantities with options as users call them: right numbers by every library and for modules."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hand_worked import ROWS, THETA, P, X, Y, close, wide
from models import oracle
from torch import nn

import gradkernels as gk
from gradkernels.backend import BACKENDS
from gradkernels.quantity import QUANTITIES

CALLS = {
    "weighted_sum": [
        ({"weights": [1.0, 2.0, 0.5]}, [-4, -8]),
        ({"weights": [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]}, [[2, 0], [-2, -2]]),
    ],
    "group_sums": [({"groups": [2, 0, 2], "count": 4}, [[-2, -2], [0, 0], [-2, -8], [0, 0]])],
    "inner": [({"v": [1.0, 10.0]}, [2, -22, -84]), ({"v": [[1.0, 0.0], [0.0, 1.0]]}, ROWS)],
    "gram": [
        ({}, [[4, -4, -8], [-4, 8, 24], [-8, 24, 80]]),
        ({"other": (X[1:2], Y[1:2])}, [[-4], [8], [24]]),
    ],
    "outer": [({}, [[24, 36], [36, 68]]), ({"groups": [7, 7, 3]}, [[16, 32], [32, 68]])],
}
EACH = [(name, options, want) for name, calls in CALLS.items() for options, want in calls]


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
@pytest.mark.parametrize(("name", "options", "want"), EACH)
def test_a_regression_in_every_library(name, options, want, library):
    put = BACKENDS[library].put
    if "other" in options:
        options = {"other": tuple(put(one, "cpu") for one in options["other"])}
    found = getattr(gk, name)(P, put(THETA, "cpu"), put(X, "cpu"), put(Y, "cpu"), **options)
    assert type(found) is type(put(THETA, "cpu"))
    np.testing.assert_allclose(np.asarray(found), want, rtol=1e-12)


@pytest.mark.parametrize(("name", "options", "want"), EACH)
def test_every_kernel_of_a_regression(name, options, want):
    for kernel in gk.kernels(P, name):
        if not kernel.compiles and not kernel.unsupported(gk.Case(P, name, 3)):
            found = getattr(gk, name)(P, THETA, X, Y, kernel=kernel, **options)
            np.testing.assert_allclose(found, want, rtol=1e-12, err_msg=kernel.key)


def test_weighted_sums_of_a_module(module):
    problem, x, y, rows = module
    weights = torch.linspace(-1, 2, 6, dtype=torch.float64)
    close(gk.weighted_sum(problem, None, x, y, weights), {k: torch.tensordot(weights, g, 1) for k, g in rows.items()})
    several = torch.stack([weights, weights**2], 1)
    found = gk.weighted_sum(problem, None, x, y, several)
    close(found, {name: torch.einsum("nk,n...->k...", several, g) for name, g in rows.items()})


def test_group_sums_of_a_module(module):
    problem, x, y, rows = module
    found = gk.group_sums(problem, None, x, y, groups=[0, 2, 2, 0, 2, 2], count=3)
    first, last = torch.tensor([0, 3]), torch.tensor([1, 2, 4, 5])
    want = {k: torch.stack([g[first].sum(0), torch.zeros_like(g[0]), g[last].sum(0)]) for k, g in rows.items()}
    close(found, want)


def test_inner_products_of_a_module_with_directions(module):
    problem, x, y, rows = module
    v = {name: torch.randn_like(g[0]) for name, g in rows.items()}
    close(gk.inner(problem, None, x, y, v), wide(rows) @ torch.cat([one.flatten() for one in v.values()]))
    several = {name: torch.stack([one, 2 * one, -one]) for name, one in v.items()}
    found = gk.inner(problem, None, x, y, several)
    close(found, wide(rows) @ torch.cat([one.flatten(1) for one in several.values()], 1).T)


@pytest.mark.parametrize("way", ["torch.hooks", "torch.vmap"])
def test_results_have_no_graph_whatever_their_options_have(module, way):
    problem, x, y, _ = module
    own, weights = dict(problem.model.named_parameters()), torch.ones(6, dtype=torch.float64, requires_grad=True)
    if way == "torch.hooks":
        assert not gk.inner(problem, None, x, y, own).requires_grad
    assert not gk.inner(problem, None, x, y, own, kernel=way).requires_grad
    assert not gk.weighted_sum(problem, None, x, y, weights, kernel=way)["0.bias"].requires_grad


def test_what_leaves_the_range_of_half_precision_is_infinity_and_no_fault():
    torch.manual_seed(0)
    model = nn.Linear(6, 3).half()
    x, y = torch.randn(5, 6).half() * 100, torch.randn(5, 3).half() * 100
    problem = gk.ModuleProblem(model, nn.MSELoss())
    g = wide(oracle(model, nn.MSELoss(), x, y)).double()
    assert ((g @ g.T).abs() > 2 * 65504).all()
    for way in (None, "torch.hooks", "torch.vmap"):  # a kernel that is set aside is a warning
        assert torch.equal(gk.gram(problem, None, x, y, kernel=way), (g @ g.T).sign().mul(torch.inf).half())
    honest = gk.kernel("torch.vmap+.gram")

    def build(problem):
        compute = honest.build(problem)
        return lambda *arrays, **given: -compute(*arrays, **given)

    with pytest.raises(gk.Disagreement):
        gk.gram(problem, None, x, y, kernel=replace(gk.kernel("torch.hooks.gram"), builder=build))


def test_outer_products_of_a_module(module):
    problem, x, y, rows = module
    g = wide(rows)
    close(gk.outer(problem, None, x, y), g.T @ g)
    sums = torch.stack([g[:3].sum(0), g[3:].sum(0)])
    close(gk.outer(problem, None, x, y, groups=[5, 5, 5, 9, 9, 9]), sums.T @ sums)


def test_groups_of_some_samples_are_numbered_from_zero_on():
    groups = QUANTITIES["outer"].part({"groups": np.array([0, 1, 2, 1, 4])}, [1, 3, 4])["groups"]
    assert groups.tolist() == [0, 0, 1]


@pytest.mark.parametrize("way", ["torch.hooks", "torch.recorded", "torch.loop"])
@pytest.mark.parametrize("n", [1, 3])
def test_no_directions_give_no_columns(module, way, n):
    problem, x, y, rows = module
    v = {name: g[:0] for name, g in rows.items()}
    assert gk.inner(problem, None, x[:n], y[:n], v, kernel=way).shape == (n, 0)


def test_parameters_without_axes_and_without_entries():
    model = nn.Linear(2, 1).double()
    model.factor, model.none = (nn.Parameter(torch.ones(shape, dtype=torch.float64)) for shape in ((), (0, 3)))
    model.register_forward_hook(lambda layer, given, result: result * layer.factor)
    problem = gk.ModuleProblem(model, nn.MSELoss())
    x, y = torch.tensor([[1.0, 2], [3, 4]], dtype=torch.float64), torch.zeros(2, 1, dtype=torch.float64)
    rows = gk.rows(problem, None, x, y)
    v = torch.linspace(-1, 1, rows.shape[1], dtype=torch.float64)
    close(rows @ v, rows.dense() @ v)
    with pytest.raises(ValueError, match=r"^the loss of a sample does not depend on the model's parameters"):
        gk.inner(problem, None, x, y, {"none": torch.zeros(0, 3)}, parameters="none")


def test_outer_products_that_no_memory_holds_are_refused_with_their_bytes(module):
    problem = gk.ModuleProblem(nn.Linear(2**20, 2), nn.CrossEntropyLoss())
    says = (
        r"^the result with 2,097,154 parameters has 17,592,219,598,864 bytes, of memory there are [\d,]+; ask for less$"
    )
    with pytest.raises(ValueError, match=says):
        gk.outer(problem, None, torch.ones(2, 2**20), torch.tensor([0, 1]))
    problem, x, y, _ = module
    need = r"^(?s:.*)outer needs about [\d,]+ bytes, max_bytes=16,000"
    with pytest.raises(ValueError, match=need):
        gk.outer(problem, None, x, y, max_bytes=16_000)


def test_nan_stays_where_it_is():
    x = np.array([0.0, np.nan, 2.0])
    assert np.isnan(gk.inner(P, THETA, x, Y, [1.0, 1.0])).tolist() == [False, True, False]
    assert np.isnan(gk.gram(P, THETA, x, Y)).tolist() == [[False, True, False], [True] * 3, [False, True, False]]
    sums = gk.group_sums(P, THETA, x, Y, groups=[0, 1, 2], count=3)
    assert np.isnan(sums).tolist() == [[False, False], [False, True], [False, False]] or np.isnan(sums[1]).any()
    assert not np.isnan(sums[[0, 2]]).any()
    assert np.isnan(gk.project(P, THETA, x, Y, size=3)).all(1).tolist() == [False, True, False]


def test_no_samples_give_empty_results_and_sums_of_zero():
    none = np.zeros(0)
    assert gk.inner(P, THETA, none, none, [1.0, 1.0]).shape == (0,)
    assert gk.gram(P, THETA, none, none).shape == (0, 0)
    assert gk.project(P, THETA, none, none, size=3).shape == (0, 3)
    assert gk.weighted_sum(P, THETA, none, none, none).tolist() == [0, 0]
    assert gk.group_sums(P, THETA, none, none, groups=np.zeros(0, int), count=2).tolist() == [[0, 0], [0, 0]]
    assert gk.outer(P, THETA, none, none).tolist() == [[0, 0], [0, 0]]


def test_norms_by_parameter_and_by_group(module):
    problem, x, y, rows = module
    close(gk.norms(problem, None, x, y, by="parameter"), {name: g.flatten(1).norm(dim=1) for name, g in rows.items()})
    groups = {"conv": ["0.*"], "biases of the head": "3.b*"}
    found = gk.norms(problem, None, x, y, by=groups)
    conv = torch.cat([rows["0.weight"].flatten(1), rows["0.bias"]], 1).norm(dim=1)
    close(found, {"conv": conv, "biases of the head": rows["3.bias"].norm(dim=1)})
    assert gk.norms(P, THETA, X, Y, by="parameter")["theta"].tolist() == gk.norms(P, THETA, X, Y).tolist()
    with pytest.raises(ValueError, match=r"^by\['a'\] has 'body\.\*', which names no parameter; there are 0.weight, 0"):
        gk.norms(problem, None, x, y, by={"a": ["body.*"]})
    with pytest.raises(ValueError, match=r"^by has 0.bias, 0.weight in two groups; put each parameter into one$"):
        gk.norms(problem, None, x, y, by={"a": ["0.*"], "b": ["0.*"]})
    with pytest.raises(TypeError, match=r"^by is 3; it must be 'parameter', or lists of globs by group"):
        gk.norms(problem, None, x, y, by=3)


def test_norms_of_a_parameter_whose_squares_leave_the_range():
    """1e-26 squared is no number of float32, but the norm is one; the last layer's norms are near 1."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[1].weight.data *= 1e-26
    x, y = torch.randn(5, 3), torch.randn(5, 2)
    rows = oracle(model.double(), nn.MSELoss(), x.double(), y.double())
    found = gk.norms(gk.ModuleProblem(model.float(), nn.MSELoss()), None, x, y, by="parameter", kernel="torch.hooks")
    for name, g in rows.items():
        np.testing.assert_allclose(found[name], g.flatten(1).norm(dim=1), rtol=1e-5)
