"""Every kernel for regressions: against the checker, and against numbers that no code of this project computed."""

from itertools import product

import numpy as np
import pytest
from first_five import FIVE
from matrices import covering, matrix

import gradkernels as gk
from gradkernels.quantity import Moments
from gradkernels.tree import leaves

# What is compiled for seconds at every shape has tests of its own, in test_compiled.py; so has what is for modules.
# Quantities with options: tests/quantities.
KERNELS = [
    kernel for kernel in gk.kernels(gk.LinearRegression())
    if not kernel.name.startswith("compiled") and kernel.quantity.name in FIVE
]  # fmt: skip
ROWS = [kernel for kernel in KERNELS if kernel.quantity.name in ("per_sample", "norms")]
TORCH = [kernel for kernel in KERNELS if kernel.backend.name == "torch"]
VARIANTS = (gk.LinearRegression(), gk.LinearRegression(fit_intercept=False))
ONE, COLUMN, MANY = "x (n,)", "x (n, 1)", "x (n, 3)"
DTYPES = ("float64", "float32")
# Any two of problem, n, features, dtype and layout meet at least once; layouts differ only for many features.
SHORT = (
    (VARIANTS[0], 1, ONE, "float64", "C"),
    (VARIANTS[1], 1, COLUMN, "float32", "C"),
    (VARIANTS[0], 1, MANY, "float32", "F"),
    (VARIANTS[1], 2, ONE, "float32", "C"),
    (VARIANTS[0], 2, COLUMN, "float64", "C"),
    (VARIANTS[1], 2, MANY, "float64", "F"),
    (VARIANTS[0], 77, ONE, "float32", "C"),
    (VARIANTS[1], 77, ONE, "float64", "C"),
    (VARIANTS[1], 77, COLUMN, "float64", "C"),
    (VARIANTS[0], 77, COLUMN, "float32", "C"),
    (VARIANTS[0], 77, MANY, "float64", "C"),
    (VARIANTS[1], 77, MANY, "float32", "F"),
)
LAYOUTS = ((ONE, "C"), (COLUMN, "C"), (MANY, "C"), (MANY, "F"))
LONG = tuple(
    (problem, n, shape, dtype, layout)
    for problem, n, (shape, layout), dtype in product(VARIANTS, (1, 2, 77, 1000, 20_000), LAYOUTS, DTYPES)
)


def pytest_generate_tests(metafunc):
    """All points for each kernel with --long, else those in which each kernel meets each dtype and each shape of x."""
    if "point" in metafunc.fixturenames:
        if metafunc.config.getoption("--long"):
            chosen = product(KERNELS, LONG)
        else:
            chosen = covering(list(product(KERNELS, SHORT)), dtype_and_shape)
        ways = [pytest.param(kernel, p, id="-".join(map(str, (kernel.key, p[0].name, *p[1:])))) for kernel, p in chosen]
        metafunc.parametrize("kernel,point", ways)


def dtype_and_shape(kernel, point):
    return f"{kernel.key} {point[3]}", f"{kernel.key} {point[2]}", point


def each(kernels):
    return pytest.mark.parametrize("kernel", kernels, ids=lambda kernel: kernel.key)


def inputs_of(case, shape):
    theta, x, y = case.draw()
    return theta, x[:, None] if shape == COLUMN else x, y


def compute(kernel, problem, *inputs, dtype="float64", **options):
    """The result as numpy arrays, from numpy inputs."""
    arrays = [kernel.backend.put(np.asarray(array, dtype)) for array in inputs]
    result = kernel.backend.wait(kernel.build(problem)(*arrays, **options))
    parts = [kernel.backend.get(leaf) for leaf in leaves(result)]
    return Moments(*parts) if isinstance(result, Moments) else parts[0]


def test_agrees_with_the_reference(kernel, point):
    problem, n, shape, dtype, layout = point
    if kernel.loops and n > 1000:
        pytest.skip("a Python loop, proven at every smaller size")
    case = gk.Case(problem, kernel.quantity, n, dtype, layout=layout, features=3 if shape == MANY else 1)
    if kernel.backend.name == "statsmodels" and dtype == "float32":
        assert kernel.unsupported(case) == ("statsmodels computes in float64 only, not in float32",)
        return
    proof = gk.check(kernel, case, inputs_of(case, shape))
    assert proof.error <= proof.tolerance


