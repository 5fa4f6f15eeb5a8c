"""Numbers whose squares leave the range of their dtype: norms, clipped sums and tails stay right, by every way."""

import math

import numpy as np
import pytest
import torch
from first_five import FIVE
from numpy.testing import assert_allclose

import gradkernels as gk
from gradkernels.check.known_gradients import lengths_by_hypot
from gradkernels.kernel import declare
from gradkernels.problems import Regression, Weighted
from gradkernels.quantity import QUANTITIES
from gradkernels.row_norms import lengths
from gradkernels.tree import leaves

LINEAR, HUBER, LOGISTIC = gk.LinearRegression(), gk.HuberRegression(), gk.LogisticRegression()
TAIL = math.exp(-70)
EPS = {"float64": 1e-14, "float32": 2e-5}


def by_every_way(problem, quantity, dtype, theta, x, y, **options):
    """Results of every kernel that is not compiled for seconds, by key."""
    theta, x = np.array(theta, dtype), np.array(x, dtype)
    y = y if isinstance(y, tuple) else np.array(y, dtype)
    case = gk.Case(problem, quantity, len(x), dtype, features=problem.features(x))
    found = {}
    for kernel in gk.kernels(problem, quantity):
        if not kernel.compiles and not kernel.unsupported(case):
            arrays = kernel.backend.put((theta, x, y))
            with np.errstate(all="ignore"):
                found[kernel.key] = kernel.backend.get(kernel.backend.wait(kernel.build(problem)(*arrays, **options)))
    assert len(found) > 5
    return found


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("size", [1e30, "largest", math.inf])
def test_a_far_residual_has_hubers_slope(dtype, size):
    size = float(np.finfo(dtype).max) if size == "largest" else size
    # Predictors of +-size or beyond, of nothing, and of a third of delta.
    given = ([0, 1], [size, -size, 0, 1 / 3, math.nan], [0, 0, 0, 0, 0])
    rows = [[1, size], [-1, size], [0, 0], [1 / 3, 1 / 9], [math.nan, math.nan]]
    for key, found in by_every_way(HUBER, "per_sample", dtype, *given).items():
        assert_allclose(found, np.array(rows, dtype), EPS[dtype], err_msg=key)


@pytest.mark.parametrize(
    ("dtype", "size"), [("float32", 1e30), ("float64", 1e200), ("float32", 1e-30), ("float64", 1e-200)]
)
def test_norms_and_clipped_sums_of_huge_and_tiny_rows(dtype, size):
    # Slopes of 2 theta_0, and rows of 2 theta_0 (1, x).
    given = ([size, 0], [1, 2], [0, 0])
    roots = np.array([8**0.5, 20**0.5])
    for key, found in by_every_way(LINEAR, "norms", dtype, *given).items():
        assert_allclose(found / np.array(size, dtype), roots, EPS[dtype], err_msg=key)
    clipped = np.array([2 / 8**0.5 + 2 / 20**0.5, 2 / 8**0.5 + 4 / 20**0.5])
    for key, found in by_every_way(LINEAR, "clipped_sum", dtype, *given, max_norm=size).items():
        assert_allclose(found / np.array(size, dtype), clipped, EPS[dtype], err_msg=key)


def kept(key):
    """Samples whose slope a way keeps: statsmodels makes it from y - mu, which is 0 where mu is 1 but for rounding."""
    return [0, 2, 3, 4] if key.startswith("statsmodels") else [0, 1, 2, 3, 4]


@pytest.mark.parametrize("dtype", EPS)
def test_the_tails_of_a_logistic_regression(dtype):
    given = ([0, 1], [-70, 70, -70, 70, 0], [0, 1, 1, 0, 0.5])
    rows = np.array([TAIL, -TAIL, -1, 1, 0])
    for key, found in by_every_way(LOGISTIC, "per_sample", dtype, *given).items():
        some = kept(key)
        assert_allclose(found[some, 0], rows[some], EPS[dtype], err_msg=key)
    for key, found in by_every_way(LOGISTIC, "norms", dtype, *given).items():
        some = kept(key)
        assert_allclose(
            found[some], np.abs(rows)[some] * np.array([4901, 4901, 4901, 4901, 1])[some] ** 0.5, EPS[dtype]
        )
    given = ([-70, 0], [0, 0], [0, 0])
    for key, found in by_every_way(LOGISTIC, "clipped_sum", dtype, *given, max_norm=TAIL / 2).items():
        assert_allclose(found, [TAIL, 0], EPS[dtype], err_msg=key)


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("l2", [0.0, 0.5])
@pytest.mark.parametrize("features", [2, 40])
def test_huge_and_tiny_features_without_an_intercept(dtype, l2, features):
    size = {"float32": 1e25, "float64": 1e190}[dtype]
    x = np.zeros((4, features))
    x[:, :2] = [[3 * size, 4 * size], [3 / size, 4 / size], [0, 0], [3, 4]]
    problem = gk.LinearRegression(fit_intercept=False, l2=l2)
    for key, found in by_every_way(problem, "norms", dtype, np.zeros(features), x, [0.5] * 4).items():
        assert_allclose(found, [5 * size, 5 / size, 0, 5], EPS[dtype], err_msg=key)


