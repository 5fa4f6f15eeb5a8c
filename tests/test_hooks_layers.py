"""Every layer with a rule, times its options, layouts, numbers of samples, dtypes and quantities, against a loop."""

from functools import partial
from itertools import product

import pytest
import torch
from layers import ANYWHERE, CASES, PLAIN
from matrices import in_turn
from models import oracle
from torch import nn

from gradkernels.engines.hooks import quantities
from gradkernels.engines.hooks.rules import vmap_call
from gradkernels.engines.hooks.rules.linear import convolution, linear
from gradkernels.engines.hooks.rules.lookup import embedding
from gradkernels.problems.module.module_problem import ModuleProblem

SAMPLES = (1, 2, 3, 7)
WAYS = 4  # at most, of doing the same
QUANTITIES = ("rows", "norms", "moments", "clipped_sum", "reweighted_sum")
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4}
MANY = 1 << 20
LOSS = nn.CrossEntropyLoss()

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(45)


@pytest.fixture
def no_fallback(monkeypatch):
    """A layer with a rule is run by that rule; only a parameter without data is repeated for every sample."""
    start = vmap_call.run_vmap_call

    def refuse(tape, step, args, kwargs):
        assert step.function is torch.Tensor.repeat, f"{step.function.__name__} has no rule here"
        return start(tape, step, args, kwargs)

    monkeypatch.setattr(vmap_call, "run_vmap_call", refuse)


def numbered(number, key, ways, arguments=(), trial=()):
    """What stands in for `fastest_of`."""
    return list(ways.values())[number % len(ways)](*arguments)


@pytest.fixture
def taking(monkeypatch):
    """`taking(k)`: of several ways, the one of that number is taken, not the fastest: each must be right."""

    def take(number):
        for module in (linear, convolution, embedding):
            monkeypatch.setattr(module, "fastest_of", partial(numbered, number))

    return take


def wanted(model, x, y):
    """Rows by name, `(n, p)`, norms `(n,)`, of a float64 loop."""
    rows = {name: row.flatten(1) for name, row in oracle(model, LOSS, x, y).items()}
    flat = torch.cat(list(rows.values()), 1)
    assert (flat.norm(dim=1) > 1e-6).all()  # a row of zeros would prove nothing
    return rows, flat.norm(dim=1)


def agree(model, x, chunk=MANY, of=QUANTITIES, like=None):
    """Every quantity in the model's dtype against the loop (over `like`), relative to the rows' norms."""
    dtype, n = next(model.parameters()).dtype, len(x[0]) if isinstance(x, tuple) else len(x)
    y = torch.randint(3, (n,))
    rows, norms = wanted(like or model, x, y)
    problem, tolerance = ModuleProblem(model, LOSS), TOLERANCES[dtype]
    given = problem.parameters(), tuple(map(narrow(dtype), x)) if isinstance(x, tuple) else narrow(dtype)(x), y
    for quantity in of:
        CHECKS[quantity](problem, given, rows, norms, tolerance, chunk)


def narrow(dtype):
    return lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor


def agree_rows(problem, given, rows, norms, tolerance, chunk):
    got = quantities.per_sample(problem, chunk)(*given)
    assert list(got) == list(rows)
    for name, row in got.items():
        own = given[0][name]
        assert row.shape == (len(norms), *own.shape)
        assert row.dtype == own.dtype
        assert not row.requires_grad
        off = (row.double().flatten(1) - rows[name]).abs().amax(1) if own.numel() else torch.zeros_like(norms)
        assert (off <= tolerance * norms).all(), f"{name} is off by {(off / norms).max():.1e}"


def agree_norms(problem, given, rows, norms, tolerance, chunk):
    got = quantities.norms(problem, chunk)(*given)
    assert got.shape == norms.shape
    assert got.dtype == next(iter(given[0].values())).dtype
    assert ((got.double() - norms).abs() <= tolerance * norms).all()


def agree_moments(problem, given, rows, norms, tolerance, chunk):
    got = quantities.moments(problem, chunk)(*given)
    assert list(got.mean) == list(got.variance) == list(rows)
    for name, row in rows.items():
        for moment, want, scale in (
            (got.mean[name], row.mean(0), norms.mean()),
            (got.variance[name], row.var(0, correction=0), (norms**2).mean()),
        ):
            assert moment.shape == given[0][name].shape
            assert ((moment.double().flatten() - want).abs() <= tolerance * scale).all(), name


def agree_clipped(way):
    def check(problem, given, rows, norms, tolerance, chunk):
        limit = float(norms.median())
        got = way(problem, chunk)(*given, max_norm=limit)
        factors = (limit / norms).clamp(max=1)
        assert list(got) == list(rows)
        for name, row in rows.items():
            assert got[name].shape == given[0][name].shape
            off = (got[name].double().flatten() - factors @ row).abs()
            assert (off <= tolerance * (factors * norms).sum()).all(), name

    return check


CHECKS = {
    "rows": agree_rows,
    "norms": agree_norms,
    "moments": agree_moments,
    "clipped_sum": agree_clipped(quantities.clipped_sum),
    "reweighted_sum": agree_clipped(quantities.reweighted_sum),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("no_fallback")
def test_layer(name, long, taking):
    """All layouts, numbers of samples, dtypes and ways with --long, else each with some layers and quantities."""
    case, at = CASES[name], list(CASES).index(name)
    everything = product(case.layouts, SAMPLES, TOLERANCES, range(WAYS))
    for number, (layout, n, dtype, way) in enumerate(everything if long else chosen(case.layouts, at)):
        taking(way)
        x = case.x(n, layout)
        agree(case.model(layout).to(dtype), x, of=in_turn(QUANTITIES, 2, at + number) if number else QUANTITIES)


def chosen(layouts, at):
    """The plain layout, the next of the others with as many samples as steps, and for every other layer float32.

    Each in the next way.
    """
    others = layouts[1:] or layouts
    yield layouts[0], SAMPLES[at % 4], torch.float64, at
    yield others[at % len(others)], 3, torch.float64, at + 1
    if at % 2:
        yield layouts[at % len(layouts)], SAMPLES[(at // 2) % 4], torch.float32, at // 2


def test_every_layout_is_tried():
    assert {layout for case in CASES.values() for layout in case.layouts} == set(ANYWHERE)
    assert all(case.layouts[0] == PLAIN for case in CASES.values())