# Worked out by hand: slope 2 (eta - y), row slope (1, x).
INTERCEPT = {
    "inputs": ((1, 2), (0, 0.75, -0.75), (0, 4.5, 0.5)),  # eta 1, 2.5, -0.5; slopes 2, -4, -2
    "per_sample": ((2, 0), (-4, -3), (-2, 1.5)),
    "gradient": (-4 / 3, -0.5),
    "norms": (2, 5, 2.5),
    "moments": ((-4 / 3, -0.5), (56 / 9, 3.5)),
    "clipped_sum": {1: (-0.6, 0), 2.5: (-2, 0), 10: (-4, -1.5)},
}
NO_INTERCEPT = {
    "inputs": ((2,), (1, 2, -1), (1, 5, -2)),  # eta 2, 4, -2; slopes 2, -2, 0: the last row has no direction
    "per_sample": ((2,), (-4,), (0,)),
    "gradient": (-2 / 3,),
    "norms": (2, 4, 0),
    "moments": ((-2 / 3,), (56 / 9,)),
    "clipped_sum": {1: (0,), 3: (-1,), 10: (-2,)},
}
TWO_FEATURES = {
    "inputs": ((1, 2, -1), ((1, 0), (0, 2), (2, -2)), (2.5, 0, 6.5)),  # eta 3, -1, 7; slopes 1, -2, 1
    "per_sample": ((1, 1, 0), (-2, 0, -4), (1, 2, -2)),
    "gradient": (0, 1, -2),
    "norms": (2**0.5, 20**0.5, 3),
    "moments": ((0, 1, -2), (2, 2 / 3, 8 / 3)),
    "clipped_sum": {3: (2 - 6 / 20**0.5, 3, -2 - 12 / 20**0.5), 10: (0, 3, -6)},
}


BY_HAND = {
    "intercept": (VARIANTS[0], INTERCEPT),
    "no intercept": (VARIANTS[1], NO_INTERCEPT),
    "two features": (VARIANTS[0], TWO_FEATURES),
}


@matrix(
    "kernel,name,dtype", KERNELS, BY_HAND, DTYPES,
    occurring=lambda kernel, name, dtype: (f"{kernel.key} {name}", f"{kernel.key} {dtype}"),
)  # fmt: skip
def test_equals_three_points_worked_out_by_hand(kernel, name, dtype):
    problem, example = BY_HAND[name]
    expected = example[kernel.quantity.name]
    options = [{"max_norm": bound} for bound in expected] if isinstance(expected, dict) else [{}]
    values = list(expected.values()) if isinstance(expected, dict) else [expected]
    for settings, value in zip(options, values, strict=True):
        result = compute(kernel, problem, *example["inputs"], dtype=dtype, **settings)
        np.testing.assert_allclose(result, value, rtol=1e-6, atol=1e-6)


def test_clipping_without_a_bound_uses_one():
    default = compute(gk.kernel("numpy.broadcast+.clipped_sum"), VARIANTS[0], *INTERCEPT["inputs"])
    np.testing.assert_allclose(default, INTERCEPT["clipped_sum"][1], atol=1e-15)


COURSEWORK = (
    ((0.18694752, -0.23685427), (-7.0330, -1.2066), "float32"),  # drawn by torch
    ((0.9890115, -1.7473384), (-5.1731, -2.2966), "float64"),  # drawn by numpy
)


@pytest.fixture(scope="module")
def notebook():
    """The 40 points of the coursework."""
    rng = np.random.RandomState(45)  # the generator that drew them
    x = rng.uniform(-1, 1, 40)
    return x, 3 * x + 4 + rng.randn(40)


@each([kernel for kernel in KERNELS if kernel.quantity.name in ("gradient", "per_sample", "moments")])
@pytest.mark.parametrize(("theta", "gradient", "dtype"), COURSEWORK, ids=["torch point", "numpy point"])
def test_gives_the_gradient_of_the_coursework(kernel, theta, gradient, dtype, notebook):
    result = compute(kernel, VARIANTS[0], theta, *notebook, dtype=dtype)
    mean = {"per_sample": lambda: result.mean(0), "moments": lambda: result.mean}.get(kernel.quantity.name)
    np.testing.assert_allclose(mean() if mean else result, gradient, rtol=0, atol=5e-5)


