"""`numba.fused`: every quantity of every regression in one pass, whatever the memory layout, dtype and threads."""

import math
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest

import gradkernels as gk
from gradkernels.bench.timing.peak_memory import peak_bytes
from gradkernels.problems import Weighted
from gradkernels.problems.regression.scalar import ScalarRegression
from gradkernels.tree import leaves

numba = pytest.importorskip("numba")
from gradkernels.engines.fused import chunks as cutting  # noqa: E402
from gradkernels.engines.fused.codegen import elementary, slopes, threads  # noqa: E402

QUANTITIES = ("gradient", "per_sample", "norms", "moments", "clipped_sum")
DTYPES = ("float64", "float32")
LINEAR = gk.LinearRegression()
PROBLEMS = (
    LINEAR,
    gk.LinearRegression(fit_intercept=False, l2=0.5),
    gk.LogisticRegression(l2=0.3),
    gk.LogisticRegression(weighted=True),
    gk.PoissonRegression(weighted=True, fit_intercept=False),
    gk.HuberRegression(delta=0.7, l2=0.1, weighted=True),
    gk.SoftmaxRegression(classes=3),
    gk.SoftmaxRegression(classes=5, l2=0.2, weighted=True, fit_intercept=False),
)
SHAPES = ("x (n,)", "x (n, 1)", "C 3", "F 3", "C 30", "F 30", "C 64", "F 64")
SIZES = (1, 2, 127, 128, 129, 1000, 10_000)


