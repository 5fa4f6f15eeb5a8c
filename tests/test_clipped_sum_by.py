"""Sums of gradients that are cut by parameter, by group and by any rule: literal numbers, single passes, mutants."""

import math
import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from matrices import named
from models import oracle
from torch import nn
from torch.utils.checkpoint import checkpoint

import gradkernels as gk
from gradkernels.engines.hooks.accumulate.grouped_sums import GroupedSums
from gradkernels.engines.hooks.clipped_sums import Cutting
from gradkernels.engines.hooks.rules.linear.linear import Linear
from gradkernels.quantities.clipped_sum_by import CLIPPED_SUM_BY, Clipped
from gradkernels.quantities.shared.rules import limit_of, weights_of
from gradkernels.quantity import Draw
from gradkernels.tree import each

P = gk.LinearRegression()
THETA, X, Y = np.zeros(2), np.array([0.0, 1, 2]), np.array([-1.0, 1, 2])  # rows (2, 0), (-2, -2), (-4, -8)
NORMS = [2, 8**0.5, 80**0.5]
LOSS = nn.CrossEntropyLoss()
GROUPS = {"conv": ["0.*"], "head": "3.*"}
LENGTHS = {"conv": 0.4, "head": 1.1}


def cut_at_two(norms):
    return 2 / (norms + 1)


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(2, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(9, 5)).double()
    x, y = torch.randn(6, 2, 4, dtype=torch.float64), torch.randint(5, (6,))
    return gk.ModuleProblem(model, LOSS), x, y, oracle(model, LOSS, x, y)


def lengths_of(rows, names):
    return torch.cat([rows[name].flatten(1) for name in names], 1).norm(dim=1)


def wanted(rows, groups, weigh, kept=None):
    """Sums and norms by definition, of rows that single-sample passes gave."""
    norms = {group: lengths_of(rows, names) for group, names in groups.items()}
    kept = torch.ones(len(next(iter(rows.values()))), dtype=torch.bool) if kept is None else kept
    sums = {
        name: torch.einsum("n,n...->...", weigh(group, norms[group])[kept], rows[name][kept])
        for group, names in groups.items()
        for name in names
    }
    return sums, norms


def close(found, want, rtol=1e-8):
    torch.testing.assert_close(found, want, rtol=rtol, atol=1e-10)


RULES = {
    "clip": lambda length, norms: (length / norms).clamp(max=1),
    "automatic": lambda length, norms: length / (norms + 0.2),
    cut_at_two: lambda length, norms: 2 / (norms + 1),
}


@pytest.mark.parametrize("kernel", ["torch.hooks", "torch.hooks[chunk=4]", "torch.recorded", "torch.vmap"])
@pytest.mark.parametrize("by", [None, "parameter", GROUPS], ids=["all", "parameter", "groups"])
@pytest.mark.parametrize("rule", RULES, ids=named)
def test_a_module_by_any_rule_and_groups(kernel, by, rule, module):
    problem, x, y, rows = module
    groups = {None: {"all": list(rows)}, "parameter": {name: [name] for name in rows}}.get(
        by if by is not GROUPS else "", {"conv": ["0.weight", "0.bias"], "head": ["3.weight", "3.bias"]}
    )
    length = LENGTHS if by is GROUPS else 0.5
    sums, norms = wanted(rows, groups, lambda group, one: RULES[rule](length[group] if by is GROUPS else length, one))
    options = {"by": by, "rule": rule, "gamma": 0.2, "norms_out": True, "kernel": kernel}
    found, found_norms = gk.clipped_sum(problem, None, x, y, length, **options)
    assert [*found] == [*rows]
    close(found, {name: sums[name] for name in found})
    close(found_norms, norms["all"] if by is None else norms)


