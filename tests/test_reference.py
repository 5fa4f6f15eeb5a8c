"""The reference against exact rational arithmetic, which shares neither code nor rounding with it."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradkernels as gk
from gradkernels.check import complex_step
from gradkernels.check.complex_step import BLOCK_NUMBERS
from gradkernels.check.reference import Reference
from gradkernels.problems import Weighted


def exact_rows(problem, theta, x, y):
    """Rows 2 (eta - y) (1, x) as fractions."""
    rows = []
    for features, target in zip(np.reshape(x, (len(y), -1)), y, strict=True):
        design = [Fraction(1)] * problem.fit_intercept + [Fraction(value) for value in features]
        eta = sum(Fraction(weight) * value for weight, value in zip(theta, design, strict=True))
        rows.append([2 * (eta - Fraction(target)) * value for value in design])
    return rows


def mean(rows):
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


# The complex step of 1e-100 leaves no digits to gradients below 1e-200.
number = st.sampled_from([0.0, 1.0]) | st.floats(1e-30, 1e6) | st.floats(-1e6, -1e-30)


@st.composite
def inputs(draw):
    problem = gk.LinearRegression(fit_intercept=draw(st.booleans()))
    n, d = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    values = [draw(st.lists(number, min_size=size, max_size=size)) for size in (d + problem.fit_intercept, n * d, n)]
    theta, x, y = map(np.array, values)
    return problem, theta, x.reshape(n, d) if d > 1 else x, y


@given(inputs())
def test_every_entry_is_exact_to_a_few_roundings_of_its_scale(drawn):
    problem, theta, x, y = drawn
    reference = Reference(problem, theta, x, y)
    exact = exact_rows(problem, theta, x, y)
    pairs = [(reference.rows, exact, reference.scale), (reference.gradient, mean(exact), reference.scale.mean(0))]
    for values, wanted, scale in pairs:
        for value, want, size in zip(values.flat, np.ravel(np.array(wanted, object)), scale.flat, strict=True):
            assert abs(Fraction(value) - want) <= Fraction(size) * 20 / 2**53


@given(inputs())
def test_the_scale_is_never_below_the_gradient(drawn):
    reference = Reference(*drawn)
    assert (reference.scale >= np.abs(reference.rows) * (1 - 1e-12)).all()


def test_blocks_of_samples_join_without_a_seam():
    problem = gk.LinearRegression(l2=0.5)
    theta, x, y = problem.draw(BLOCK_NUMBERS + 5, seed=0)
    slope = 2 * (theta[0] + theta[1] * x - y)
    expected = np.array([slope.mean(), (slope * x).mean() + 0.5 * theta[1]])
    np.testing.assert_allclose(Reference(problem, theta, x, y).gradient, expected, rtol=1e-11)


def test_the_gradient_of_the_tiniest_features_and_of_none():
    x, y = np.array([[1e-250, 0.0], [2e-250, 0.0]]), np.array([1.0, 1.0])
    gradient = Reference(gk.LinearRegression(), np.zeros(3), x, y).gradient
    np.testing.assert_allclose(gradient, [-2, -3e-250, 0], rtol=1e-15)


def test_weights_are_factors_of_rows_scales_and_the_gradient():
    x, y, weights = np.array([0.0, 1.0, 2.0]), np.array([1.0, 1.0, 1.0]), np.array([5.0, 0.5, 0.0])
    of = Reference(gk.LinearRegression(weighted=True), np.array([1.0, 2.0]), x, Weighted(y, weights))
    # Slopes of (0, 4, 8) and, with those of errors in eta and y, scales of (4, 12, 20).
    np.testing.assert_allclose(of.rows, [[0, 0], [2, 2], [0, 0]], rtol=1e-15)
    np.testing.assert_allclose(of.scale, [[20, 20 * 2.0**-23], [6, 6], [0, 0]], rtol=1e-15)
    np.testing.assert_allclose(of.gradient, [2 / 3, 2 / 3], rtol=1e-15)


def test_weights_of_several_outputs():
    x, y, weights = np.array([1.0, 2.0]), np.array([1, 0]), np.array([3.0, 6.0])
    of = Reference(gk.SoftmaxRegression(classes=3, weighted=True), np.zeros((2, 3)), x, Weighted(y, weights))
    # All classes are as likely: slopes of 1/3, less 1 for the target's class.
    rows = [[[1, -2, 1], [1, -2, 1]], [[-4, 2, 2], [-8, 4, 4]]]
    np.testing.assert_allclose(of.rows, rows, rtol=1e-15)
    np.testing.assert_allclose(of.gradient, [[-1.5, 0, 1.5], [-3.5, 1, 2.5]], rtol=1e-15, atol=1e-15)


def test_a_penalty_is_a_part_of_rows_and_of_their_scales():
    of = Reference(gk.LinearRegression(l2=0.5), np.array([1.0, -2.0]), np.array([0.0]), np.array([0.0]))
    assert (of.rows.tolist(), of.scale.tolist(), of.gradient.tolist()) == ([[2, -1]], [[4, 1]], [2, -1])


class WrongSlope(gk.LinearRegression):
    """Squares, with a formula of their slope that is wrong, and no NaN where it should be one."""

    def slope(self, xp, eta, y):
        return np.full_like(eta, 7.0)


def test_rows_are_of_the_loss_alone_whatever_the_formula_of_its_slope_and_what_is_undefined_stays_so():
    x, y = np.array([0.0, 1.0, np.nan, 0.0]), np.array([0.0, 0.0, 0.0, np.nan])
    of = Reference(WrongSlope(), np.array([1.0, 2.0]), x, y)
    np.testing.assert_array_equal(of.rows[:, 0], [2, 6, np.nan, np.nan])


def test_the_gradient_is_of_the_loss_alone_whatever_the_rows(monkeypatch):
    monkeypatch.setattr(complex_step, "_slope", lambda problem, eta, target: np.full_like(eta, 7.0))
    of = Reference(gk.LinearRegression(), np.array([1.0, 2.0]), np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    np.testing.assert_allclose(of.gradient, [3, 2], rtol=1e-15)  # slopes of 2 and 4
    assert of.rows.tolist() == [[7, 0], [7, 7]]


def test_at_infinity_rows_have_the_limit_of_the_slope_and_its_scale():
    x, y = np.array([np.inf, -np.inf, 2.0, 2.0]), np.array([0.0, 0.0, np.inf, -np.inf])
    with np.errstate(all="ignore"):
        of = Reference(gk.HuberRegression(delta=0.5), np.array([0.0, 1.0]), x, y)
        assert of.rows.tolist() == [[0.5, np.inf], [-0.5, np.inf], [-0.5, -1], [0.5, 1]]
        assert of.true.scale.tolist() == [[0.5, np.inf], [0.5, np.inf], [0.5, 1], [0.5, 1]]
        one = Reference(gk.HuberRegression(delta=0.5), np.array([0.0, 1.0, 0.0]), np.array([[np.inf, 0.0]]), y[:1])
        np.testing.assert_array_equal(one.gradient, [0.5, np.inf, 0])
        two = Reference(gk.LinearRegression(), np.array([0.0, 1.0, 0.0]), np.array([[np.inf, 0.0]]), y[:1])
        np.testing.assert_array_equal(two.gradient, [np.inf, np.inf, np.nan])


def test_no_samples_have_no_gradient():
    of = Reference(gk.LinearRegression(), np.array([1.0, 2.0]), np.zeros(0), np.zeros(0))
    assert (of.rows.shape, of.gradient.tolist()) == ((0, 2), [0, 0])


def test_a_gradient_that_would_take_too_many_steps_is_the_mean_of_the_rows(monkeypatch):
    monkeypatch.setattr(complex_step, "MOST_STEPS", 0)
    of = Reference(gk.LinearRegression(), np.array([1.0, 2.0]), np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    np.testing.assert_allclose(of.gradient, [3, 2], rtol=1e-15)


@pytest.mark.parametrize("max_norm", [0.5, 3.0, 1e9])
def test_clipping_follows_its_definition_row_by_row(max_norm):
    reference = Reference(gk.LinearRegression(), *gk.LinearRegression().draw(20, seed=1, features=2))
    clipped = [row * min(1, max_norm / float(np.sqrt(sum(row**2)))) for row in reference.rows]
    np.testing.assert_allclose(reference.expect("clipped_sum", max_norm=max_norm).value, sum(clipped), rtol=1e-12)


def test_float32_inputs_are_taken_exactly():
    theta, x, y = (np.float32([0.1, 0.2]), np.float32([0.3]), np.float32([0.7]))
    expected = 2 * (float(theta[0]) + float(theta[1]) * float(x[0]) - float(y[0]))
    assert Reference(gk.LinearRegression(), theta, x, y).rows[0, 0] == pytest.approx(expected, rel=1e-15)
