"""What a person asks to be proven: any case, any inputs, any function."""

from functools import partial

import numpy as np
import pytest
import torch
from honest import HONEST, P, wrapped
from mutants import MUTANTS
from torch import nn

import gradkernels as gk


def test_a_case_that_the_kernel_cannot_do_is_refused_with_every_reason():
    says = "numpy computes on cpu here, not on cuda; numpy.matmul.gradient computes gradient, not norms"
    with pytest.raises(ValueError, match=says):
        gk.check("numpy.matmul.gradient", gk.Case(P, "norms", 5, device="cuda"))


@pytest.mark.parametrize(
    ("n", "features", "dtype", "says"),
    [
        (6, 1, "float64", "the inputs have n=6, features=1, float64, the case n=5, features=1, float64"),
        (5, 2, "float64", "the inputs have n=5, features=2, float64, the case"),
        (5, 1, "float32", "the inputs have n=5, features=1, float32, the case"),
    ],
)
def test_inputs_of_another_case_are_refused(n, features, dtype, says):
    other = gk.Case(P, "gradient", n, dtype, features=features).draw()
    with pytest.raises(ValueError, match=says):
        gk.check("numpy.matmul.gradient", gk.Case(P, "gradient", 5), other)


def test_inputs_whose_shapes_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"theta \(3,\), x \(5,\), y \(5,\): theta must be \(2,\) for 1 feature"):
        gk.check("numpy.matmul.gradient", gk.Case(P, "gradient", 5), (np.ones(3), np.ones(5), np.ones(5)))


def test_the_inputs_of_the_caller_stay_as_they_are():
    inputs = gk.Case(P, "per_sample", 5).draw()
    before = [array.copy() for array in inputs]
    with pytest.raises(gk.Disagreement):
        gk.check(
            wrapped(gk.kernel(HONEST["per_sample"]), MUTANTS["writes to x"].wrap), gk.Case(P, "per_sample", 5), inputs
        )
    for array, kept in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(array, kept)


def test_any_function_is_proven_as_a_kernel_of_the_quantity_of_the_case():
    def norms(theta, x, y):
        return np.abs(2 * (theta[0] + x * theta[1] - y)) * np.hypot(1, x)

    case = gk.Case(P, "norms", 20)
    proof = gk.check(norms, case)
    assert 0 <= proof.error <= proof.tolerance < 1e-13
    with pytest.raises(gk.Disagreement, match=r"^numpy\.lambda\.norms on linear, n=20, float64: entry \(\d+,\) is "):
        gk.check(lambda theta, x, y: 2 * norms(theta, x, y), case)
    with pytest.raises(gk.Disagreement, match=r"numpy\.norms\.per_sample .* shape"):
        gk.check(norms, gk.Case(P, "per_sample", 20))


def test_what_has_no_name_of_its_own_is_called_by_its_kind():
    def twice(theta, x, y, factor):
        return factor * np.abs(2 * (theta[0] + x * theta[1] - y)) * np.hypot(1, x)

    with pytest.raises(gk.Disagreement, match=r"^numpy\.partial\.norms on linear, n=20, "):
        gk.check(partial(twice, factor=2), gk.Case(P, "norms", 20))


def test_a_function_of_another_library_gets_its_arrays():
    def norms(theta, x, y):
        return torch.abs(2 * (theta[0] + x * theta[1] - y)) * torch.hypot(torch.ones_like(x), x)

    gk.check(norms, gk.Case(P, "norms", 20), library="torch")
    with pytest.raises(ValueError, match="there is no library 'troch'; did you mean torch"):
        gk.check(norms, gk.Case(P, "norms", 20), library="troch")
    with pytest.raises(ValueError, match="is for a function"):
        gk.check("numpy.loop+.norms", gk.Case(P, "norms", 20), library="torch")


def test_of_a_module_a_function_takes_tensors():
    model = gk.ModuleProblem(nn.Linear(2, 1), nn.MSELoss(), example=(torch.randn(6, 2), torch.randn(6, 1)))

    def gradient(theta, x, y):
        residual = 2 * (x @ theta["weight"].T + theta["bias"] - y) / len(x)
        return {"weight": residual.T @ x, "bias": residual.sum(0)}

    gk.check(gradient, gk.Case(model, "gradient", 6))


def test_what_is_no_kernel_is_refused_in_a_sentence():
    with pytest.raises(TypeError, match=r"^kernel is a int; give a Kernel, its key, or a function f\(theta, x, y\)$"):
        gk.check(3, gk.Case(P, "norms", 5))
