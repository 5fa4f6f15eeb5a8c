"""Cases: what they refuse, and the data that they draw."""

import copy
import pickle

import numpy as np
import pytest

import gradkernels as gk

P = gk.LinearRegression()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"n": 0}, "n is 0; it must be a whole number of at least 1"),
        ({"n": -3}, "n is -3; it must be a whole number of at least 1"),
        ({"n": 1e3}, "n is 1000.0; it must be a whole number of at least 1"),
        ({"n": "10"}, "n is '10'; it must be a whole number"),
        ({"threads": 0}, "threads is 0"),
        ({"features": 0}, "features is 0"),
        ({"dtype": "float63"}, "there is no dtype 'float63'; did you mean float"),
        ({"dtype": np.float32}, "there is no dtype <class 'numpy.float32'>; known: float64, float32"),
        ({"dtype": "int64"}, "there is no dtype 'int64'; "),
        ({"layout": "K"}, "there is no layout 'K'; known: C, F"),
        ({"quantity": "norm"}, "there is no quantity 'norm'; did you mean norms?"),
        ({"quantity": 7}, "there is no quantity 7; known: gradient, per_sample, norms, moments, clipped_sum"),
    ],
)
def test_coordinates_that_cannot_be_are_refused(given, says):
    with pytest.raises(ValueError, match=says):
        gk.Case(**{"problem": P, "quantity": "norms", "n": 10, **given})


def test_numpy_integers_are_whole_numbers():
    assert gk.Case(P, "norms", np.int64(7)).n == 7


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("features", [1, 3])
def test_the_same_case_draws_the_same_data(dtype, features):
    case = gk.Case(P, "norms", 20, dtype, features=features, layout="F")
    theta, x, y = case.draw()
    assert (theta.shape, x.shape, y.shape) == ((features + 1,), (20,) if features == 1 else (20, 3), (20,))
    assert {array.dtype for array in (theta, x, y)} == {np.dtype(dtype)}
    assert x.flags.f_contiguous
    for again, first in zip(case.draw(), (theta, x, y), strict=True):
        np.testing.assert_array_equal(again, first)


def test_a_fresh_case_draws_other_data():
    case = gk.Case(P, "norms", 20)
    assert all((new != old).all() for new, old in zip(case.fresh().draw(), case.draw(), strict=True))


@pytest.mark.parametrize(("fit_intercept", "features", "parameters"), [(True, 1, 2), (True, 5, 6), (False, 5, 5)])
def test_parameters_count_the_entries_of_theta(fit_intercept, features, parameters):
    assert (
        gk.Case(gk.LinearRegression(fit_intercept=fit_intercept), "norms", 3, features=features).parameters
        == parameters
    )


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        (((2,), (5, 1, 1), (5,)), r"x must be \(n, d\), or \(n,\) for one feature"),
        (((2,), (5,), (4,)), r"y \(n,\) with the same n"),
        (((2,), (5,), (5, 1)), r"y \(n,\) with the same n"),
        (((3,), (5,), (5,)), r"theta \(3,\), x \(5,\), y \(5,\): theta must be \(2,\) for 1 feature, intercept first"),
        (((2, 1), (5,), (5,)), r"theta must be \(2,\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes, says):
    with pytest.raises(ValueError, match=says):
        P.validate(*map(np.zeros, shapes))


@pytest.mark.parametrize("travel", [copy.deepcopy, lambda case: pickle.loads(pickle.dumps(case))])
def test_a_case_travels_to_other_processes_and_copies_keep_their_library(travel):
    case = gk.Case(gk.LinearRegression(), "norms", 5, features=2)
    assert travel(case) == case
    assert gk.check(copy.deepcopy(gk.kernel("numpy.broadcast+.norms")), travel(case)).error < 1e-14


@pytest.mark.parametrize("problem", ["linear", gk.LinearRegression])
def test_what_is_no_problem_is_refused_at_once(problem):
    for ask in (lambda: gk.Case(problem, "norms", 5), lambda: gk.kernels(problem)):
        with pytest.raises(TypeError, match="pass a Problem such as"):
            ask()


def test_the_first_cpu_is_the_cpu():
    assert gk.Case(gk.LinearRegression(), "norms", 5, device="cpu:0").device == "cpu"