@pytest.mark.parametrize("kernel", ["numpy.broadcast", "torch.vmap", "jax.vmap"])
def test_numbers_of_a_regression(kernel):
    def ask(*args, **options):
        return gk.clipped_sum(P, THETA, X, Y, *args, kernel=kernel, **options)

    found, norms = ask(2.0, by="parameter", norms_out=True)
    np.testing.assert_allclose(norms["theta"], NORMS, rtol=1e-6)
    root = 0.5**0.5
    np.testing.assert_allclose(found, [2 - 2 * root - 2 / 5**0.5, -2 * root - 4 / 5**0.5], rtol=1e-6)
    found = ask(2.0, rule="automatic", gamma=2.0)  # weights 1/2, 1 / (1 + sqrt(2)), 1 / (1 + 2 sqrt(5))
    a, b = 1 / (1 + 2**0.5), 1 / (1 + 20**0.5)
    np.testing.assert_allclose(found, [1 - 2 * a - 4 * b, -2 * a - 8 * b], rtol=1e-6)
    found = ask(rule=lambda norms: 8 / norms**2)  # 2, 1, 0.1
    np.testing.assert_allclose(found, [4 - 2 - 0.4, -2 - 0.8], rtol=1e-6)
    found, norms = ask({"g": 2.0}, by={"g": ["th*"]}, norms_out=True)
    np.testing.assert_allclose(found, ask(2.0), rtol=1e-6)
    assert [*norms] == ["g"]


def test_what_is_in_no_group_is_left_out(module):
    problem, x, y, rows = module
    found, norms = gk.clipped_sum(problem, None, x, y, 0.3, by={"biases": ["*.bias"]}, norms_out=True)
    assert ([*found], [*norms]) == (["0.bias", "3.bias"], ["biases"])
    sums, _ = wanted(rows, {"biases": [*found]}, lambda _, one: (0.3 / one).clamp(max=1))
    close(found, sums)


def test_a_rule_gets_all_norms_of_a_group_in_the_callers_library(module):
    problem, x, y, _ = module
    seen = []

    def rule(norms):
        seen.append(norms)
        return torch.ones(6, dtype=torch.float64) / (1 + norms.max())

    for kernel in ("torch.hooks[chunk=4]", "torch.hooks", "torch.recorded", "torch.loop"):
        seen.clear()
        gk.clipped_sum(problem, None, x, y, by=GROUPS, rule=rule, kernel=kernel)
        assert ({tuple(one.shape) for one in seen}, len(seen) % 2) == ({(6,)}, 0), kernel
    kinds = []
    gk.clipped_sum(P, THETA, X, Y, rule=lambda norms: kinds.append(type(norms)) or 1 / norms, kernel="torch.closed+")
    assert kinds == [np.ndarray]


def test_a_recording_calls_the_function_of_each_call(module, monkeypatch):
    problem, x, y, rows = module
    hooks = []
    monkeypatch.setattr(Cutting, "compute", lambda *given, **options: hooks.append(1))
    compute = gk.kernel("torch.recorded.clipped_sum_by").build(problem)
    norms = lengths_of(rows, [*rows])
    for times in (1.0, 3.0):
        found = compute(problem.parameters(), x, y, rule=lambda norms, times=times: times / norms)
        close(found.sum, {name: torch.tensordot(times / norms, g, 1) for name, g in rows.items()})
        close(found.norms, norms)
    assert not hooks
    assert compute(problem.parameters(), x, y, rule=lambda norms: norms.nothing) is None  # the hooks say why
    assert hooks == [1]


BAD_RULES = [
    (lambda norms: norms[:2], "rule returned (2,); it must return (3,) weights, an array of numpy like its norms"),
    (lambda norms: 1.0, "rule returned a float; it must return (3,) weights, an array of numpy like its norms"),
    (lambda norms: norms > 1, "rule returned bool; weights must be floating-point numbers"),
    (lambda norms: norms / (norms - norms), "rule returned inf for a norm of 2; weights must be finite"),
    (lambda norms: norms.nothing, "rule raised AttributeError: 'numpy.ndarray' object has no attribute 'nothing'"),
]


@pytest.mark.parametrize(("rule", "says"), BAD_RULES, ids=[str(i) for i in range(len(BAD_RULES))])
def test_what_no_weights_can_be_is_refused(rule, says):
    with np.errstate(divide="ignore"), pytest.raises(ValueError, match=f"^{re.escape(says)}$"):
        gk.clipped_sum(P, THETA, X, Y, rule=rule)


@pytest.mark.parametrize("kernel", ["numpy.broadcast", "torch.closed"])
def test_a_rule_may_write_to_its_norms(kernel):
    def rule(norms):
        norms *= 0
        return norms + 1

    total, norms = gk.clipped_sum(P, THETA, X, Y, rule=rule, norms_out=True, kernel=kernel)
    assert (total.tolist(), norms.tolist()) == ([-4, -10], pytest.approx(NORMS))


