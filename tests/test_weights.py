"""Sample weights through the public functions: each weight multiplies its own sample's loss."""

import re

import numpy as np
import pytest
import torch

import gradkernels as gk
from gradkernels.dispatch.bound_kernels import bound_kernel
from gradkernels.problems import Weighted

P = gk.LinearRegression()
THETA, X, Y, W = np.array([1.0, 2.0]), np.array([0.0, 1.0, 2.0]), np.array([1.0, 1.0, 1.0]), np.array([5.0, 0.5, 0.0])
# eta = (1, 3, 5), slope = 2 (eta - y) = (0, 4, 8), weighted (0, 2, 0)
ROWS = np.array([[0.0, 0.0], [2.0, 2.0], [0.0, 0.0]])


def test_each_quantity_at_literal_numbers():
    assert gk.per_sample(P, THETA, X, Y, sample_weight=W).tolist() == ROWS.tolist()
    np.testing.assert_allclose(gk.gradient(P, THETA, X, Y, sample_weight=W), [2 / 3, 2 / 3], rtol=1e-15)
    np.testing.assert_allclose(gk.norms(P, THETA, X, Y, sample_weight=W), [0, 8**0.5, 0], rtol=1e-15)
    mean, variance = gk.moments(P, THETA, X, Y, sample_weight=W)
    np.testing.assert_allclose(mean, [2 / 3, 2 / 3], rtol=1e-15)
    np.testing.assert_allclose(variance, [8 / 9, 8 / 9], rtol=1e-15)
    clipped = gk.clipped_sum(P, THETA, X, Y, 2**0.5, sample_weight=W)
    np.testing.assert_allclose(clipped, [1, 1], rtol=1e-15)


def test_torch_in_torch_out_and_memory_may_be_given():
    theta, x, y, weight = map(torch.from_numpy, (THETA, X, Y, W))
    out = torch.empty(3, 2, dtype=torch.float64)
    assert gk.per_sample(P, theta, x, y, sample_weight=weight, out=out) is out
    assert out.tolist() == ROWS.tolist()


def test_a_weighted_problem_takes_both_as_y_and_a_bound_kernel_too():
    p = gk.LinearRegression(weighted=True)
    y = Weighted(Y, W)
    assert gk.per_sample(p, THETA, X, y).tolist() == ROWS.tolist()
    assert gk.fastest(p, "per_sample", like=(THETA, X, y))(THETA, X, (Y, W)).tolist() == ROWS.tolist()


def test_weights_are_bound_once_for_each_shape():
    p = gk.LinearRegression(weighted=True)
    given = [(THETA, X, Weighted(Y.copy(), W.copy())) for _ in range(2)]
    first, again = (bound_kernel("gradient", p, arrays, (None, None, None)) for arrays in given)
    assert first is again
    assert gk.gradient(P, THETA, X[:2], Y[:2], sample_weight=W[:2]).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("problem", "y", "weight", "error", "says"),
    [
        (P, Y, W[:2], ValueError, "sample_weight must be (n,) like y"),
        (P, Y, W.astype("float32"), TypeError, "mixed dtype"),
        (P, Y, [1, 2, 3], TypeError, "y.sample_weight is a builtins.list"),
        (P, Y, np.array([1j, 2, 3]), TypeError, "y.sample_weight is complex128"),
        (P, Weighted(Y, W), None, ValueError, "pass weights as sample_weight="),
        (gk.LinearRegression(weighted=True), Y, None, ValueError, "it must be (target, sample_weight)"),
    ],
)
def test_refusals(problem, y, weight, error, says):
    with pytest.raises(error, match=re.escape(says)):
        gk.gradient(problem, THETA, X, y, sample_weight=weight)


@pytest.mark.parametrize("which", range(4))
def test_arrays_of_another_dtype_are_refused_also_after_a_call_that_was_right(which):
    arrays = [THETA, X, Y, W]
    gk.gradient(P, THETA, X, Y, sample_weight=W)
    arrays[which] = arrays[which].astype("f4")
    theta, x, y, weight = arrays
    with pytest.raises(TypeError, match="mixed dtype"):
        gk.gradient(P, theta, x, y, sample_weight=weight)


def test_weights_of_a_module_belong_into_its_loss():
    module = gk.ModuleProblem(torch.nn.Linear(1, 1), torch.nn.MSELoss())
    says = "^sample_weight is for regressions; put weights into the loss of a ModuleProblem$"
    with pytest.raises(TypeError, match=says):
        gk.gradient(module, None, torch.ones(3, 1), torch.ones(3, 1), sample_weight=torch.ones(3))


def test_targets_that_hold_weights_take_no_others():
    says = "^y holds sample weights already; leave out sample_weight=, or pass the targets alone as y$"
    with pytest.raises(TypeError, match=says):
        gk.gradient(P, THETA, X, Weighted(Y, W), sample_weight=W)


def test_whole_numbers_as_weights_are_taken_as_floats():
    got = gk.per_sample(P, THETA, X, Y, sample_weight=np.array([1, 2, 3]))
    assert got.tolist() == [[0, 0], [8, 8], [24, 48]]