def short():
    """Every quantity of every problem in either dtype; every dtype, shape and size for one problem or another."""
    wheel = list(product(SHAPES, SIZES[:6]))
    for i, (problem, quantity) in enumerate(product(PROBLEMS, QUANTITIES)):
        yield problem, quantity, DTYPES[(i + i // len(QUANTITIES)) % 2], *wheel[i * 11 % len(wheel)]


def pytest_generate_tests(metafunc):
    if "point" in metafunc.fixturenames:
        long = metafunc.config.getoption("--long")
        points = list(product(PROBLEMS, QUANTITIES, DTYPES, SHAPES, SIZES) if long else short())
        metafunc.parametrize("point", points, ids=lambda p: "-".join(map(str, (p[0].name, *p[1:]))))


def each_quantity(function):
    return pytest.mark.parametrize("quantity", QUANTITIES)(function)


def fused(quantity, problem):
    return gk.kernel(f"numba.fused.{quantity}").build(problem)


def inputs(problem, n, features=3, dtype="float64"):
    return gk.Case(problem, "gradient", n, dtype, features=features).draw()


def assert_close(got, want, rtol):
    for one, other in zip(leaves(got), leaves(want), strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * np.abs(other).max(initial=0))


def assert_equal(got, want):
    for one, other in zip(leaves(got), leaves(want), strict=True):
        np.testing.assert_array_equal(one, other)


def test_agrees_with_the_reference(point):
    problem, quantity, dtype, shape, n = point
    layout, _, features = shape.rpartition(" ")
    features = int(features) if features.isdigit() else 1
    case = gk.Case(problem, quantity, n, dtype, layout="F" if layout == "F" else "C", features=features)
    theta, x, y = case.draw()
    gk.check(f"numba.fused.{quantity}", case, (theta, x[:, None] if shape == "x (n, 1)" else x, y))


@each_quantity
@pytest.mark.parametrize("problem", [LINEAR, gk.SoftmaxRegression(weighted=True, l2=0.1)], ids=lambda p: p.name)
@pytest.mark.parametrize("n", [20, 20_000])
def test_takes_memory_as_it_comes(quantity, problem, n):
    """Backwards, with gaps, transposed, broadcast, not aligned, read-only: what counts is what is in it."""
    theta, x, y = inputs(problem, n, features=14)
    target, weight = y if problem.weighted else (y, None)
    compute = fused(quantity, problem)
    want = compute(theta, x, y)
    for place in (gapped, backwards, transposed, unaligned, packed):
        other = place(target)
        got = compute(place(theta), place(x), Weighted(other, place(weight)) if problem.weighted else other)
        assert_close(got, want, 1e-12)
    same = np.broadcast_to(x[0], x.shape)
    assert_close(compute(theta, same, y), compute(theta, same.copy(), y), 1e-12)


def gapped(array):
    wide = np.repeat(np.repeat(array, 2, axis=0), 3, axis=-1) if array.ndim > 1 else np.repeat(array, 3)
    wide.flags.writeable = False
    return wide[::2, ::3] if array.ndim > 1 else wide[::3]


def spaced(array):
    return np.repeat(array, 2, axis=-1)[..., ::2]


def backwards(array):
    return array[..., ::-1].copy()[..., ::-1]


def transposed(array):
    return array.T.copy().T


def unaligned(array):
    memory = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    memory[...] = array
    return memory


def packed(array):
    """A column of a structure with an odd number of bytes."""
    memory = np.zeros(array.shape, np.dtype([("flag", np.uint8), ("value", array.dtype)]))
    memory["value"] = array
    return memory["value"]


@pytest.mark.parametrize("problem", [LINEAR, gk.SoftmaxRegression()], ids=lambda p: p.name)
@pytest.mark.parametrize(("n", "features"), [(7, 1), (50, 4), (30_000, 30)])
@pytest.mark.parametrize("quantity", ["per_sample", "norms"])
def test_writes_into_memory_of_any_layout(problem, n, features, quantity):
    theta, x, y = inputs(problem, n, features)
    compute = fused(quantity, problem)
    want = compute(theta, x, y)
    for place in (np.copy, spaced, transposed, backwards, unaligned, packed):
        out = place(np.full_like(want, np.nan))
        assert compute(theta, x, y, out=out) is out
        np.testing.assert_array_equal(out, want)


def test_writes_nothing_beside_its_result():
    theta, x, y = inputs(LINEAR, 50_000, features=9)
    want = fused("per_sample", LINEAR)(theta, x, y)
    for offset in range(9):
        memory = np.full(50_000 * 10 + 32, -1.0)
        out = memory[offset : offset + 500_000].reshape(50_000, 10)
        fused("per_sample", LINEAR)(theta, x, y, out=out)
        assert (np.delete(memory, slice(offset, offset + 500_000)) == -1).all()
        np.testing.assert_array_equal(out, want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("features", [1, 3, 30])
@pytest.mark.parametrize("layout", ["C", "F"])
def test_what_is_not_finite_stays_in_its_own_sample(dtype, bad, features, layout):
    theta, x, y = gk.Case(LINEAR, "norms", 300, dtype, features=features, layout=layout).draw()
    clean = [fused(quantity, LINEAR)(theta, x, y) for quantity in ("per_sample", "norms")]
    x[140, ...] = bad
    others = np.arange(300) != 140
    for quantity, before in zip(("per_sample", "norms"), clean, strict=True):
        after = fused(quantity, LINEAR)(theta, x, y)
        assert not np.isfinite(after[140]).any()
        np.testing.assert_array_equal(after[others], before[others])
    for quantity in ("gradient", "moments"):
        assert not any(np.isfinite(part).any() for part in leaves(fused(quantity, LINEAR)(theta, x, y)))


def test_an_infinite_sum_is_infinite():
    x = np.r_[np.zeros(500), np.finfo(np.float64).max, np.zeros(500), np.finfo(np.float64).max]
    found = fused("clipped_sum", LINEAR)(np.zeros(2), x, np.full(1002, -0.5), max_norm=math.inf)
    np.testing.assert_array_equal(found, [1002, np.inf])


@pytest.mark.parametrize("problem", PROBLEMS[2:4], ids=lambda p: p.name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_slopes_are_exact_at_the_ends(problem, dtype):
    x = np.array([1000, -1000, 1000, -1000, 0], dtype)
    y = np.array([0, 0, 1, 1, 0.5], dtype)
    weighted = Weighted(y, np.ones(5, dtype)) if problem.weighted else y
    rows = fused("per_sample", problem)(np.array([0, 1], dtype), x, weighted)
    np.testing.assert_array_equal(rows[:, 0], [1, 0, 0, -1, 0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e-30, 1e30])
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_norms_neither_overflow_nor_underflow(dtype, size, l2):
    problem = gk.LinearRegression(fit_intercept=False, l2=l2)
    power = {"float32": 1, "float64": 6}[dtype]
    x = np.array([[3, 4, 0, 0, 0, 0, 0, 0], [0] * 8], dtype) * dtype_power(size, power, dtype)
    y = np.array([-0.5, 1], dtype)
    found = fused("norms", problem)(np.zeros(8, dtype), x, y)
    np.testing.assert_allclose(found, [5 * float(x[0, 0]) / 3, 0], rtol=1e-6)


def dtype_power(size, power, dtype):
    return np.dtype(dtype).type(float(size) ** power)


# Theta is zero and y is -1/2, so the slopes are 1 and the gradient is the mean of the columns.
@pytest.mark.parametrize("layout", ["C", "F"])
@pytest.mark.parametrize("features", [1, 3, 30])
def test_float32_sums_are_better_than_pairwise(features, layout):
    n = 300_000
    x = np.random.default_rng(0).uniform(0, 1, (n, features)).astype(np.float32)
    theta, y = np.zeros(features + 1, np.float32), np.full(n, -0.5, np.float32)
    found = fused("gradient", LINEAR)(theta, np.asarray(x, order=layout), y)
    for j in range(features):
        exact = math.fsum(x[:, j].tolist()) / n
        pairwise = abs(float(np.ascontiguousarray(x[:, j]).sum()) / n - exact)
        assert abs(float(found[j + 1]) - exact) <= max(pairwise, float(np.spacing(np.float32(exact))))


@pytest.mark.parametrize("features", [1, 3, 30])
@pytest.mark.parametrize("order", ["as drawn", "sorted"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_variance_survives_a_large_mean(features, order, dtype):
    n, mean = 50_000, {"float64": 1e7, "float32": 1e3}[dtype]
    x = (mean + np.random.default_rng(1).standard_normal((n, features))).astype(dtype)
    x = np.sort(x, axis=0) if order == "sorted" else x
    found = fused("moments", LINEAR)(np.zeros(features + 1, dtype), x, np.full(n, -0.5, dtype))
    for j in range(features):
        column = x[:, j].astype(np.longdouble)
        exact = float(((column - column.mean()) ** 2).mean())
        assert abs(float(found.variance[j + 1]) / exact - 1) <= 16 * np.finfo(dtype).eps
    assert found.variance[0] <= np.finfo(dtype).eps ** 2  # of a slope that is always 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("at", [0, 299, 300, 999])
@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_infinity_keeps_its_sign_in_a_mean_whatever_block_it_is_in(at, bad, dtype):
    x, y = np.ones(1000, dtype), np.zeros(1000, dtype)
    x[1], y[at] = -1, bad
    found = fused("moments", LINEAR)(np.zeros(2, dtype), x, y)
    assert found.mean.tolist() == [-bad, -bad]  # slope -2 y, times 1 and x
    assert np.isnan(found.variance).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_is_within_about_one_unit_in_the_last_place(dtype):
    edge = {"float64": 745, "float32": 103}[dtype]
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.uniform(-1, 1, 10_000), rng.uniform(-edge, edge, 100_000)]).astype(dtype)
    found = exp(x)
    with np.errstate(all="ignore"):
        exact = np.exp(x.astype(np.longdouble))
        rounded = exact.astype(dtype)
        assert (np.isinf(found) == np.isinf(rounded)).all()
        finite = np.isfinite(rounded)
        error = np.abs(found.astype(np.longdouble) - exact)[finite] / np.spacing(rounded[finite])
    assert error.max() < 1.1


def exp(x):
    @numba.njit(**elementary.STRICT)
    def loop(x, out):
        for i in range(len(x)):
            out[i] = elementary.XP.exp(x[i])

    out = np.empty_like(x)
    loop(x, out)
    return out


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_of_what_is_special(dtype):
    x = np.array([0, -0.0, 1000, -1000, np.inf, -np.inf, np.nan], dtype)
    np.testing.assert_array_equal(exp(x), np.array([1, 1, np.inf, 0, np.inf, 0, np.nan], dtype))


@dataclass(frozen=True, kw_only=True)
class Zoo(ScalarRegression):
    """A slope that uses every function."""

    scale: float = 2.0
    family = "zoo"

    def loss_of(self, xp, eta, y):
        raise NotImplementedError

    def slope(self, xp, eta, y):
        size = xp.abs(eta) + 1
        a = xp.where(eta > y, xp.log(size), xp.sqrt(size)) + xp.expm1(-size) * xp.sign(eta) + xp.log1p(size)
        b = xp.minimum(eta, y) * xp.tanh(eta) + xp.maximum(eta, y) * xp.sin(eta) + xp.cos(eta) * xp.sinh(y)
        return a + b + xp.clip(eta, -self.scale, self.scale) + xp.exp(-xp.cosh(eta) / size)


@pytest.mark.parametrize("dtype", DTYPES)
def test_slopes_may_use_every_function_of_the_namespace(dtype):
    theta, x, y = inputs(Zoo(), 500, dtype=dtype)
    rows = fused("per_sample", Zoo())(theta, x, y)
    want = gk.kernel("numpy.broadcast.per_sample").build(Zoo())(theta, x, y)
    assert_close(rows, want, 100 * np.finfo(dtype).eps)


@dataclass(frozen=True, kw_only=True)
class Opaque(ScalarRegression):
    """A slope that numba cannot compile."""

    family = "opaque"

    def loss_of(self, xp, eta, y):
        return eta

    def slope(self, xp, eta, y):
        return open(eta)


def test_a_slope_that_cannot_be_compiled_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="numba cannot compile Opaque.slope; write it with operators"):
        fused("gradient", Opaque())(*inputs(LINEAR, 5))


@pytest.mark.parametrize("shapes", [((4,), (5, 3), (4,)), ((5,), (5, 3), (5,)), ((2,), (5,), (3,))])
def test_shapes_that_do_not_fit_touch_no_other_memory(shapes):
    with pytest.raises(ValueError, match="do not fit together"):
        fused("gradient", LINEAR)(*map(np.ones, shapes))


def test_a_result_that_does_not_fit_is_not_written_to():
    with pytest.raises(ValueError, match="do not fit together"):
        fused("norms", LINEAR)(*inputs(LINEAR, 5), out=np.ones(4))


@each_quantity
@pytest.mark.parametrize("problem", [LINEAR, gk.SoftmaxRegression(l2=0.1)], ids=lambda p: p.name)
def test_threads_change_no_digit(quantity, problem, monkeypatch):
    batch = inputs(problem, 60_000, features=10)
    monkeypatch.setattr(threads, "numba_threads", lambda: 1)
    alone = fused(quantity, problem)(*batch)
    monkeypatch.setattr(threads, "numba_threads", lambda: 3)
    used = []
    run_each = threads.run_each
    monkeypatch.setattr(
        threads, "run_each", lambda work, chunks, count: (used.append(count), run_each(work, chunks, count))
    )
    assert_equal(fused(quantity, problem)(*batch), alone)
    assert used == [3]


def test_as_many_threads_as_numba_may_use():
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    assert threads.numba_threads() == 1
    numba.set_num_threads(before)
    assert threads.numba_threads() == before


def test_many_callers_at_once(monkeypatch):
    monkeypatch.setattr(threads, "numba_threads", lambda: 2)
    batch = inputs(LINEAR, 60_000, features=10)
    compute, found = fused("gradient", LINEAR), []
    want = compute(*batch)
    callers = [threading.Thread(target=lambda: found.append(compute(*batch))) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 8
    for one in found:
        assert_equal(one, want)


def test_an_error_in_a_thread_reaches_the_caller():
    def work(chunk):
        raise OverflowError(chunk)

    with pytest.raises(OverflowError):
        threads.run_each(work, range(10), 3)


def test_every_row_is_in_one_chunk():
    for n, features in ((1, 10**6), (300, 10**4), (10**6, 30), (10**7, 1), (262_145, 1)):
        chunks = cutting.split_rows(n, n * features)
        assert [start for start, _ in chunks] == [0, *(stop for _, stop in chunks[:-1])]
        assert chunks[-1][1] == n
        assert len(chunks) <= cutting.CHUNKS


@pytest.mark.parametrize("quantity", ["gradient", "norms", "moments", "clipped_sum"])
def test_takes_less_than_a_megabyte(quantity):
    n = 400_000
    theta, x, y = inputs(LINEAR, n, features=30)
    compute, settings = fused(quantity, LINEAR), {"out": np.ones(n)} if quantity == "norms" else {}
    compute(theta, x, y, **settings)
    found = peak_bytes(lambda: compute(theta, x, y, **settings))
    if found is None:
        pytest.skip("the system does not tell a process its peak memory")
    assert found < 2**20


FORK = """
import os, numpy as np, gradkernels as gk
from gradkernels.engines.fused.codegen import threads
threads.numba_threads = lambda: 2
compute = gk.kernel("numba.fused.gradient").build(gk.LinearRegression())
batch = gk.Case(gk.LinearRegression(), "gradient", 60_000, features=10).draw()
want = compute(*batch)
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(compute(*batch), want) else 1)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_forked_process_computes_too():
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], check=True, timeout=300)


def test_without_a_folder_to_write_to_nothing_is_kept():
    def decorator(*signature, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function 'f': no locator available for file 'f.py'")
        return lambda function: (signature, options, function)

    assert slopes.cached_on_disk(decorator, 1, nogil=True)(len) == ((1,), {"nogil": True}, len)


def test_other_errors_of_the_compiler_are_not_hidden():
    def decorator(*signature, **options):
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        slopes.cached_on_disk(decorator)(len)


def test_the_name_of_a_slope_changes_with_all_that_it_is_made_from():
    def make(constant, cell, default=1):
        return lambda self, xp, eta, y, unused=default: eta * cell + (y if constant else -y)

    functions = [make(True, 1), make(True, 2), make(True, 1, 3), lambda self, xp, eta, y: eta, lambda s, xp, eta, y: y]
    prints = [slopes.code_fingerprint(function) for function in functions]
    assert len(set(prints)) == len(functions)
    assert slopes.code_fingerprint(make(True, 1)) == prints[0]
