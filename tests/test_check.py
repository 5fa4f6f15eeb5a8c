"""The checker itself: it rejects every mutant, and no honest kernel."""

from contextlib import nullcontext
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from first_five import FIVE
from honest import HONEST, P, wrapped
from matrices import in_turn, matrix
from modules import problem
from mutants import MUTANTS, changed, instead
from torch import nn

import gradkernels as gk
from gradkernels.check import endure, prove
from gradkernels.check.compare_arrays import Unprovable, compare_entries
from gradkernels.check.prove import SAMPLES_AT_ONCE
from gradkernels.check.reference import Reference
from gradkernels.check.true_gradients import TrueGradients

DTYPES = ("float64", "float32")


@matrix(
    "name,quantity,dtype",
    rows=[(name, quantity, dtype) for name in MUTANTS for quantity in MUTANTS[name].quantities for dtype in DTYPES],
    occurring=lambda name, quantity, dtype: (f"{name} {quantity}", f"{name} {dtype}", f"{quantity} {dtype}"),
)
def test_every_mutant_is_rejected_with_where_and_by_how_much(name, quantity, dtype, long):
    mutant = wrapped(gk.kernel(HONEST[quantity]), MUTANTS[name].wrap)
    # Over many draws of a thousand samples, float32 cannot always tell that a small one was left out of a sum.
    most = 100 if long and dtype == "float32" else 1000
    for seed, (n, features, _) in enumerate(product((2, 3, 10, most), (1, 3), range(20 if long else 1))):
        case = gk.Case(P, quantity, n, dtype, seed=seed, features=features)
        with pytest.raises(gk.Disagreement, match=MUTANTS[name].says) as caught:
            gk.check(mutant, case)
        assert str(caught.value).startswith(mutant.key)


@pytest.mark.parametrize("quantity", FIVE)
def test_float32_dressed_as_float64_is_rejected(quantity):
    """What JAX without x64 would do if its arrays were cast afterwards."""
    dressed = wrapped(gk.kernel(HONEST[quantity]), changed(lambda array, n: array.astype("f4").astype("f8")))
    for n, seed in product((1, 2, 10, 1000), range(5)):
        case = gk.Case(P, quantity, n, seed=seed)
        with pytest.raises(gk.Disagreement, match="off by"):
            gk.check(dressed, case)


@pytest.mark.parametrize("quantity", FIVE)
@pytest.mark.parametrize("way", ["torch.vmap", "jax.vmap"])
def test_mutants_of_every_library_are_rejected(quantity, way):
    kernel = gk.kernel(f"{way}{'' if quantity == 'per_sample' else '+'}.{quantity}")
    case = gk.Case(P, quantity, 5)
    gk.check(kernel, case)
    for wrap in (changed(lambda array, n: array * 1.01), changed(lambda array, n: 0 * array)):
        with pytest.raises(gk.Disagreement, match="off by"):
            gk.check(replace(wrapped(kernel, wrap), out=False), case)


def near(n, d, seed, offset=0.0):
    """Targets at the prediction, give or take `offset` standard normals."""
    theta, x, y = P.draw(n, seed, d)
    return theta, x, P.eta(theta, x, y) + offset * np.random.default_rng(seed).standard_normal(n)


def drawn(change):
    return lambda n, d, seed: change(*P.draw(n, seed, d))