def test_a_rule_that_fails_is_no_kernels_fault(module):
    problem, x, y, rows = module
    kernels = []

    def rule(norms):
        kernels.append(1)
        raise IndexError("no such sample")

    for _ in range(2):
        with pytest.raises(ValueError, match=r"^rule raised IndexError: no such sample$"):
            gk.clipped_sum(problem, None, x, y, rule=rule)
    assert len(kernels) <= 4  # each call asks one kernel, perhaps again
    close(gk.clipped_sum(problem, None, x, y, rule=lambda norms: torch.ones_like(norms)),
          {name: one.sum(0) for name, one in rows.items()})  # fmt: skip


@pytest.mark.parametrize("kernel", ["torch.hooks", "torch.hooks[chunk=4]", "torch.recorded", "torch.vmap"])
@pytest.mark.parametrize("by", [None, "parameter"])
@pytest.mark.parametrize("rule", ["clip", cut_at_two], ids=named)
def test_samples_that_are_not_finite(kernel, by, rule, module):
    problem, x, y, rows = module
    bad = x.clone()
    bad[1, 0, 2], bad[4] = math.nan, math.inf
    kept = torch.tensor([True, False, True, True, False, True])
    groups = {"all": list(rows)} if by is None else {name: [name] for name in rows}
    sums, _ = wanted(rows, groups, lambda _, norms: RULES[rule](0.5, norms), kept)
    ask = {"by": by, "rule": rule, "kernel": kernel}
    says = "gradients are not finite and were left out of the sum: of 2 of 6 samples, number 1, 4"
    with pytest.warns(gk.NonFiniteWarning, match=f"^{re.escape(says)}$"):
        found, norms = gk.clipped_sum(problem, None, bad, y, 0.5, nonfinite="drop", norms_out=True, **ask)
    close(found, {name: sums[name] for name in found})
    finite = torch.stack([one.isfinite() for one in ([norms] if by is None else norms.values())]).all(0)
    assert finite.tolist() == kept.tolist()
    with pytest.raises(
        ValueError, match=r"^gradients are not finite: of 2 of 6 samples, number 1, 4; nonfinite='drop'"
    ):
        gk.clipped_sum(problem, None, bad, y, 0.5, nonfinite="raise", **ask)
    assert not gk.clipped_sum(problem, None, bad, y, 0.5, norms_out=True, **ask)[0]["0.weight"].isfinite().any()


@pytest.mark.parametrize("way", ["torch.hooks", "torch.recorded", "torch.vmap+", "torch.loop+", "opacus.ghost"])
def test_a_weight_of_nan_times_a_row_of_zeros_is_nan(way):
    """Of what nothing uses, and of words that no sample has: by the definition, whether rows are formed or not."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(8, 3))
    model.register_parameter("unused", nn.Parameter(torch.ones(2)))
    problem, y = gk.ModuleProblem(model, nn.MSELoss()), torch.randn(3, 3)
    y[1, 0] = math.nan
    data = problem.parameters(), torch.tensor([[0, 1], [2, 3], [0, 2]]), y
    by = (("table and others", ("0.weight", "unused")), ("last", ("2.weight", "2.bias")))
    asked = {
        "clipped_sum": {},
        "clipped_sum_by": {"by": by},
        "weighted_sum": {"weights": torch.tensor([1, math.nan, 2])},
    }
    for quantity, options in asked.items():
        if quantity == "clipped_sum" or way != "opacus.ghost":
            found = gk.kernel(f"{way}.{quantity}").build(problem)(*data, **options)
            assert all(one.isnan().all() for one in (found.sum if "by" in quantity else found).values()), quantity
    if way != "opacus.ghost":
        several = torch.tensor([[1, 2.0], [math.nan, 0], [2, 1]])
        y[1, 0] = 0
        found = gk.kernel(f"{way}.weighted_sum").build(problem)(*data, weights=several)
        assert all(one[0].isnan().all() and one[1].isfinite().all() for one in found.values())


def test_samples_of_a_regression_that_are_not_finite():
    x = np.array([0.0, np.nan, 2, np.inf])
    y = np.array([-1.0, 1, 2, 3])
    with np.errstate(invalid="ignore"), pytest.warns(gk.NonFiniteWarning, match="of 2 of 4 samples, number 1, 3$"):
        found = gk.clipped_sum(P, THETA, x, y, math.inf, nonfinite="drop")
    np.testing.assert_allclose(found, [-2, -8])
    with warnings.catch_warnings(action="error"):  # all are finite
        np.testing.assert_allclose(gk.clipped_sum(P, THETA, X, Y, math.inf, nonfinite="drop"), [-4, -10])
        np.testing.assert_allclose(gk.clipped_sum(P, THETA, X, Y, math.inf, nonfinite="raise"), [-4, -10])
    many = np.full(9, np.nan)
    with pytest.raises(ValueError, match=r"of 9 of 9 samples, number 0, 1, 2, 3, 4, \.\.\.; "):
        gk.clipped_sum(P, THETA, many, many, nonfinite="raise")
    with pytest.warns(gk.NonFiniteWarning):
        assert gk.clipped_sum(P, THETA, many, many, nonfinite="drop").tolist() == [0, 0]


class Tied(nn.Module):
    """A table that is the last layer's weight too, a weight made of two parameters, one that nothing uses."""

    def __init__(self):
        super().__init__()
        self.table, self.map = nn.Embedding(7, 4), nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        self.unused = nn.Parameter(torch.ones(3))
        nn.init.normal_(self.table.weight, std=0.5)

    def forward(self, ids):
        return torch.tanh(self.map(self.table(ids))).mean(1) @ self.table.weight.T


