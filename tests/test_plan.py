"""What `--problem` names: a regression with its options, read and never evaluated, or a factory."""

import re

import numpy as np
import pytest

import gradkernels as gk
from gradkernels.bench.run.plan import Plan, problem_from
from gradkernels.names import family_of, options_of
from gradkernels.problems import Weighted


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("linear", gk.LinearRegression()),
        ("huber", gk.HuberRegression(delta=1.0)),
        ("huber(delta=2)", gk.HuberRegression(delta=2.0)),
        ("huber( delta = 2.5, l2=1e-3 )", gk.HuberRegression(delta=2.5, l2=0.001)),
        ("softmax(classes=10)", gk.SoftmaxRegression(classes=10)),
        ("poisson(weighted=True,fit_intercept=False)", gk.PoissonRegression(weighted=True, fit_intercept=False)),
        ("logistic()", gk.LogisticRegression()),
    ],
)
def test_a_regression_is_named_with_its_options(spec, problem):
    assert problem_from(spec) == problem
    assert problem_from(problem.name) == problem


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("hubert", "did you mean huber"),
        ("huber(gamma=1)", "option of huber 'gamma'"),
        ("huber(2)", "options are written as in huber(delta=...)"),
        ("huber(delta=", "options are written as in huber(delta=...)"),
        ("huber(delta=2)(3)", "options are written as in huber(delta=...)"),
        ("huber(delta=__import__('os'))", "options are written as in huber(delta=...)"),
        ("huber(**{})", "options are written as in huber(delta=...)"),
        ("huber(delta=-2)", "delta is -2.0; it must be above 0"),
        ("linear(l2='a')", "l2 is 'a'; it must be a number"),
        ("linear(l2={1})", "options are written as in linear(weighted=...)"),
        ("softmax(classes=1)", "classes is 1; it must be a whole number of at least 2"),
    ],
)
def test_anything_else_is_refused_in_a_sentence(spec, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        problem_from(spec)


def test_a_name_and_its_options_are_plain_values():
    text = "huber( delta=2, l2 = 1e-3, fit_intercept=False )"
    assert (family_of(text), options_of(text)) == ("huber", {"delta": 2, "l2": 0.001, "fit_intercept": False})
    assert (family_of("linear"), options_of("linear")) == ("linear", {})
    with pytest.raises(ValueError, match=re.escape("'huber(2)': options are written as in huber(delta=2)")):
        options_of("huber(2)")


@pytest.fixture
def data(tmp_path):
    """Five rows whose targets are class numbers, as a run's children find them."""

    def save(**more):
        path = tmp_path / "data.npz"
        np.savez(path, x=np.arange(5.0), y=np.array([0.0, 1, 2, 1, 0]), columns=np.array(["x"]), **more)
        return str(path)

    return save


def inputs(spec, data):
    plan = Plan(spec, ("numpy.broadcast.per_sample",), (5,), dtype="float32", data=data, data_name="five")
    return plan.inputs(plan.cases[0])


def test_targets_of_a_data_set_become_class_numbers(data):
    _, x, y = inputs("softmax", data())
    assert (x.dtype, y.dtype, y.tolist()) == (np.float32, np.int64, [0, 1, 2, 1, 0])


def test_a_target_without_such_a_loss_is_refused_with_what_would_do(data):
    with pytest.raises(
        ValueError, match=re.escape("the target goes from 0 to 2 and is 2 in row 3; for logistic targets must lie in")
    ):
        inputs("logistic", data())
    with pytest.raises(ValueError, match=re.escape("from 0 to 1 (softmax(classes=3) takes these)")):
        inputs("softmax(classes=2)", data())


def test_weights_come_with_the_data_or_are_drawn(data):
    *_, y = inputs("linear(weighted=True)", data(weight=np.arange(5.0)))
    assert isinstance(y, Weighted)
    assert (y.sample_weight.tolist(), y.sample_weight.dtype) == ([0, 1, 2, 3, 4], np.float32)
    *_, y = inputs("linear(weighted=True)", data())
    assert y.target.tolist() == [0, 1, 2, 1, 0]
    assert len(set(y.sample_weight.tolist())) == 5
