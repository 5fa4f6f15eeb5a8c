"""Inner products of each two samples: by parameter and group, in blocks of samples, whatever the size of factors."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from models import oracle
from torch import nn
from torch.nn import functional as F

import gradkernels as gk
from gradkernels.engines.hooks.errors import Unfit
from gradkernels.engines.hooks.rules.linear import convolution, linear
from gradkernels.engines.hooks.rules.linear.convolution import Convolution
from gradkernels.engines.hooks.rules.linear.gram import cheaper_products

LOSS = nn.CrossEntropyLoss()
GROUPS = {"words": "words.*", "rest": ["cell.*", "scale"]}


class Tied(nn.Module):
    """A table that is the last map too, a cell that runs twice, and a scale that nothing is multiplied by alone."""

    def __init__(self):
        super().__init__()
        self.words, self.cell = nn.Embedding(7, 4), nn.Linear(4, 4)
        self.out = nn.Linear(4, 7, bias=False)
        self.out.weight = self.words.weight
        self.scale = nn.Parameter(torch.rand(4))

    def forward(self, ids):
        h = self.words(ids)
        for _ in range(2):
            h = torch.tanh(self.cell(h)) * self.scale
        return self.out(h).mean(1)[:, :3]


@pytest.fixture(scope="module")
def tied():
    torch.manual_seed(0)
    model = Tied().double()
    x, y = torch.randint(7, (7, 3)), torch.arange(7) % 3
    return gk.ModuleProblem(model, LOSS), x, y, oracle(model, LOSS, x, y)


def wide(rows, names):
    return torch.cat([rows[name].flatten(1) for name in names], 1)


def wanted(rows, groups, at=slice(None), to=slice(None)):
    return {group: wide(rows, names)[at] @ wide(rows, names)[to].T for group, names in groups.items()}


def close(found, want):
    torch.testing.assert_close(found, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("way", [None, "torch.hooks", "torch.vmap", "torch.loop"])
def test_by_parameter_and_by_group(tied, way):
    problem, x, y, rows = tied
    close(gk.gram(problem, None, x, y, by="parameter", kernel=way), wanted(rows, {name: [name] for name in rows}))
    groups = {"words": ["words.weight"], "rest": ["cell.weight", "cell.bias", "scale"]}
    found = gk.gram(problem, None, x, y, by=GROUPS, kernel=way)
    close(found, wanted(rows, groups))
    close(found["words"] + found["rest"], gk.gram(problem, None, x, y))
    found = gk.gram(problem, None, x[:3], y[:3], other=(x[2:], y[2:]), by={"rest": GROUPS["rest"]}, kernel=way)
    close(found, wanted(rows, {"rest": groups["rest"]}, slice(3), slice(2, None)))


def test_of_a_regression_and_of_no_samples(tied):
    theta, x, y = np.zeros(2), np.array([0.0, 1, 2]), np.array([-1.0, 1, 2])
    found = gk.gram(gk.LinearRegression(), theta, x, y, by="parameter")
    assert found["theta"].tolist() == [[4, -4, -8], [-4, 8, 24], [-8, 24, 80]]
    problem, x, y, _ = tied
    assert gk.gram(problem, None, x[:0], y[:0], by=GROUPS)["rest"].shape == (0, 0)
    assert gk.gram(problem, None, x, y, other=(x[:0], y[:0]), by=GROUPS)["words"].shape == (7, 0)


def test_groups_that_name_nothing_are_refused(tied):
    problem, x, y, _ = tied
    with pytest.raises(ValueError, match=r"^by\['a'\] has 'body\.\*', which names no parameter; there are scale"):
        gk.gram(problem, None, x, y, by={"a": ["body.*"]})
    with pytest.raises(TypeError, match=r"^by is 3; it must be 'parameter', or lists of globs by group"):
        gk.gram(problem, None, x, y, by=3)


@pytest.mark.parametrize("chunk", [2, 3, 4, 6, 7, 13])
def test_blocks_of_samples_are_put_together(tied, chunk):
    problem, x, y, rows = tied
    theta, every = problem.parameters(), {"all": [*rows]}
    compute = gk.kernel(f"torch.hooks[chunk={chunk}].gram").build(problem)
    close(compute(theta, x, y), wanted(rows, every)["all"])
    for at, to in ((slice(2), slice(None)), (slice(None), slice(5, 6)), (slice(5), slice(1, 7))):
        found = compute(theta, x[at], y[at], (x[to], y[to]))
        close(found, wanted(rows, every, at, to)["all"])
    by = (("cell", ("cell.weight", "cell.bias")), ("scale", ("scale",)))
    found = gk.kernel(f"torch.hooks[chunk={chunk}].gram_by").build(problem)(theta, x, y, by)
    close(found, wanted(rows, dict(by)))


def test_no_more_samples_run_at_once_than_a_chunk_has(tied):
    problem, x, y, _ = tied
    sizes = []
    hook = problem.model.cell.register_forward_hook(lambda module, args, output: sizes.append(len(output)))
    gk.kernel("torch.hooks[chunk=4].gram").build(problem)(problem.parameters(), x, y)
    gk.kernel("torch.hooks[chunk=4].gram").build(problem)(problem.parameters(), x, y, (x[:5], y[:5]))
    hook.remove()
    assert max(sizes) == 4


def test_samples_that_draw_numbers_of_their_own_are_not_run_in_blocks():
    model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2)).double()
    problem = gk.ModuleProblem(model, LOSS, randomness="different")
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.arange(5) % 2
    with pytest.raises(Unfit, match="^in blocks of samples torch.hooks draws other random numbers for each block"):
        gk.kernel("torch.hooks[chunk=4].gram").build(problem)(problem.parameters(), x, y)
    same = gk.ModuleProblem(model, LOSS, randomness="same")
    whole, blocks = (gk.kernel(f"torch.hooks{chunk}.gram").build(same) for chunk in ("", "[chunk=4]"))
    close(blocks(same.parameters(), x, y), whole(same.parameters(), x, y))


@pytest.mark.parametrize("steps", [None, 2])
@pytest.mark.parametrize(("size", "factor"), [(1e25, 1e-25), (1e-25, 1e22)])
def test_factors_whose_squares_leave_the_range_of_float32(steps, size, factor):
    torch.manual_seed(0)
    model = nn.Linear(24, 16, bias=False)

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = model

        def forward(self, x):
            h = self.layer(x) * factor
            return h if steps is None else h.sum(1)

    x = torch.randn(5, *[steps] * (steps is not None), 24) * size
    y, problem = torch.randn(5, 16), gk.ModuleProblem(Scaled(), nn.MSELoss(reduction="sum"), reduction="sum")
    found = gk.kernel("torch.hooks.gram").build(problem)(problem.parameters(), x, y)
    model.double()
    g = wide(oracle(problem.model, nn.MSELoss(reduction="sum"), x.double(), y.double()), ["layer.weight"])
    model.float()
    torch.testing.assert_close(found, (g @ g.T).float(), rtol=1e-4, atol=1e-5 * float((g @ g.T).max()))


def test_factors_beyond_float64_are_refused():
    model = nn.Linear(3, 2, bias=False).double()
    problem = gk.ModuleProblem(model, lambda output, y: (1e-170 * output).square().sum(), reduction="sum")
    x, y = torch.full((2, 3), 1e170, dtype=torch.float64), torch.zeros(2)
    with pytest.raises(Unfit, match="leave the range of float64; use torch.vmap$"):
        gk.kernel("torch.hooks.gram").build(problem)(problem.parameters(), x, y)


def test_zero_gradients_and_what_is_not_finite_are_no_matter_of_range():
    model = nn.Linear(3, 2, bias=False)
    problem = gk.ModuleProblem(model, lambda output, y: F.relu(output).sum(), reduction="sum")
    x = torch.tensor([[1.0, 2, 3], [-1, -2, -3], [torch.nan, 0, 0]])
    model.weight.data.fill_(1.0)
    found = gk.kernel("torch.hooks.gram").build(problem)(problem.parameters(), x, torch.zeros(3))
    assert found[:2, :2].tolist() == [[28, 0], [0, 0]]
    assert found[2].isnan().all() or found[2, 2].isnan()


def test_a_regression_whose_factors_leave_the_range_of_float32():
    """Residuals of 1e-25 and features of 1e25: gradients are near 2."""
    x = np.array([1e25, 2e25], np.float32)
    y = np.array([-1e-25, 1e-25], np.float32)
    found = gk.gram(gk.LinearRegression(fit_intercept=False), np.zeros(1, np.float32), x, y, kernel="numpy.matmul")
    np.testing.assert_allclose(found, [[4, -8], [-8, 16]], rtol=1e-6)


def wrong(kernel, change):
    honest = gk.kernel(kernel)

    def build(problem, **options):
        compute = honest.build(problem)
        return lambda *arrays, **given: change(compute, *arrays, **given)

    return replace(honest, builder=build)


def one_layer_left_out(compute, theta, x, y, **given):
    if "by" in given:
        found = compute(theta, x, y, **given)
        last = [*found][-1]
        return {**found, last: found[last] - compute(theta, x, y, **given | {"by": (("a", ("cell.bias",)),)})["a"]}
    v = given["v"] | {"cell.bias": torch.zeros_like(given["v"]["cell.bias"])}
    return compute(theta, x, y, v=v)


def blocks_swapped(compute, theta, x, y, **given):
    def swapped(found):
        h = found.shape[0] // 2
        found[:h, h:], found[h:, :h] = found[:h, h:].flip(1).clone(), found[h:, :h].flip(0).clone()
        return found

    found = compute(theta, x, y, **given)
    return {name: swapped(one) for name, one in found.items()} if isinstance(found, dict) else swapped(found)


def not_transposed(compute, theta, x, y, **given):
    found = compute(theta, x, y, **given)
    return {name: one.triu() for name, one in found.items()} if isinstance(found, dict) else found.triu()


@pytest.mark.parametrize(
    ("kernel", "change"),
    [
        ("torch.hooks.gram_by", one_layer_left_out),
        ("torch.hooks.gram_by", blocks_swapped),
        ("torch.hooks.gram_by", not_transposed),
        ("torch.hooks.gram", blocks_swapped),
        ("torch.jvp.inner", one_layer_left_out),
        ("torch.hooks.inner", one_layer_left_out),
    ],
)
def test_mutants_are_rejected(kernel, change, tied):
    problem, x, y, rows = tied
    quantity, options = gk.kernel(kernel).quantity.name, {}
    if quantity == "inner":
        options = {"v": {name: torch.ones_like(one[0]) for name, one in rows.items()}}
    call = getattr(gk, quantity.removesuffix("_by"))
    if quantity == "gram_by":
        options = {"by": "parameter"}
    with pytest.raises(gk.Disagreement):
        call(problem, None, x, y, kernel=wrong(kernel, change), **options)
    gk.check(kernel, gk.Case(replace(problem, example=(x, y)), quantity, 5))


def test_groups_of_one_parameter_are_proven_with_one_group(tied):
    problem, x, y, rows = tied
    found = gk.gram(problem, None, x, y, by="parameter", parameters="cell.bias", kernel="torch.hooks")
    close(found, wanted(rows, {"cell.bias": ["cell.bias"]}))


@pytest.mark.parametrize("way", ["steps", "rows"])
def test_both_ways_of_sequences_that_are_measured(way, monkeypatch):
    torch.manual_seed(0)
    model, x, y = nn.Linear(8, 16).double(), torch.randn(9, 3, 8, dtype=torch.float64), torch.randn(9, 3, 16)
    asked = []

    def chosen(key, ways, arguments):
        asked.append(set(ways))
        return ways[way](*arguments)

    monkeypatch.setattr(linear, "fastest_of", chosen)
    rows = oracle(model, nn.MSELoss(), x, y.double())
    data = dict(model.named_parameters()), x, y.double()
    found = gk.kernel("torch.hooks.gram").build(gk.ModuleProblem(model, nn.MSELoss()))(*data)
    close(found, wide(rows, rows) @ wide(rows, rows).T)
    assert asked == [{"steps", "rows"}]


def test_what_costs_four_times_as_much_is_not_measured():
    assert cheaper_products(64, 16, 32, 32) == ("rows",)
    assert cheaper_products(64, 4, 64, 256) == ("steps", "rows")
    assert cheaper_products(64, 4, 32, 32) == ("rows", "steps")
    assert cheaper_products(2, 2, 512, 512) == ("steps",)


@pytest.mark.parametrize("layer", [nn.Conv1d(3, 16, 3), nn.Conv1d(3, 16, 3, stride=2, padding=1), nn.Conv2d(2, 6, 4)])
def test_rows_of_a_convolution_are_formed_some_outputs_at_a_time(layer, monkeypatch):
    torch.manual_seed(0)
    model, n = layer.double(), 5
    x = torch.randn(n, layer.in_channels, *[4] * (layer.weight.ndim - 2), dtype=torch.float64)
    loss, y = nn.MSELoss(), torch.randn_like(model(x))
    rows, formed, write = oracle(model, loss, x, y), [], Convolution._write

    def watched(self, g, a, out):
        formed.append(out.shape[1])
        write(self, g, a, out)

    monkeypatch.setattr(convolution, "ROW_BYTES", 1)
    monkeypatch.setattr(Convolution, "_write", watched)
    found = gk.kernel("torch.hooks.gram").build(gk.ModuleProblem(model, loss))(dict(model.named_parameters()), x, y)
    close(found, wide(rows, rows) @ wide(rows, rows).T)
    assert len(formed) > 1
    assert sum(formed) == layer.out_channels