@pytest.mark.parametrize("kernel", ["torch.hooks", "torch.recorded"])
def test_parameters_of_several_uses_and_made_ones(kernel):
    torch.manual_seed(1)
    model, ids, y = Tied().double(), torch.randint(7, (5, 3)), torch.randint(7, (5,))
    rows = oracle(model, LOSS, ids, y)
    problem = gk.ModuleProblem(model, LOSS)
    scales = "map.parametrizations.weight.original0"
    halves = {"one": ["table.weight", scales], "two": [name for name in rows if name not in ("table.weight", scales)]}
    for by, groups in (("parameter", {name: [name] for name in rows}), (halves, halves)):
        sums, norms = wanted(rows, groups, lambda _, one: (0.1 / one).clamp(max=1))
        found = gk.clipped_sum(problem, None, ids, y, 0.1, by=by, norms_out=True, kernel=kernel)
        close(found, ({name: sums[name] for name in rows}, norms))


class Checkpointed(nn.Module):
    """A middle that runs again in the backward pass."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.c(checkpoint(lambda h: torch.tanh(self.b(h)), torch.tanh(self.a(x)), use_reentrant=False))


def test_parts_that_run_again():
    torch.manual_seed(2)
    model, x, y = Checkpointed().double(), torch.randn(5, 3, dtype=torch.float64), torch.randint(2, (5,))
    rows = oracle(model, LOSS, x, y)
    for by in ("parameter", {"ab": ["a.*", "b.*"], "c": ["c.*"]}):
        groups = {name: [name] for name in rows} if by == "parameter" else {
            group: [name for name in rows if name[0] in group] for group in by}  # fmt: skip
        sums, norms = wanted(rows, groups, lambda _, one: 0.2 / (one + 0.01))
        found = gk.clipped_sum(gk.ModuleProblem(model, LOSS), None, x, y, 0.2, by=by, rule="automatic",
                               norms_out=True, kernel="torch.hooks")  # fmt: skip
        close(found, (sums, norms))


def test_a_group_is_summed_when_its_last_parameter_comes(monkeypatch):
    """Three layers, two targets each: after each layer's gradient its sums are there."""
    torch.manual_seed(3)
    problem = gk.ModuleProblem(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, 2)), LOSS)
    totals, after, arrived = [], [], GroupedSums.__call__

    def counted(method):
        def call(self, target, *given):
            totals.append(target)
            return method(self, target, *given)

        return call

    def spied(self, use, g):
        arrived(self, use, g)
        after.append(len(totals))

    monkeypatch.setattr(Linear, "total", counted(Linear.total))
    monkeypatch.setattr(Linear, "weighted_total", counted(Linear.weighted_total))
    monkeypatch.setattr(GroupedSums, "__call__", spied)
    compute = gk.kernel("torch.hooks.clipped_sum_by").build(problem)
    data = problem.parameters(), torch.randn(5, 3), torch.randint(2, (5,))
    compute(*data, by=tuple((name, (name,)) for name in problem.parameters()))
    assert after == [2, 4, 6]
    totals.clear(), after.clear()
    compute(*data, by=(("first two", ("0.weight", "0.bias", "2.weight", "2.bias")), ("last", ("3.weight", "3.bias"))))
    assert after == [2, 2, 6]