@each(ROWS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["x", "y"])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_what_is_not_finite_stays_in_its_own_sample(kernel, bad, where):
    theta, x, y = VARIANTS[0].draw(9, seed=0, features=2)
    clean = compute(kernel, VARIANTS[0], theta, x, y)
    (x[4] if where == "x" else y[4:5])[0] = bad
    dirty = compute(kernel, VARIANTS[0], theta, x, y)
    others = np.arange(9) != 4
    assert not np.isfinite(dirty[4]).any()
    np.testing.assert_array_equal(dirty[others], clean[others])


@each([kernel for kernel in KERNELS if kernel not in ROWS])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_what_is_not_finite_reaches_every_mean_and_sum(kernel):
    theta, x, y = VARIANTS[0].draw(9, seed=0, features=2)
    y[4] = np.nan
    assert all(np.isnan(part).all() for part in leaves(compute(kernel, VARIANTS[0], theta, x, y)))


@each([kernel for kernel in KERNELS if not kernel.quantity.averages])
@pytest.mark.parametrize("problem", VARIANTS, ids=lambda problem: problem.name)
@pytest.mark.parametrize("x", [np.empty(0), np.empty((0, 1))], ids=["(0,)", "(0, 1)"])
def test_no_samples_give_no_rows_and_a_sum_of_zero(kernel, problem, x):
    p = 1 + problem.fit_intercept
    result = compute(kernel, problem, np.ones(p), x, np.empty(0))
    assert result.shape == {"per_sample": (0, p), "norms": (0,), "clipped_sum": (p,)}[kernel.quantity.name]
    assert result.dtype == np.float64
    assert not result.any()


@each(KERNELS)
def test_takes_memory_as_it_comes(kernel):
    """Backwards, with gaps, and read-only."""
    theta, x, y = (array[..., ::-1] for array in VARIANTS[0].draw(20, seed=1, features=3))
    wide = np.repeat(x, 2, axis=0)
    wide.flags.writeable = False
    plain = compute(kernel, VARIANTS[0], theta.copy(), x.copy(), y.copy())
    for got, want in zip(leaves(compute(kernel, VARIANTS[0], theta, wide[::2], y)), leaves(plain), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@each([kernel for kernel in KERNELS if kernel.out])
def test_writes_into_memory_with_gaps(kernel):
    inputs = VARIANTS[0].draw(7, seed=2, features=2)
    wide = np.full((7, 2, 3) if kernel.quantity.name == "per_sample" else (7, 2), np.nan)
    out = kernel.backend.put(wide[:, 1])
    result = kernel.build(VARIANTS[0])(*map(kernel.backend.put, inputs), out=out)
    assert result is out
    np.testing.assert_allclose(wide[:, 1], compute(kernel, VARIANTS[0], *inputs))
    assert np.isnan(wide[:, 0]).all()


@pytest.mark.parametrize("n", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("quantity", ["per_sample", "moments"])
def test_every_chunk_lands_in_its_place(n, quantity):
    way = "torch.vmap" if quantity == "per_sample" else "torch.vmap+"
    gk.check(f"{way}[chunk=3].{quantity}", gk.Case(VARIANTS[0], quantity, n, features=2))


@each(TORCH)
def test_torch_results_carry_no_graph_and_inputs_get_none(kernel):
    import torch

    inputs = tuple(map(torch.from_numpy, VARIANTS[0].draw(5, seed=3)))
    for wanted in (False, True):
        inputs[0].requires_grad_(wanted)
        result = kernel.build(VARIANTS[0])(*inputs)
        assert not any(leaf.requires_grad for leaf in leaves(result))
        assert [array.requires_grad for array in inputs] == [wanted, False, False]
        assert inputs[0].grad is None


@each(TORCH)
def test_torch_kernels_work_inside_no_grad(kernel):
    import torch

    inputs = VARIANTS[0].draw(5, seed=3)
    outside = compute(kernel, VARIANTS[0], *inputs)
    with torch.no_grad():
        inside = compute(kernel, VARIANTS[0], *inputs)
    np.testing.assert_array_equal(inside, outside)
