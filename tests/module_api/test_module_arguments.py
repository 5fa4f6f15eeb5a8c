"""What may be given for a module: parameters, data, and what is refused in a sentence."""

import models
import numpy as np
import pytest
import torch

import gradkernels as gk


def theta_of(model, **changes):
    theta = {name: one.detach().clone() for name, one in model.named_parameters()}
    return {name: one for name, one in {**theta, **changes}.items() if one is not None}


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"0.bias": None}, ValueError, r"theta lacks '0.bias'; the model's trainable parameters are '0.weight', '0.b"),
        ({"bias": torch.ones(1)}, ValueError, "theta has 'bias' besides; the model's"),
        ({"0.bias": torch.ones(4)}, ValueError, r"theta\['0.bias'\] is \(4,\); it must be \(5,\) as in the model"),
        ({"0.bias": torch.ones(5).double()}, TypeError, "mixed dtype: .*0.bias.* torch.float64"),
        ({"0.bias": torch.ones(5).int()}, TypeError, r"theta\['0.bias'\] is torch.int32; allowed are float64 and"),
        ({"0.bias": np.ones(5, "float32")}, TypeError, r"theta\['0.bias'\] is a numpy.ndarray; a module takes torch"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(problem, data, changes, kind, says):
    with pytest.raises(kind, match=says):
        gk.per_sample(problem, theta_of(problem.model, **changes), *data)


@pytest.mark.parametrize(
    ("x", "y", "kind", "says"),
    [
        (
            np.ones((5, 4), "float32"),
            models.classes(5),
            TypeError,
            "x is a numpy.ndarray; a module takes torch tensors",
        ),
        (
            [torch.ones(4)],
            models.classes(1),
            ValueError,
            r"x\[0\] \(4,\), y \(1,\): the first axis is the samples",
        ),
        (torch.ones(5, 4), models.classes(4), ValueError, r"x \(5, 4\), y \(4,\): the first axis is the samples"),
        ((torch.ones(5, 4), torch.ones(3)), models.classes(5), ValueError, r"x\[0\] \(5, 4\), x\[1\] \(3,\), y \(5,\)"),
        (torch.ones(5, 4), torch.tensor(1), ValueError, r"y \(\): each needs the samples as its first axis"),
        ((), (), ValueError, "x and y are empty"),
    ],
)
def test_data_that_do_not_fit_are_refused(problem, x, y, kind, says):
    with pytest.raises(kind, match=says):
        gk.per_sample(problem, None, x, y)


def test_a_theta_that_is_no_dict_is_refused(problem, data):
    with pytest.raises(ValueError, match="theta is a Tensor; it must be a dict of '0.weight', '0.bias'"):
        gk.per_sample(problem, torch.ones(20), *data)


def test_a_regression_has_no_parameters_of_its_own():
    with pytest.raises(TypeError, match="theta is None; linear has no parameters of its own, pass them"):
        gk.per_sample(gk.LinearRegression(), None, np.ones(2), np.ones(2))


def test_none_is_the_models_own_parameters_as_they_are_at_the_call(problem, data):
    first = gk.per_sample(problem, None, *data)
    torch.testing.assert_close(first, gk.per_sample(problem, theta_of(problem.model), *data))
    bound = gk.fastest(problem, "per_sample", like=(None, *data))
    with torch.no_grad():
        problem.model[2].weight += 1
    now = gk.per_sample(problem, theta_of(problem.model), *data)
    assert not torch.equal(first["0.bias"], now["0.bias"])
    torch.testing.assert_close(gk.per_sample(problem, None, *data), now)
    torch.testing.assert_close(bound(None, *data), now)


@pytest.mark.parametrize("way", ["torch.loop", "torch.vmap"])
def test_rows_come_in_the_order_of_the_parameters_that_are_given(problem, data, way):
    theta = dict(reversed(theta_of(problem.model).items()))
    assert list(gk.per_sample(problem, theta, *data, kernel=way)) == list(theta)


def test_sample_weights_are_for_regressions(problem, data):
    with pytest.raises(TypeError, match="put weights into the loss of a ModuleProblem"):
        gk.per_sample(problem, None, *data, sample_weight=torch.ones(5))