def test_norms_whose_squares_leave_the_range():
    """1e-26 squared is no number of float32; a layer that gets nothing at all has norms of zero."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    x, y = torch.randn(5, 3), torch.randn(5, 2)
    for scale in (1e-26, 0.0):
        model.float()[1].weight.data = torch.randn(2, 4) * scale
        rows = oracle(model.double(), nn.MSELoss(), x.double(), y.double())
        sums, norms = wanted(rows, {name: [name] for name in rows}, lambda _, one: 1e-26 / (one + 1e-26))
        for kernel in ("torch.hooks", "torch.recorded"):
            found = gk.clipped_sum(gk.ModuleProblem(model.float(), nn.MSELoss()), None, x, y, 1e-26, by="parameter",
                                   rule="automatic", gamma=1e-26, norms_out=True, kernel=kernel)  # fmt: skip
            for part, want in zip(found, (sums, norms), strict=True):
                for name, one in want.items():
                    np.testing.assert_allclose(part[name], one, rtol=2e-4, atol=0 if scale else 1e-30)


def test_no_samples_give_sums_of_zero(module):
    problem, x, y, _ = module
    for kernel in ("torch.hooks", "torch.recorded", "torch.vmap"):
        found, norms = gk.clipped_sum(problem, None, x[:0], y[:0], by="parameter", rule=cut_at_two, norms_out=True,
                                      nonfinite="raise", kernel=kernel)  # fmt: skip
        assert not any(one.any() for one in found.values())
        assert {tuple(one.shape) for one in norms.values()} == {(0,)}
    found, norms = gk.clipped_sum(P, THETA, X[:0], Y[:0], rule="automatic", norms_out=True)
    assert (found.tolist(), norms.shape) == ([0, 0], (0,))


BAD = [
    ({"rule": "clop"}, ValueError, "there is no rule 'clop'; did you mean clip?"),
    ({"rule": 3}, TypeError, "rule is 3; it must be clip, automatic, or a function of the norms (n,)"),
    ({"rule": "automatic", "gamma": 0}, ValueError,
     "gamma is 0; it must be a positive number, which keeps weights of small norms finite"),
    ({"gamma": -1.0}, ValueError,
     "gamma is -1.0; it must be a positive number, which keeps weights of small norms finite"),
    ({"rule": "automatic", "max_norm": math.inf}, ValueError,
     "max_norm is inf; the automatic rule multiplies by it, give it a finite length"),
    ({"max_norm": 0, "by": "parameter"}, ValueError, "max_norm is 0; it must be positive (float('inf') clips nothing)"),
    ({"max_norm": math.nan, "rule": "automatic"}, ValueError,
     "max_norm is nan; it must be positive (float('inf') clips nothing)"),
    ({"max_norm": {"theta": -1}, "by": "parameter"}, ValueError,
     "max_norm['theta'] is -1; it must be positive (float('inf') clips nothing)"),
    ({"max_norm": {"head": 1}, "by": "parameter"}, ValueError,
     "max_norm lacks theta; give each group of by= its length"),
    ({"max_norm": {"theta": 1, "head": 1}, "by": "parameter"}, ValueError,
     "max_norm has head, no group of by=; there are theta"),
    ({"max_norm": {"theta": 1}}, ValueError,
     "max_norm is a dict, one length for each group, and there are no groups; pass by= too"),
    ({"by": {"a": ["head.*"]}}, ValueError, "by['a'] has 'head.*', which names no parameter; there are theta"),
    ({"nonfinite": "dorp"}, ValueError, "there is no setting of nonfinite 'dorp'; did you mean drop?"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "error", "says"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_bad_options_are_named(options, error, says):
    with pytest.raises(error, match=f"^{re.escape(says)}$"):
        gk.clipped_sum(P, THETA, X, Y, **options)


def test_the_matrix_of_rows_passes_options_on(module):
    problem, x, y, _ = module
    matrix = gk.rows(problem, None, x, y)
    options = {"by": GROUPS, "rule": "automatic", "norms_out": True}
    close(matrix.clipped_sum(0.3, **options), gk.clipped_sum(problem, None, x, y, 0.3, **options))


def definition(norms=None, limit=limit_of, gamma=lambda gamma: gamma, rule=lambda rule: rule, weights=lambda one: one):
    """The definition in numpy, right unless something is changed.

    `norms(by)` are groups whose norms decide, `limit` is of a group, `weights` are changed last.
    """

    def of(g, max_norm=1.0, by=None, rule_="clip", gamma_=0.01, nonfinite="propagate"):
        groups = by or (("all", tuple(g)),)
        lengths = {group: np.linalg.norm(side_by_side(g, names), axis=1) for group, names in groups}
        decide = {group: np.linalg.norm(side_by_side(g, names), axis=1) for group, names in (norms or tuple)(groups)}
        kept = np.isfinite(np.stack([*lengths.values()])).all(0) if nonfinite == "drop" else True
        sums = {}
        for group, names in groups:
            w = weights_of(np, decide[group], limit(max_norm, group), rule(rule_), gamma(gamma_))
            w = weights(np.where(kept, w, 0))
            for name in names:
                rows = np.where(np.reshape(kept, (-1, *[1] * (g[name].ndim - 1))), g[name], 0)
                sums[name] = np.tensordot(w, rows, 1)
        sums = {name: sums[name] for name in g if name in sums}
        return Clipped(sums, lengths["all"] if by is None else lengths)

    return of


def side_by_side(g, names):
    return np.concatenate([g[name].reshape(len(g[name]), -1) for name in names], 1)


def next_ones(groups):
    """Each group with the parameters of the next."""
    return tuple((group, groups[(i + 1) % len(groups)][1]) for i, (group, _) in enumerate(groups))


def first_of(limit, group):
    return next(iter(limit.values())) if isinstance(limit, dict) else limit


def swapped(weights):
    """The first two samples' weights, of which one may be dropped."""
    return weights[[1, 0, *range(2, len(weights))]]


