"""Quantities with options as users call them: right numbers by every library and for modules, sentences besides."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from models import oracle
from torch import nn

import gradkernels as gk
from gradkernels.backend import BACKENDS
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.quantities import project
from gradkernels.quantities.shared import projections
from gradkernels.quantities.shared.projections import blocks_of_matrix, factors
from gradkernels.quantity import QUANTITIES

# Residuals -1, 1, 2 of y = theta_0 + theta_1 x at (0, 0), hence gradients 2 r (1, x): (2, 0), (-2, -2), (-4, -8).
P, THETA = gk.LinearRegression(), np.zeros(2)
X, Y = np.array([0.0, 1.0, 2.0]), np.array([-1.0, 1.0, 2.0])
ROWS = np.array([[2.0, 0.0], [-2.0, -2.0], [-4.0, -8.0]])
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


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(2, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(9, 3)).double()
    x, y = torch.randn(6, 2, 4, dtype=torch.float64), torch.arange(6) % 3
    rows = oracle(model, nn.CrossEntropyLoss(), x, y)
    return gk.ModuleProblem(model, nn.CrossEntropyLoss()), x, y, rows


def wide(rows):
    return torch.cat([part.flatten(1) for part in rows.values()], 1)


def close(found, want):
    torch.testing.assert_close(found, want, rtol=1e-9, atol=1e-12)


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


@pytest.mark.parametrize("kind", ["gaussian", "factored"])
def test_projections_of_a_module(module, kind):
    problem, x, y, rows = module
    matrices = []
    for name, g in rows.items():
        shape = tuple(g.shape[1:])
        if kind == "factored" and len(shape) > 1:
            outputs, inputs = factors(3, name, shape, 8)
            assert (outputs.shape, inputs.shape) == ((2, shape[0]), (4, g[0].numel() // shape[0]))
            matrices.append(np.einsum("ab,cd->acbd", outputs, inputs).reshape(8, -1))
        else:
            matrices.append(np.concatenate([block for _, block in blocks_of_matrix(3, name, shape, 8)], 1))
    found = gk.project(problem, None, x, y, size=8, seed=3, kind=kind)
    close(found, wide(rows) @ torch.from_numpy(np.concatenate(matrices, 1)).T)
    again = gk.project(problem, None, x[2:3], y[2:3], size=8, seed=3, kind=kind)
    close(again, found[2:3])  # the same matrix for every batch
    other = gk.project(problem, None, x, y, size=8, seed=4, kind=kind)
    assert (other - found).abs().max() > 0.01


@pytest.mark.parametrize("kind", ["gaussian", "factored"])
@pytest.mark.parametrize("way", ["torch.hooks", "torch.vmap"])
def test_parameters_without_entries_have_projections_of_zero(way, kind):
    torch.manual_seed(0)
    model = nn.Linear(4, 3).double()
    model.none = nn.Parameter(torch.zeros(0, dtype=torch.float64))
    x, y = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    found = gk.project(gk.ModuleProblem(model, nn.MSELoss()), None, x, y, size=4, kind=kind, kernel=way)
    del model.none
    close(found, gk.project(gk.ModuleProblem(model, nn.MSELoss()), None, x, y, size=4, kind=kind, kernel=way))


@pytest.mark.parametrize("kind", ["gaussian", "factored"])
def test_projections_keep_inner_products(kind):
    """Unbiased, with the spread of Johnson and Lindenstrauss for the gaussian: var = (|g|^2 |h|^2 + (g.h)^2) / size."""
    rng, size, shape = np.random.default_rng(0), 16, (6, 5)
    g, h = rng.standard_normal((2, *shape))
    estimates = []
    for seed in range(600):
        if kind == "gaussian":
            ((_, matrix),) = blocks_of_matrix(seed, "w", shape, size)
            one, two = matrix @ g.ravel(), matrix @ h.ravel()
        else:
            outputs, inputs = factors(seed, "w", shape, size)
            one, two = (outputs @ part @ inputs.T for part in (g, h))
        estimates.append((one * two).sum())
    exact, spread = (g * h).sum(), np.std(estimates)
    assert abs(np.mean(estimates) - exact) < 4 * spread / 600**0.5
    if kind == "gaussian":
        expected = (((g**2).sum() * (h**2).sum() + exact**2) / size) ** 0.5
        assert 0.87 < spread / expected < 1.15  # a standard deviation of 600 draws is known to 3%


@pytest.mark.parametrize("kind", ["gaussian", "factored"])
def test_no_projection_holds_its_matrix_whole(monkeypatch, kind):
    """Of a large model it is larger than the machine: blocks are made once for all samples, and in checks too."""
    made = []
    generate = projections._generator
    monkeypatch.setattr(projections, "_generator", lambda *given: made.append(given) or generate(*given))
    monkeypatch.setattr(projections, "BLOCK_ENTRIES", 64)
    monkeypatch.setattr("gradkernels.engines.hooks.parameter_use.ROW_BLOCK_BYTES", 1)
    projections.forget_blocks()
    torch.manual_seed(0)
    model, loss = nn.Linear(40, 6).double(), nn.MSELoss()
    x, y = torch.randn(5, 40, dtype=torch.float64), torch.randn(5, 6, dtype=torch.float64)
    compute = gk.kernel("torch.hooks.project").build(gk.ModuleProblem(model, loss))
    found = compute(dict(model.named_parameters()), x, y, size=8, seed=1, kind=kind)
    assert len(made) == {"gaussian": 30, "factored": 2}[kind] + 1
    dense = [
        np.kron(*factors(1, name, tuple(part.shape), 8))
        if kind == "factored" and part.ndim > 1
        else np.concatenate([block for _, block in blocks_of_matrix(1, name, tuple(part.shape), 8)], 1)
        for name, part in model.named_parameters()
    ]
    close(found, wide(oracle(model, loss, x, y)) @ torch.from_numpy(np.concatenate(dense, 1)).T)
    pieces = [block for _, block in project.matrix_blocks(model.state_dict(), 8, 1, kind)]
    assert max(piece.size for piece in pieces) <= 8 * 40
    np.testing.assert_allclose(np.concatenate(pieces, 1), np.concatenate(dense, 1), rtol=1e-15)


def test_blocks_of_a_projection_are_the_same_wherever_they_are_made(monkeypatch):
    whole = np.concatenate([block for _, block in blocks_of_matrix(0, "w", (7, 3), 4)], 1)
    monkeypatch.setattr("gradkernels.quantities.shared.projections.BLOCK_ENTRIES", 4 * 21)
    assert [at for at, _ in blocks_of_matrix(0, "w", (7, 3), 4)] == [slice(0, 21)]
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks_of_matrix(0, "w", (7, 3), 4)], 1), whole)
    # No later version may change them: what was projected with them is compared with what will be.
    np.testing.assert_allclose(whole[0, :3], [-0.34502046344306514, 0.7988108756461304, 0.30457381635464864])


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


BAD = [
    ("inner", {"v": [1.0]}, ValueError, "v is (1,); it must be (2,), or ('K', 2) for K directions"),
    ("inner", {"v": "abc"}, TypeError, "v is a str; pass an array, or a list of numbers"),
    ("inner", {"v": torch.ones(2)}, TypeError, "v is an array of torch, theta of numpy; pass both of the same library"),
    ("weighted_sum", {"weights": [1.0]}, ValueError,
     "weights is (1,); it must be (3,) or (3, K), as there are 3 samples"),
    ("group_sums", {"groups": [0, 1], "count": 2}, ValueError,
     "groups is (2,); it must be (3,), as there are 3 samples"),
    ("group_sums", {"groups": [0, 1, 2], "count": 2}, ValueError,
     "groups holds 2, count is 2; count must be above every group's number"),
    ("group_sums", {"groups": [0, -1, 2], "count": 3}, ValueError, "groups holds -1; groups are numbered from 0 on"),
    ("group_sums", {"groups": [0.5, 1, 2], "count": 3}, TypeError,
     "groups holds float64; it must hold whole numbers, the group of each sample"),
    ("group_sums", {"groups": [0, 1, 2], "count": 0}, ValueError,
     "count is 0; it must be a whole number of at least 1"),
    ("project", {"size": 2.5}, ValueError, "size is 2.5; it must be a whole number of at least 1"),
    ("project", {"size": 4, "kind": "sparse"}, ValueError, "kind is 'sparse'; it must be one of gaussian, factored"),
    ("gram", {"other": X}, TypeError, "other is a ndarray; it must be (x, y), samples like those of the call"),
    ("weighted_sum", {"weights": [1j, 1, 2]}, TypeError, "weights is a list; pass an array, or a list of numbers"),
    ("weighted_sum", {"weights": np.array([1j, 1, 2])}, TypeError,
     "weights holds complex128; it must hold real numbers"),
    ("weighted_sum", {"weights": [1, None, 2]}, TypeError, "weights is a list; pass an array, or a list of numbers"),
    ("group_sums", {"groups": [[0], [1, 1]], "count": 2}, TypeError,
     "groups holds object; it must hold whole numbers, the group of each sample"),
    ("group_sums", {"groups": np.array([0, 1, 2**63], np.uint64), "count": 2}, ValueError,
     "groups holds 9223372036854775808; the highest number of a group is 9223372036854775807"),
    ("project", {"kind": np.array(["gaussian", "x"])}, ValueError,
     "kind is array(['gaussian', 'x'], dtype='<U8'); it must be one of gaussian, factored"),
    ("norms", {"by": {"a": []}}, TypeError,
     "by['a'] is []; it must be a glob or a list of them, such as ['head.*']"),
    ("norms", {"by": {"a": 3}}, TypeError, "by['a'] is 3; it must be a glob or a list of them, such as ['head.*']"),
    ("norms", {"by": ()}, TypeError,
     "by is (); it must be 'parameter', or lists of globs by group: {'head': ['head.*']}"),
    ("norms", {"by": (("a", ("none",)),)}, TypeError,
     "by is (('a', ('none',)),); it must be 'parameter', or lists of globs by group: {'head': ['head.*']}"),
    ("norms", {"by": (("a", ("theta",)), ("b", ("theta",)))}, TypeError,
     "by is (('a', ('theta',)), ('b', ('theta',))); it must be 'parameter', or lists of globs by group: "
     "{'head': ['head.*']}"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "error", "says"), BAD, ids=[f"{one[0]}-{i}" for i, one in enumerate(BAD)])
def test_bad_options_are_named(name, options, error, says, module):
    with pytest.raises(error, match=f"^{re.escape(says)}$"):
        getattr(gk, name)(P, THETA, X, Y, **options)


def test_directions_of_a_module_have_its_names_and_shapes(module):
    problem, x, y, rows = module
    v = {name: torch.zeros_like(g[0]) for name, g in rows.items()}
    with pytest.raises(ValueError, match=r"^v and theta differ in '0.weight'; the names must be those of theta$"):
        gk.inner(problem, None, x, y, {name: one for name, one in v.items() if name != "0.weight"})
    with pytest.raises(ValueError, match=r"^v has parts with leading axes \(\) and \(2,\); give each the same"):
        gk.inner(problem, None, x, y, v | {"0.bias": torch.zeros(2, 3)})


def test_the_kernel_itself_looks_at_options():
    """Its group numbers would be places of an array, where -1 is the last."""
    outer = gk.fastest(P, "outer", like=(THETA, X, Y))
    assert outer(THETA, X, Y, groups=[7, 7, 3]).tolist() == [[16, 32], [32, 68]]
    sums = gk.fastest(P, "group_sums", like=(THETA, X, Y))
    assert sums(THETA, X, Y, [1, 0, 1], 2).tolist() == [[-2, -2], [-2, -8]]
    with pytest.raises(ValueError, match=r"^groups holds -1; groups are numbered from 0 on$"):
        sums(THETA, X, Y, groups=np.array([0, -1, 0]), count=2)
    with pytest.raises(TypeError, match=r"^group_sums has no groups; pass groups=$"):
        sums(THETA, X, Y)
    assert gk.fastest(P, "inner", like=(THETA, X, Y))(THETA, X, Y, [1, 10]).tolist() == [2, -22, -84]


OPTIONS = {"weighted_sum": "weights", "inner": "v"}


def test_what_a_quantity_cannot_do_without_is_asked_for():
    kernel = gk.fastest(P, "norms", n=3)
    assert kernel(THETA, X, Y).shape == (3,)
    problem = gk.ModuleProblem(nn.Linear(1, 1), nn.MSELoss())
    for name, option in OPTIONS.items():
        bound = gk.fastest(problem, name, like=(None, torch.ones(3, 1), torch.ones(3, 1)))
        with pytest.raises(TypeError, match=f"^{name} has no {option}; pass {option}=$"):
            bound(None, torch.ones(3, 1), torch.ones(3, 1))


def one_off(result, n):
    result = result.copy()
    result.flat[0] += 0.01 * abs(result).max()
    return result


MUTANTS = {
    "doubled": (QUANTITIES, lambda result, n: 2 * result),
    "rows in reverse order": (("inner", "project"), lambda result, n: result[::-1].copy()),
    "what is off the diagonal in reverse order": (
        ("gram",), lambda result, n: np.where(np.eye(n, dtype=bool), result, result[::-1])
    ),
    "one entry off": (QUANTITIES, one_off),
}  # fmt: skip
NEW = ("weighted_sum", "group_sums", "inner", "gram", "outer", "project")


@pytest.mark.parametrize(
    ("mutant", "name"), [(mutant, name) for mutant, (names, _) in MUTANTS.items() for name in NEW if name in names]
)
def test_mutants_are_rejected(mutant, name):
    honest, change = gk.kernel(f"numpy.broadcast+.{name}"), MUTANTS[mutant][1]

    def build(problem, **options):
        compute = honest.build(problem)
        return lambda theta, x, y, **given: change(compute(theta, x, y, **given), len(y))

    gk.check(honest, gk.Case(P, name, 5, features=2))
    with pytest.raises(gk.Disagreement):
        gk.check(replace(honest, builder=build), gk.Case(P, name, 5, features=2))


def test_weights_that_moved_by_one_sample_are_rejected():
    honest = gk.kernel("numpy.broadcast+.weighted_sum")

    def build(problem, **options):
        compute = honest.build(problem)
        return lambda theta, x, y, weights: compute(theta, x, y, weights=np.roll(weights, 1, 0))

    with pytest.raises(gk.Disagreement):
        gk.check(replace(honest, builder=build), gk.Case(P, "weighted_sum", 5))


def test_the_matrix_of_rows_is_what_its_rows_say(module):
    problem, x, y, rows = module
    g, matrix = wide(rows), gk.rows(problem, None, x, y)
    assert matrix.shape == (6, 45) == tuple(g.shape)
    assert repr(matrix) == f"Rows({problem.name}, 6 x 45)"
    v, w = torch.randn(45, 2, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    close(matrix @ v, g @ v)
    close(matrix @ v[:, 0], g @ v[:, 0])
    close(matrix @ gk.flat(problem).split(v[:, 0]), g @ v[:, 0])
    close(w @ matrix, w @ g)
    close(w[0] @ matrix, w[0] @ g)
    close(matrix.T @ w.T, g.T @ w.T)
    close(matrix @ matrix.T, g @ g.T)
    close(matrix[:2] @ matrix[3:].T, g[:2] @ g[3:].T)
    close(matrix.norms(), g.norm(dim=1))
    close(matrix.dense(), g)
    close(matrix[1:3].dense(), g[1:3])
    close(gk.flat(problem).join(matrix.mean()), g.mean(0))
    close(gk.flat(problem).join(matrix.variance()), g.var(0, correction=0))
    factors_ = (0.5 / g.norm(dim=1)).clamp(max=1)
    close(gk.flat(problem).join(matrix.clipped_sum(0.5)), factors_ @ g)
    close(matrix.project(8, seed=3), gk.project(problem, None, x, y, size=8, seed=3))


def test_the_matrix_of_rows_is_multiplied_by_what_fits_it():
    matrix = gk.rows(P, THETA, X, Y)
    assert (matrix @ [1.0, 10.0]).tolist() == [2, -22, -84]
    assert ([1.0, 2.0, 0.5] @ matrix).tolist() == (matrix.T @ [1.0, 2.0, 0.5]).tolist() == [-4, -8]
    assert matrix[np.int64(1)].dense().tolist() == matrix[-2].dense().tolist() == [[-2, -2]]
    assert (matrix @ gk.rows(P, THETA.copy(), X[:1], Y[:1]).T).tolist() == [[4], [-4], [-8]]
    with pytest.raises(IndexError):
        matrix[3]
    other = r"^G @ H\.T has one problem and one theta for both; compute G\.dense\(\) @ H\.dense\(\)\.T where they"
    for another in (gk.rows(P, THETA + 1, X, Y), gk.rows(gk.LinearRegression(l2=1.0), THETA, X, Y)):
        with pytest.raises(ValueError, match=other):
            matrix @ another.T
    with pytest.raises(TypeError, match=r"^v is a Rows; multiply by an array, or by the transpose H.T of rows$"):
        matrix @ matrix
    with pytest.raises(TypeError, match=r"^v is a float; multiply by an array"):
        matrix @ 2.0
    with pytest.raises(ValueError, match=r"^v is \(3, 2\); it must be \(2,\) or \(2, K\)$"):
        matrix @ np.zeros((3, 2))
    with pytest.raises(ValueError, match=r"^w is \(4,\); it must be \(3,\) or \(K, 3\)$"):
        np.zeros(4) @ matrix
    with pytest.raises(ValueError, match=r"^w is \(2, 3\); it must be \(3,\) or \(3, K\)$"):
        matrix.T @ np.zeros((2, 3))


def test_the_matrix_of_a_regression_looks_at_its_arrays():
    with pytest.raises(TypeError, match=r"^theta is None; linear has no parameters of its own, pass them$"):
        gk.rows(P, None, X, Y)
    with pytest.raises(TypeError, match=r"^theta is a builtins.list; allowed are arrays of numpy, torch, jax"):
        gk.rows(P, [0.0, 0.0], X, Y)
    with pytest.raises(ValueError, match=r"theta must be \(4,\) for 3 features, intercept first$"):
        gk.rows(P, THETA, np.ones((3, 3)), Y)
    with pytest.raises(TypeError, match=r"^problem is a int; pass a Problem"):
        gk.rows(3, THETA, X, Y)


def test_scipy_runs_on_the_matrix(module):
    from scipy.sparse.linalg import lsqr, svds

    problem, x, y, rows = module
    g, operator = wide(rows).numpy(), gk.rows(problem, None, x, y).linear_operator()
    found = svds(operator, k=3, return_singular_vectors=False)
    np.testing.assert_allclose(np.sort(found), np.sort(np.linalg.svd(g, compute_uv=False))[-3:], rtol=1e-8)
    target = np.arange(6.0)
    np.testing.assert_allclose(g @ lsqr(operator, target, atol=1e-12, btol=1e-12)[0], target, atol=1e-6)
    numpy_rows = gk.rows(P, THETA, X, Y)
    np.testing.assert_allclose(numpy_rows.linear_operator() @ np.array([1.0, 10.0]), [2, -22, -84])
    np.testing.assert_allclose(np.array([1.0, 2.0, 0.5]) @ numpy_rows, [-4, -8])


def test_flat_rows_and_where_parameters_are_in_them(module):
    problem, x, y, rows = module
    layout = gk.flat(problem)
    assert layout.slices == {"0.weight": slice(0, 12), "0.bias": slice(12, 15), "3.weight": slice(15, 42),
                             "3.bias": slice(42, 45)} | {}  # fmt: skip
    close(gk.per_sample(problem, None, x, y, flat=True), wide(rows))
    memory = torch.full((6, len(layout)), torch.nan, dtype=torch.float64)
    assert gk.per_sample(problem, None, x, y, flat=True, out=memory) is memory
    close(memory, wide(rows))
    with pytest.raises(ValueError, match=r"^out is \(6, 3\); it must be \(6, 45\)$"):
        gk.per_sample(problem, None, x, y, flat=True, out=memory[:, :3])


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