@pytest.mark.parametrize("dtype", EPS)
def test_huge_and_tiny_weights_of_classes(dtype):
    size = {"float32": 1e30, "float64": 1e200}[dtype]
    problem = gk.SoftmaxRegression(classes=3, weighted=True)
    y = Weighted(np.array([0, 1]), np.array([1 / size, size], dtype))
    # Slopes of (-2/3, 1/3, 1/3) times the weight.
    roots = [(4 / 3) ** 0.5 / size, (10 / 3) ** 0.5 * size]
    for key, found in by_every_way(problem, "norms", dtype, np.zeros((2, 3)), [1, 2], y).items():
        assert_allclose(found, roots, EPS[dtype], err_msg=key)


@pytest.mark.parametrize("quantity", FIVE)
def test_no_parameter_has_empty_gradients_of_length_zero(quantity):
    problem = gk.LinearRegression(fit_intercept=False)
    for kernel in gk.kernels(problem, quantity):
        if not kernel.compiles:
            arrays = kernel.backend.put((np.zeros(0), np.zeros((3, 0)), np.ones(3)))
            for part in leaves(kernel.backend.get(kernel.build(problem)(*arrays))):
                expected = np.zeros(QUANTITIES[quantity].shape(3, (0,)))
                assert_allclose(part, expected, err_msg=kernel.key)


def test_half_precision_is_squared_and_summed_in_single():
    rows = torch.tensor([[300.0, 400.0], [3e-4, 4e-4], [0.0, 0.0]], dtype=torch.float16)
    norms = QUANTITIES["norms"].of(torch, {"w": rows})
    assert norms.dtype == torch.float16
    assert_allclose(norms.numpy(), [500, 5e-4, 0], rtol=1e-3)
    clipped = QUANTITIES["clipped_sum"].of(torch, {"w": rows.repeat(100, 1)}, max_norm=5.0)["w"]
    assert_allclose(clipped.numpy(), [300.03, 400.04], rtol=1e-3)
    mean, variance = QUANTITIES["moments"].of(torch, {"w": torch.tensor([[200.0], [-200.0]] * 500).half()})
    assert (mean["w"].item(), variance["w"].item()) == (0, 40_000)


@pytest.mark.parametrize("library", ["numpy", "torch", "jax.numpy"])
def test_what_is_not_finite_stays_in_its_own_row(library):
    xp = pytest.importorskip(library)
    rows = np.array([[math.inf, 1], [math.nan, 1], [3e30, 4e30], [3, 4], [math.inf, -math.inf], [0, 0]], np.float32)
    found = lengths(xp, [torch.from_numpy(rows) if library == "torch" else xp.asarray(rows)])
    assert_allclose(np.asarray(found), [math.inf, math.nan, 5e30, 5, math.inf, 0], 1e-6)


def test_the_reference_knows_lengths_beyond_the_squares():
    rows = np.array([[3e200, 4e200], [3e-200, 4e-200], [0, 0], [3, 4], [math.inf, 1], [math.nan, 1]])
    assert_allclose(lengths_by_hypot(rows), [5e200, 5e-200, 0, 5, math.inf, math.nan], 1e-15)


def plain_squares(quantity, of):
    """A kernel that takes the root of the plain sum of squares."""

    @declare(f"numpy.plain.{quantity}", problems=Regression)
    def kernel(problem):
        rows = gk.kernel("numpy.broadcast.per_sample").build(problem)

        def compute(theta, x, y, **options):
            g = rows(theta, x, y)
            return of(g, np.sqrt((g.reshape(len(g), -1) ** 2).sum(1)), **options)

        return compute

    return kernel


SQUARING = (
    plain_squares("norms", lambda g, norms: norms),
    plain_squares(
        "clipped_sum", lambda g, norms, max_norm=1.0: np.tensordot(1 / np.maximum(norms / max_norm, 1), g, 1)
    ),
)


@pytest.mark.parametrize("kernel", SQUARING, ids=lambda kernel: kernel.key)
@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("problem", [LINEAR, gk.LinearRegression(l2=0.5), LOGISTIC, gk.SoftmaxRegression()])
def test_a_kernel_that_squares_plainly_is_refused(kernel, dtype, problem):
    with pytest.raises(gk.Disagreement, match="at the ends of the range"):
        gk.check(kernel, gk.Case(problem, kernel.quantity, 20, dtype, features=3))
    with pytest.raises(gk.Disagreement, match="at the ends of the range"):
        gk.fastest(problem, kernel.quantity, n=20, dtype=dtype, kernel=kernel)


@pytest.mark.parametrize("problem", [HUBER, LOGISTIC, gk.PoissonRegression()])
def test_a_slope_that_loses_its_tail_is_refused(problem):
    @declare("numpy.cut.per_sample", problems=Regression)
    def cut(problem):
        rows = gk.kernel("numpy.broadcast.per_sample").build(problem)
        return lambda theta, x, y: rows(theta, x, y) + 1 - 1

    with pytest.raises(gk.Disagreement, match="at the ends of the range"):
        gk.check(cut, gk.Case(problem, "per_sample", 20))
