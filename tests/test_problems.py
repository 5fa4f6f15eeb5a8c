"""The regressions: losses and slopes at literal numbers, in every library; weights, penalties, names and refusals."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
import torch

import gradkernels as gk
from gradkernels.backend import LIBRARIES
from gradkernels.check.reference import true_gradients
from gradkernels.problems import REGRESSIONS, BlackBox, Problem, ScalarRegression, Weighted

LINEAR, LOGISTIC, POISSON = gk.LinearRegression(), gk.LogisticRegression(), gk.PoissonRegression()
HUBER, HUBER_2 = gk.HuberRegression(), gk.HuberRegression(delta=2.0)
# eta, y, loss, slope; computed with 30 digits, or exact.
POINTS = {
    LINEAR: [(3, 1, 4, 4), (1, 3, 4, -4), (2, 2, 0, 0), (-0.5, 1, 2.25, -3)],
    LOGISTIC: [
        (0, 0, 0.6931471805599453, 0.5),
        (0, 1, 0.6931471805599453, -0.5),
        (2, 1, 0.1269280110429725, -0.11920292202211756),
        (2, 0, 2.1269280110429725, 0.8807970779778824),
        (-2, 1, 2.1269280110429725, -0.8807970779778824),
        (0.5, 0.25, 0.8490769841801067, 0.37245933120185457),
        (40, 1, 4.248354255291589e-18, -4.248354255291589e-18),
        (-40, 0, 4.248354255291589e-18, 4.248354255291589e-18),
    ],
    POISSON: [
        (0, 0, 1, 1),
        (0, 1, 1, 0),
        (1.5, 4, -1.518310929661935, 0.48168907033806483),
        (-2, 0, 0.1353352832366127, 0.1353352832366127),
    ],
    HUBER: [(0.5, 0, 0.125, 0.5), (1, 0, 0.5, 1), (3, 0, 2.5, 1), (-3, 0, 2.5, -1), (0, 1.5, 1, -1)],
    HUBER_2: [(1, 0, 0.5, 1), (2, 0, 2, 2), (3, 0, 4, 2), (-5, 0, 8, -2)],
}
HUGE = {
    LINEAR: [(1000, 1, 998_001, 1998), (-1000, 1, 1_002_001, -2002)],
    LOGISTIC: [(1000, 0, 1000, 1), (1000, 1, 0, 0), (-1000, 0, 0, 0), (-1000, 1, 1000, -1), (1000, 0.5, 500, 0.5)],
    POISSON: [(1000, 3, np.inf, np.inf), (-1000, 3, 3000, -3), (-1000, 0, 0, 0)],
    HUBER: [(1000, 0, 999.5, 1), (-1000, 0, 999.5, -1)],
    HUBER_2: [(1000, 0, 1998, 2), (-1000, 0, 1998, -2)],
}
SOFTMAX = gk.SoftmaxRegression()
SHARES = [0.2594964603424191, 0.7053845126982412, 0.03511902695933973]  # of e^1, e^2 and e^-1 in their sum
CLASSES = [  # eta, y, loss, slope
    ([1, 2, -1], 0, 1.3490122167681864, [SHARES[0] - 1, SHARES[1], SHARES[2]]),
    ([1, 2, -1], 1, 0.3490122167681864, [SHARES[0], SHARES[1] - 1, SHARES[2]]),
    ([1, 2, -1], 2, 3.3490122167681864, [SHARES[0], SHARES[1], SHARES[2] - 1]),
    ([5, 5, 5], 1, 1.0986122886681098, [1 / 3, -2 / 3, 1 / 3]),
    ([1000, 0, -1000], 0, 0, [0, 0, 0]),
    ([1000, 0, -1000], 1, 1000, [1, -1, 0]),
    ([1000, 0, -1000], 2, 2000, [1, 0, -1]),
    ([-1000, -1000, -3000], 2, 2000 + 0.6931471805599453, [0.5, 0.5, -1]),
]
EVERY = [LINEAR, LOGISTIC, POISSON, HUBER, SOFTMAX]
each_problem = pytest.mark.parametrize("problem", EVERY, ids=lambda problem: problem.family)
each_library = pytest.mark.parametrize("library", LIBRARIES)


def evaluated(problem, library, dtype, etas, ys):
    """Loss and slope of the library at these points."""
    backend = LIBRARIES[library]
    target = np.array(ys) if problem.integer_target else np.array(ys, dtype)
    eta, y = backend.put((np.array(etas, dtype), target))
    with np.errstate(over="ignore"):
        return [backend.get(f(backend.xp, eta, y)) for f in (problem.loss_of, problem.slope)]


@each_library
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-14), ("float32", 1e-6)])
@pytest.mark.parametrize("problem", POINTS, ids=lambda problem: problem.name)
def test_loss_and_slope_at_literal_numbers(problem, library, dtype, rtol):
    etas, ys, losses, slopes = zip(*POINTS[problem], *HUGE[problem], strict=True)
    loss, slope = evaluated(problem, library, dtype, etas, ys)
    assert loss.dtype == slope.dtype == dtype
    # Far in a tail the loss is max(eta, 0) - y eta, which cancels; its slope does not.
    np.testing.assert_allclose(loss, losses, rtol=rtol, atol=40 * rtol)
    np.testing.assert_allclose(slope, slopes, rtol=rtol)


@each_library
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-15), ("float32", 1e-6)])
def test_softmax_at_literal_numbers(library, dtype, tolerance):
    etas, ys, losses, slopes = zip(*CLASSES, strict=True)
    loss, slope = evaluated(SOFTMAX, library, dtype, etas, ys)
    assert loss.dtype == slope.dtype == dtype
    np.testing.assert_allclose(loss, losses, rtol=10 * tolerance, atol=tolerance)
    np.testing.assert_allclose(slope, slopes, rtol=0, atol=tolerance)


GRID = [-1000.0, -37.0, -2.0, -1.0, -1e-9, 0.0, 1e-9, 0.5, 1.0, 2.0, 3.0, 37.0, 1000.0]


@pytest.mark.parametrize("problem", POINTS, ids=lambda problem: problem.name)
@pytest.mark.parametrize("y", [0.0, 1.0])
def test_the_slope_is_the_derivative_of_the_loss_also_at_kinks(problem, y):
    eta = torch.tensor([value for value in GRID if problem is not POISSON or value < 700], dtype=torch.float64)
    eta.requires_grad_()
    target = torch.full_like(eta, y)
    (derivative,) = torch.autograd.grad(problem.loss_of(torch, eta, target).sum(), eta)
    slope = problem.slope(torch, eta, target)
    torch.testing.assert_close(slope, derivative, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("y", [0, 1, 2])
def test_the_slope_of_softmax_is_the_derivative_of_its_loss_also_in_a_tie(y):
    eta = torch.tensor([[1, 2, -1], [5, 5, 5], [0, 0, 0], [800, -800, 0], [2, 2, 1]], dtype=torch.float64)
    eta.requires_grad_()
    target = torch.full((5,), y)
    (derivative,) = torch.autograd.grad(SOFTMAX.loss_of(torch, eta, target).sum(), eta)
    torch.testing.assert_close(SOFTMAX.slope(torch, eta, target), derivative, rtol=1e-12, atol=1e-15)


def test_huber_is_torchs():
    eta, y = torch.linspace(-5, 5, 41, dtype=torch.float64), torch.zeros(41, dtype=torch.float64)
    theirs = torch.nn.HuberLoss(reduction="none", delta=2.0)(eta, y)
    torch.testing.assert_close(HUBER_2.loss_of(torch, eta, y), theirs, rtol=1e-15, atol=0)


@each_problem
def test_a_penalty_is_shared_out_to_every_row_and_spares_the_intercept(problem):
    cls = type(problem)
    plain, penalised = cls(), cls(l2=0.5)
    theta, x, y = plain.draw(7, seed=3, features=2)
    added = gk.per_sample(penalised, theta, x, y) - gk.per_sample(plain, theta, x, y)
    share = 0.5 * theta
    share[0] = 0
    np.testing.assert_allclose(added, np.broadcast_to(share, added.shape), atol=1e-14)
    loss = penalised.loss(theta, x, y) - plain.loss(theta, x, y)
    np.testing.assert_allclose(loss, 0.25 * (theta[1:] ** 2).sum(), rtol=1e-12)
    rows = gk.per_sample(penalised, theta, x, y)
    np.testing.assert_allclose(rows.mean(0), gk.gradient(penalised, theta, x, y), rtol=1e-12, atol=1e-14)
    bare = cls(l2=0.5, fit_intercept=False)
    added = gk.per_sample(bare, theta[1:], x, y) - gk.per_sample(cls(fit_intercept=False), theta[1:], x, y)
    np.testing.assert_allclose(added, np.broadcast_to(0.5 * theta[1:], added.shape), atol=1e-14)


@each_problem
def test_a_weight_multiplies_the_loss_and_not_the_penalty_and_the_mean_divides_by_n(problem):
    theta, x, y = problem.draw(4, seed=3, features=2)
    weight = np.array([0.0, 1.0, 2.0, 0.5])
    rows = gk.per_sample(problem, theta, x, y)
    scaled = weight.reshape(4, *[1] * theta.ndim) * rows
    np.testing.assert_allclose(gk.per_sample(problem, theta, x, y, sample_weight=weight), scaled, rtol=1e-14)
    assert not gk.per_sample(problem, theta, x, y, sample_weight=weight)[0].any()
    np.testing.assert_allclose(gk.gradient(problem, theta, x, y, sample_weight=weight), scaled.sum(0) / 4, rtol=1e-12)
    both = type(problem)(l2=0.5, weighted=True)
    share = 0.5 * theta
    share[0] = 0
    np.testing.assert_allclose(gk.per_sample(both, theta, x, Weighted(y, weight)), scaled + share, rtol=1e-12)


def test_a_weighted_and_penalised_row_by_hand():
    problem = gk.HuberRegression(l2=0.5, weighted=True, delta=2.0)
    # eta = 1 + 3 * 2 - 4 = 3, residual 5, slope 2, weight 3: row 6 (1, 3, 4) + 0.5 (0, 2, -1)
    arrays = [np.array(a, float) for a in ([1, 2, -1], [[3, 4]], [-2], [3])]
    theta, x, y, weight = arrays
    assert gk.per_sample(problem, theta, x, Weighted(y, weight)).tolist() == [[6.0, 19.0, 23.5]]
    assert problem.loss(theta, x, Weighted(y, weight)).tolist() == [3 * 2 * (5 - 1) + 0.25 * (4 + 1)]


@pytest.mark.parametrize(
    ("problem", "name"),
    [
        (LINEAR, "linear"),
        (gk.LogisticRegression(l2=0.25), "logistic(l2=0.25)"),
        (gk.HuberRegression(l2=0.1, delta=2), "huber(l2=0.1,delta=2.0)"),
        (gk.PoissonRegression(fit_intercept=False, weighted=True), "poisson(fit_intercept=False,weighted=True)"),
        (gk.SoftmaxRegression(classes=10), "softmax(classes=10)"),
        (gk.SoftmaxRegression(classes=3), "softmax"),
    ],
)
def test_the_name_says_what_is_not_the_default(problem, name):
    assert problem.name == name


def test_equal_settings_make_equal_problems_of_one_hash():
    assert gk.HuberRegression(delta=2) == gk.HuberRegression(delta=2.0) != gk.HuberRegression(delta=3)
    assert hash(gk.SoftmaxRegression(classes=np.int64(4))) == hash(gk.SoftmaxRegression(classes=4))
    assert list(REGRESSIONS) == ["linear", "logistic", "poisson", "huber", "softmax"]


@pytest.mark.parametrize(
    ("problem", "target", "says"),
    [
        (LINEAR, [-1e9, 3.5], ""),
        (HUBER, [-1e9, 3.5], ""),
        (LOGISTIC, [0, 0.5, 1], ""),
        (LOGISTIC, [0, 1.5], "targets must lie in [0, 1]"),
        (LOGISTIC, [-1, 1], "targets must lie in [0, 1] (for labels -1 and 1 pass (y + 1) / 2)"),
        (POISSON, [0, 2.5], ""),
        (POISSON, [-0.5, 2], "targets must be at least 0"),
        (SOFTMAX, [0, 2, 1.0], ""),
        (SOFTMAX, [0, 1.5], "targets must be whole numbers from 0 to 2"),
        (SOFTMAX, [-1, 1], "targets must be whole numbers from 0 to 2"),
        (SOFTMAX, [1, 3], "targets must be whole numbers from 0 to 2 (for numbers from 1 on pass y - 1)"),
        (SOFTMAX, [0, 9], "targets must be whole numbers from 0 to 2 (softmax(classes=10) takes these)"),
        (SOFTMAX, [0, 8.5], "targets must be whole numbers from 0 to 2"),
        (SOFTMAX, [-1, 8], "targets must be whole numbers from 0 to 2"),
        (SOFTMAX, [1, 2.5, 3], "targets must be whole numbers from 0 to 2"),
    ],
)
def test_targets_without_such_a_loss_are_told_what_is_allowed(problem, target, says):
    assert problem.misfit(np.array(target, float)) == says


def test_a_data_set_whose_targets_do_not_fit_is_refused_with_its_range():
    with pytest.raises(
        ValueError, match=r"the target goes from -1 to 3 and is -1 in row 1; for poisson targets must be at least 0$"
    ):
        POISSON.targets(np.array([-1.0, 3.0]), seed=0)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: gk.LinearRegression(l2=-1), ValueError, "l2 is -1.0; it must be at least 0"),
        (lambda: gk.LinearRegression(l2=np.inf), ValueError, "l2 is inf; it must be finite"),
        (lambda: gk.LinearRegression(l2="1"), TypeError, "l2 is '1'; it must be a number"),
        (lambda: gk.LinearRegression(l2=True), TypeError, "l2 is True; it must be a number"),
        (lambda: gk.LogisticRegression(fit_intercept=1), TypeError, "fit_intercept is 1; it must be True or False"),
        (lambda: gk.PoissonRegression(weighted=None), TypeError, "weighted is None; it must be True or False"),
        (lambda: gk.HuberRegression(delta=0), ValueError, "delta is 0.0; it must be above 0"),
        (lambda: gk.HuberRegression(delta=np.nan), ValueError, "delta is nan; it must be finite"),
        (lambda: gk.SoftmaxRegression(classes=1), ValueError, "classes is 1; it must be a whole number of at least 2"),
        (lambda: gk.SoftmaxRegression(classes=3.0), ValueError, "classes is 3.0; it must be a whole number of at lea"),
        (lambda: gk.SoftmaxRegression(classes=True), ValueError, "classes is True; it must be a whole number of at l"),
    ],
)
def test_settings_that_make_no_loss_are_refused(make, error, says):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value).startswith(says)


X, Y, W = np.ones((5, 2)), np.ones(5), np.ones(5)


@pytest.mark.parametrize(
    ("problem", "theta", "y", "error", "says"),
    [
        (LINEAR, np.ones(3), Weighted(Y, W), ValueError,
         "y is a Weighted; for linear it must be an array; pass weights as sample_weight="),
        (gk.LinearRegression(weighted=True), np.ones(3), Y, ValueError,
         "y is a ndarray; for linear(weighted=True) it must be (target, sample_weight)"),
        (gk.LinearRegression(weighted=True), np.ones(3), Weighted(Y, W[:4]), ValueError,
         "theta (3,), x (5, 2), y (5,), sample_weight (4,): sample_weight must be (n,) like y"),
        (SOFTMAX, np.ones(3), Y.astype(int), ValueError,
         "theta (3,), x (5, 2), y (5,): theta must be (3, 3) for 2 features, intercept first"),
        (SOFTMAX, np.ones((3, 3)), Y, TypeError,
         "y is float64; class numbers must be integers; convert it with astype or to"),
        (LOGISTIC, np.ones(3), Y.astype("f2"), TypeError,
         "y is float16; allowed are float64 and float32; convert it with astype or to"),
        (gk.LinearRegression(weighted=True), np.ones(3), Weighted(Y, W.astype("f4")), TypeError,
         "mixed dtype: theta float64, x float64, y.target float64, y.sample_weight float32; "
         "convert them to one dtype"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(problem, theta, y, error, says):
    with pytest.raises(error) as caught:
        gk.gradient(problem, theta, X, y)
    assert str(caught.value) == says


def complex_step(problem, theta, x, y, step=1e-100):
    """Per-sample gradients `(n, *theta.shape)`, by one complex step for each parameter."""
    columns = []
    for index in np.ndindex(theta.shape):
        stepped = theta.astype(complex)
        stepped[index] += step * 1j
        columns.append(problem.loss(stepped, x, y).imag / step)
    return np.stack(columns, -1).reshape(-1, *theta.shape)


@pytest.mark.parametrize("features", [1, 3])
@pytest.mark.parametrize("options", [{}, {"l2": 0.3, "weighted": True}, {"fit_intercept": False}], ids=str)
@each_problem
def test_the_reference_steps_along_eta_as_if_along_every_parameter(problem, options, features):
    problem = type(problem)(**options)
    inputs = problem.draw(40, seed=5, features=features)
    truth = true_gradients(problem, *inputs)
    rows = complex_step(problem, *inputs)
    assert (np.abs(truth.rows - rows) <= 1e-14 * truth.scale).all()
    assert (np.abs(truth.gradient - rows.mean(0)) <= 1e-14 * truth.scale.mean(0)).all()


@dataclass(frozen=True, kw_only=True)
class PseudoHuber(ScalarRegression):
    """sqrt(1 + r^2) - 1: all that a new problem takes."""

    family = "pseudo_huber"

    def loss_of(self, xp, eta, y):
        return xp.sqrt(1 + (eta - y) ** 2) - 1

    def slope(self, xp, eta, y):
        return (eta - y) / xp.sqrt(1 + (eta - y) ** 2)


@dataclass(frozen=True, kw_only=True)
class LogCosh(ScalarRegression):
    """The README's example."""

    family = "logcosh"

    def loss_of(self, xp, eta, y):
        size = xp.abs(eta - y)
        return size + xp.log1p(xp.exp(-2 * size))

    def slope(self, xp, eta, y):
        return xp.tanh(eta - y)