MUTANTS = {
    "norms of the next group": definition(norms=next_ones),
    "norms of all parameters": definition(norms=lambda groups: [
        (group, tuple(name for _, names in groups for name in names)) for group, _ in groups]),
    "one group's length for all": definition(limit=first_of),
    "automatic without gamma": definition(gamma=lambda gamma: 0.0),
    "clip for a function": definition(rule=lambda rule: "clip" if callable(rule) else rule),
    "clip for automatic": definition(rule=lambda rule: "clip" if rule == "automatic" else rule),
    "a weight of one sample moved to another": definition(weights=swapped),
    "twice the sum": definition(weights=lambda weights: 2 * weights),
}  # fmt: skip


def built(of):
    """A kernel of numpy's definition on rows of torch."""

    def build(problem, **options):
        rows = gk.kernel("torch.loop.per_sample").build(problem)

        def compute(theta, x, y, **given):
            g = {name: one.numpy() for name, one in rows(theta, x, y).items()}
            options = {{"rule": "rule_", "gamma": "gamma_"}.get(name, name): one for name, one in given.items()}
            return each(lambda one: torch.from_numpy(np.asarray(one)), of(g, **options))

        return compute

    return replace(gk.kernel("torch.loop+.clipped_sum_by"), builder=build)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_are_rejected(mutant, module):
    case = gk.Case(module[0], "clipped_sum_by", 6)
    with pytest.raises(gk.Disagreement):
        gk.check(built(MUTANTS[mutant]), case, inputs_of(module))


def test_the_honest_one_is_not(module):
    gk.check(built(definition()), gk.Case(module[0], "clipped_sum_by", 6), inputs_of(module))


def inputs_of(module):
    problem, x, y, _ = module
    return {name: one.detach().numpy().copy() for name, one in problem.parameters().items()}, x.numpy(), y.numpy()


def test_a_dropped_samples_weight_that_moved_is_rejected(module):
    """Weights that are alike are swapped unseen, but not zero and another."""
    theta, x, y = inputs_of(module)
    x = x.copy()
    x[1] = np.nan
    case = gk.Case(module[0], "clipped_sum_by", 6)
    gk.check(built(definition()), case, (theta, x, y))

    def moved(weights):
        return swapped(weights) if not weights[1] else weights

    with pytest.raises(gk.Disagreement, match=r"dropping"):
        gk.check(built(definition(weights=moved)), case, (theta, x, y))


def test_proofs_have_every_rule_with_all_groups():
    theta = {"a": np.ones(2), "b": np.ones(3), "c": np.ones(1)}
    found = [options for _, options in CLIPPED_SUM_BY.settings(Draw(3, theta, norms=np.ones(3)))]
    kinds = {(len(one["by"] or "-"), getattr(one["rule"], "__name__", one["rule"])) for one in found}
    assert kinds == {(k, rule) for k in (1, 2, 3) for rule in ("clip", "automatic", "stand_in")}
    assert sum("nonfinite" in one for one in found) == 3