HARD = {
    "as drawn": drawn(lambda theta, x, y: (theta, x, y)),
    "x around 1e6": drawn(lambda theta, x, y: (theta, x + 1e6, y)),
    "x of size 1e6": drawn(lambda theta, x, y: (theta, 1e6 * x, y)),
    "x of size 1e-6": drawn(lambda theta, x, y: (theta, 1e-6 * x, y)),
    "features of sizes 1e-8 to 1e8": drawn(lambda theta, x, y: (theta, x * np.logspace(-8, 8, x[:1].size), y)),
    "a constant feature": drawn(lambda theta, x, y: (theta, np.full_like(x, 0.1), y)),
    "features of zero": drawn(lambda theta, x, y: (theta, 0 * x, y)),
    "huge y": drawn(lambda theta, x, y: (theta, x, 1e12 * y)),
    "y far from zero": drawn(lambda theta, x, y: (theta, x, y + 1e6)),
    "equal samples": drawn(lambda theta, x, y: (theta, np.full_like(x, 0.1), np.full_like(y, 0.3))),
    "theta of zero": drawn(lambda theta, x, y: (0 * theta, x, y)),
    "everything zero": drawn(lambda theta, x, y: (0 * theta, 0 * x, 0 * y)),
    "residuals of zero": near,
    "residuals near zero": lambda n, d, seed: near(n, d, seed, 1e-7),
    "one residual far out": drawn(lambda theta, x, y: (theta, x, np.r_[1e9, y[1:]])),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("data", HARD)
def test_no_honest_kernel_is_rejected(data, dtype, long):
    """Every kernel on all data; without --long in one dtype, the other on the next data, and every other size."""
    slow = not long and ("jax.", "torch.compiled")
    kernels = [k for k in gk.kernels(P) if not k.loops and not (slow and k.key.startswith(slow))]
    # What is composed of rows by one definition is composed alike by all.
    kernels = [k for k in kernels if k.quantity.name in FIVE or not k.composed or k.way == "numpy.broadcast+"]
    fitting = [{k.key for k in kernels if not k.unsupported(gk.Case(P, k.quantity, 1, one))} for one in DTYPES]
    at, both = list(HARD).index(data), sorted(set.intersection(*fitting))
    chosen = fitting[DTYPES.index(dtype)] - set(both) | {*in_turn(both, 2, at + DTYPES.index(dtype))}
    computes = [(kernel, kernel.build(P)) for kernel in kernels if kernel.key in chosen]
    every = list(product((1, 2, 30, 1000), (1, 3), range(10 if long else 1)))
    for n, features, seed in every if long else every[at // 2 % 2 :: 2]:  # in turn with either number of features
        case = gk.Case(P, "norms", n, dtype, seed=seed, features=features)
        inputs = case.cast(HARD[data](n, features, seed))
        reference = Reference(P, *inputs)
        for kernel, compute in computes:
            prove(kernel, compute, replace(case, quantity=kernel.quantity), inputs, reference)


def test_the_message_says_which_entry_and_by_how_much():
    theta, x, y = np.array([1.0, 2.0]), np.array([0, 0.75, -0.75]), np.array([0, 4.5, 0.5])
    rows = np.array([(2.001, 0), (-4, -3.25), (-2, 1.5)])  # the true entries are 2 and -3; the second is the worst
    wrong = wrapped(replace(gk.kernel("numpy.broadcast.per_sample"), out=False), instead(lambda result: rows))
    with pytest.raises(gk.Disagreement) as caught:
        gk.check(wrong, gk.Case(P, "per_sample", 3), (theta, x, y))
    # |slope| 4 + 2 (|1| + |2 * 0.75| + |4.5|) = 18, times 0.75: the scale is 13.5, and 0.25 of it 0.0185.
    assert "on linear, n=3, float64: entry (1, 1) is -3.25, expected -3.0, off by 0.019 of its scale" in str(
        caught.value
    )


@pytest.mark.parametrize("key", ["numpy.broadcast+.moments", "torch.hooks.norms"])
def test_variances_and_modules_are_not_held_to_the_ends_of_the_range(key):
    kernel = gk.kernel(key)
    of = problem(nn.Linear(4, 3), 4) if key.startswith("torch") else P
    endure(kernel, lambda *given, **options: pytest.fail("it is called"), gk.Case(of, kernel.quantity, 5))


def asked_about(quantity, off, error, n=5):
    """Prove a kernel that is off, against rows that may be off by `error`; the samples that are asked about."""
    inputs, asked = P.draw(n, 0), []
    of = Reference(P, *inputs)

    def row_errors(samples, dtype):
        asked.append(([*samples], dtype))
        return error * of.norms[samples]

    scale = np.broadcast_to(of.norms[:, None], of.rows.shape)
    known = TrueGradients(of.rows, scale, of.gradient, of.norms, row_errors)
    kernel = replace(gk.kernel(HONEST[quantity]), out=False)
    honest = kernel.build(P)
    with nullcontext() if error else pytest.raises(gk.Disagreement, match="off by|not finite"):
        prove(kernel, lambda *arrays: honest(*arrays) * off, gk.Case(P, quantity, n), inputs, replace(of, known=known))
    return asked


def test_only_samples_that_disagree_are_asked_how_well_they_can_be_known_and_once():
    off = np.ones(5)
    off[[1, 3]] = 1 + 1e-6
    for error in (1e-6, 0.0):
        assert asked_about("norms", off, error) == [([1, 3], "float64")]
        assert asked_about("per_sample", off[:, None], error) == [([1, 3], "float64")]
        assert asked_about("gradient", 1 + 1e-6, error) == [([0, 1, 2, 3, 4], "float64")]
    assert asked_about("norms", np.ones(5), 1e-6) == []
    assert asked_about("norms", np.where(off > 1, np.nan, 1.0), 0.0) == [], "how well they are known does not matter"


def test_samples_are_asked_about_some_at_a_time():
    n = 2 * SAMPLES_AT_ONCE + 1
    asked = asked_about("norms", np.full(n, 1 + 1e-6), 1e-6, n)
    assert [samples for samples, _ in asked] == [
        [*range(SAMPLES_AT_ONCE)], [*range(SAMPLES_AT_ONCE, 2 * SAMPLES_AT_ONCE)], [n - 1]
    ]  # fmt: skip
    assert len(asked_about("gradient", 1 + 1e-6, 1e-6, n)[0][0]) == n


@pytest.mark.parametrize(("quantity", "options"), [("gradient", set()), ("clipped_sum", {"max_norm"})])
@pytest.mark.parametrize(("sample", "seen"), [(0, True), (39, True), (1, False)])
def test_a_wrong_sum_of_many_samples_is_looked_for_on_sixteen_of_them(quantity, options, sample, seen):
    """The first and the last among them, before all are asked how well they can be known, in five passes each."""
    torch.manual_seed(0)
    case, calls = gk.Case(problem(nn.Linear(4, 3), 4, n=40), quantity, 40), []
    wrong = np.asarray(case.draw()[1][sample])

    def where_it_is(compute):
        def call(theta, x, y, **given):
            calls.append((len(x), {*given}))
            factor = 2 if given.keys() == options and (x.numpy() == wrong).all(1).any() else 1
            return {name: factor * part for name, part in compute(theta, x, y, **given).items()}

        return call

    kernel = replace(wrapped(gk.kernel(f"torch.hooks.{quantity}"), where_it_is), out=False)
    with pytest.raises(gk.Disagreement) as caught:
        gk.check(kernel, case)
    assert (f"{kernel.key} for some of the samples on " in str(caught.value)) == seen
    assert f", n={16 if seen else 40}, float64: " in str(caught.value)
    assert calls[-1] == (16, options)


def doubled_where(wrong):
    """Twice the result of the calls for whose theta and options `wrong` says so."""

    def wrap(compute):
        def call(theta, x, y, **options):
            result = compute(theta, x, y, **options)
            if wrong(theta, options):
                result *= 2
            return result

        return call

    return wrap


CALLS = {
    "": ("numpy.broadcast.per_sample", lambda theta, options: not options),
    " with out=": ("numpy.broadcast.per_sample", lambda theta, options: "out" in options),
    " at max_norm=[0-9.]+": ("numpy.blocked.clipped_sum", lambda theta, options: options),
    " at the ends of the range": ("numpy.blocked.norms", lambda theta, options: np.abs(theta).max() > 1e100),
}


@pytest.mark.parametrize("call", CALLS)
def test_the_message_begins_with_the_call_that_was_wrong(call):
    key, wrong = CALLS[call]
    kernel = wrapped(gk.kernel(key), doubled_where(wrong))
    n = 8 if "range" in call else 20
    with pytest.raises(gk.Disagreement, match=f"^{key}{call} on linear, n={n}, float64: entry "):
        gk.check(kernel, gk.Case(P, kernel.quantity, 20))


def test_a_kernel_that_refuses_some_ends_of_the_range_is_held_to_the_others():
    def picky(compute):
        def call(theta, x, y, **options):
            if np.abs(x).max() > 1e100:
                raise ValueError("x is too large")
            return compute(theta, x, y, **options) * (2 if np.abs(theta).max() > 1e100 else 1)

        return call

    kernel = replace(wrapped(gk.kernel("numpy.blocked.norms"), picky), out=False)
    with pytest.raises(gk.Disagreement, match="at the ends of the range"):
        gk.check(kernel, gk.Case(P, "norms", 5))


@pytest.mark.parametrize(("slopes", "norms"), [((0, 4, 8), (4, 16)), ((0, 0.25, 0.5), (0.25, 1)), ((0, 0, 0), ())])
def test_a_clipped_sum_is_proven_with_half_of_the_rows_clipped_and_with_none(slopes, norms):
    kernel, seen = gk.kernel("numpy.blocked.clipped_sum"), []
    compute = kernel.build(P)

    def spied(theta, x, y, **options):
        seen.append(options.get("max_norm"))
        return compute(theta, x, y, **options)

    prove(kernel, spied, gk.Case(P, "clipped_sum", 3), (np.zeros(2), np.zeros(3), np.array(slopes) / -2))
    assert seen == [None, None, *norms, np.inf]


@pytest.mark.parametrize("scale", [np.nan, np.inf])
def test_a_scale_that_is_not_finite_allows_nothing(scale):
    with pytest.raises(Unprovable, match=r"here: entry \(1,\) is 2.5, expected 2.0, and its rounding leaves the range"):
        compare_entries(np.array([1, 2.5]), np.array([1.0, 2.0]), np.array([scale, scale]), 1e-9, "here")


def test_an_error_just_within_the_tolerance_is_returned():
    assert compare_entries(np.array([2.5]), np.array([2.0]), np.array([5.0]), 0.1, "here") == 0.1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("quantity", ["per_sample", "norms"])
@pytest.mark.parametrize(
    "wrap",
    [changed(lambda array, n: np.nan_to_num(array)), changed(lambda array, n: array + array.sum() * 0)],
    ids=["hidden", "spread to all"],
)
def test_what_is_not_finite_may_be_neither_hidden_nor_spread(wrap, quantity, bad):
    case = gk.Case(P, quantity, 5)
    theta, x, y = case.draw()
    y[2] = bad
    gk.check(HONEST[quantity], case, (theta, x, y))
    with pytest.raises(gk.Disagreement, match="one of them not finite"):
        gk.check(wrapped(gk.kernel(HONEST[quantity]), wrap), case, (theta, x, y))


@pytest.mark.parametrize("quantity", FIVE)
@pytest.mark.parametrize("where", ["x", "y"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_data_that_is_not_finite_is_compared_without_a_warning(quantity, where, bad):
    case = gk.Case(P, quantity, 5, features=2)
    theta, x, y = case.draw()
    (x if where == "x" else y)[3] = bad
    gk.check(HONEST[quantity], case, (theta, x, y))


@pytest.mark.parametrize("layout", ["C", "F"])
def test_the_memory_order_of_the_case_reaches_the_kernel(layout):
    seen = []

    def spy(compute):
        def spied(theta, x, y, out=None):
            seen.append("C" if x.flags.c_contiguous else "F")
            return compute(theta, x, y, out)

        return spied

    gk.check(wrapped(gk.kernel(HONEST["per_sample"]), spy), gk.Case(P, "per_sample", 5, layout=layout, features=3))
    assert set(seen) == {layout}


class OneRowDoubled(Reference):
    """A reference with a mistake in its rows, and in nothing that is not computed from them."""

    @property
    def rows(self):
        rows = super().rows.copy()
        rows[1] *= 2
        return rows


class GradientTwice(Reference):
    @property
    def gradient(self):
        return 2 * super().gradient


class NormsWithoutIntercept(Reference):
    @property
    def norms(self):
        return np.abs(self.rows[:, 1])


class VarianceOverLess(Reference):
    @property
    def variance(self):
        return super().variance * 1.25


@pytest.mark.parametrize(
    ("quantity", "mistaken", "says"),
    [
        ("per_sample", OneRowDoubled, "mean of rows = gradient"),
        ("gradient", GradientTwice, "gradient = mean of rows"),
        ("per_sample", NormsWithoutIntercept, "norms of rows = norms"),
        ("norms", NormsWithoutIntercept, r"mean squared norm = sum of variance \+ mean\^2"),
        ("moments", VarianceOverLess, r"variance \+ mean\^2 = mean of squared rows"),
    ],
)
def test_a_mistake_that_kernel_and_reference_share_breaks_an_identity(quantity, mistaken, says):
    case = gk.Case(P, quantity, 5)
    reference = mistaken(P, *case.draw())
    wrong = reference.expect(quantity).value
    kernel = wrapped(replace(gk.kernel(HONEST[quantity]), out=False), instead(lambda result: wrong))
    with np.errstate(all="raise"), pytest.raises(gk.Disagreement, match=says):
        gk.check(kernel, case, reference=reference)


def test_an_honest_kernel_comes_back_with_its_error_and_the_tolerance():
    proof = gk.check("numpy.matmul.gradient", gk.Case(P, "gradient", 60))
    assert 0 < proof.error < proof.tolerance
    # 8 sqrt(m) u with u = 2^-53; 60 samples, 2 parameters and 4 steps of one row.
    assert proof.tolerance == pytest.approx(8 * 66**0.5 * 2**-53)


def test_the_error_is_the_worst_of_all_calls():
    case = gk.Case(P, "per_sample", 60, "float32")
    kernel = gk.kernel(HONEST["per_sample"])

    def worse_into_memory(compute):
        def computed(theta, x, y, out=None):
            rows = compute(theta, x, y, out)
            if out is not None:
                rows *= np.float32(1 + 2e-7)
            return rows

        return computed

    honest, worse = gk.check(kernel, case), gk.check(wrapped(kernel, worse_into_memory), case)
    assert honest.error + 5e-8 < worse.error < worse.tolerance


def test_what_is_surely_wrong_is_so_beside_what_cannot_be_proven():
    values, want = np.array([1.5, 3.0]), np.array([1.0, 2.0])
    with pytest.raises(gk.Disagreement, match=r"entry \(1,\) is 3.0, expected 2.0, off by 1 of its scale") as caught:
        compare_entries(values, want, np.array([np.inf, 1.0]), 0.1, "here")
    assert not isinstance(caught.value, Unprovable)


@pytest.mark.parametrize("quantity", FIVE)
@pytest.mark.parametrize("where", ["x", "y"])
def test_numbers_around_1e200_make_no_honest_kernel_wrong(quantity, where):
    theta, x, y = P.draw(20, 0, features=2)
    if where == "x":
        x[:, 1] *= 1e200
    else:
        y *= 1e200
    case = gk.Case(P, quantity, 20, features=2)
    for key in (HONEST[quantity], f"torch.vmap{'+' if quantity != 'per_sample' else ''}.{quantity}"):
        gk.check(key, case, (theta, x, y))