OWN = {"loops": ("numpy.loop", "torch.loop"), "slow": ("torch.compiled",), "refuse": ("sklearn.", "statsmodels.")}


@pytest.mark.parametrize("own", [PseudoHuber, LogCosh])
def test_a_new_problem_of_two_methods_passes_with_every_kernel(own, long):
    for kernel in gk.kernels(own()):
        if kernel.composed or (kernel.key.startswith(OWN["slow"]) and not long):
            continue
        for problem in (own(), own(l2=0.3, weighted=True, fit_intercept=False)):
            case = gk.Case(problem, kernel.quantity, 30, features=2)
            if kernel.key.startswith(OWN["refuse"]):
                (reason,) = kernel.unsupported(case)
                assert f"for {own.__name__}; it has those of LinearRegression, " in reason
            else:
                gk.check(kernel, case)


def test_a_new_problem_by_hand():
    # residual 3/4: slope (3/4) / (5/4)
    rows = gk.per_sample(PseudoHuber(), np.array([0.25, 1.0]), np.array([2.0]), np.array([1.5]), kernel="numpy.loop")
    np.testing.assert_allclose(rows, [[float(Fraction(3, 5)), 1.2]], rtol=1e-15)


BLACK_BOX_ONLY = ("parameters", "mode_key", "lock", "state", "check_mixing", "fixed_features", "cache", "model")


def test_what_only_black_boxes_have_is_no_part_of_a_problem():
    assert not [name for name in BLACK_BOX_ONLY if hasattr(Problem, name) or hasattr(POISSON, name)]
    assert not [name for name in ("extremes", "slope", "split", "outputs") if hasattr(BlackBox, name)]
    with pytest.raises(TypeError, match="theta is None; poisson has no parameters of its own"):
        POISSON.as_inputs(None, np.ones(2), np.ones(2))
