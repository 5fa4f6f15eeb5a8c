"""The reference for JAX functions: a pass for each sample in the widest dtype that works, and what it may be off."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradkernels as gk
from gradkernels.check import function_gradients
from gradkernels.check.function_gradients import gradients_of

X, Y = np.array([[1.0, 0.0], [2.0, 3.0], [0.0, 1.0]]), np.array([2.0, 0.0, 3.0])
THETA = {"level": np.array(1.0), "slope": np.array([2.0, -1.0])}
# The residuals 2 x0 - x1 + 1 - y are 1, 2 and -3; a row is twice that, times 1 and x.
ROWS = np.array([[2.0, 2.0, 0.0], [4.0, 8.0, 12.0], [-6.0, 0.0, -6.0]])


def squares(params, x, y):
    return (x @ params["slope"] + params["level"] - y) ** 2


def of(losses, theta=THETA):
    """The problem of a function, whose own params are not the theta that is asked about."""
    return gk.FunctionProblem(losses, jax.tree.map(lambda one: jnp.zeros(one.shape, "float32"), theta))


def test_rows_and_gradient_are_those_of_the_theta_that_is_given_in_float64():
    found = gradients_of(of(squares), THETA, X, Y)
    assert found.rows.tolist() == ROWS.tolist()
    assert found.gradient == pytest.approx(ROWS.mean(0), rel=1e-15)
    lengths = [8**0.5, 224**0.5, 72**0.5]
    assert found.norm_scale == pytest.approx(lengths, rel=1e-15)
    assert found.scale == pytest.approx(np.repeat(lengths, 3).reshape(3, 3), rel=1e-15)
    little = {**THETA, "level": np.array(1 + 2.0**-40)}  # 1 in float32
    assert (gradients_of(of(squares), little, X, Y).rows - ROWS)[:, 0].tolist() == [2.0**-39] * 3


def test_rows_have_the_shape_of_a_theta_that_is_one_array():
    theta = np.array([[1.0, 2.0], [3.0, 4.0]])
    found = gradients_of(of(lambda params, x, y: (x @ params * y).sum(1), theta), theta, X, np.ones((3, 2)))
    assert found.rows.tolist() == [[[1, 1], [0, 0]], [[2, 2], [3, 3]], [[0, 0], [1, 1]]]
    assert found.gradient == pytest.approx(np.array([[1, 1], [4 / 3, 4 / 3]]), rel=1e-15)
    lengths = [2**0.5, 26**0.5, 2**0.5]
    assert found.scale == pytest.approx(np.repeat(lengths, 4).reshape(3, 2, 2), rel=1e-15)


def test_numbers_of_classes_stay_whole_numbers():
    theta = {"table": np.array([[1.0], [2.0], [3.0]])}
    found = gradients_of(of(lambda params, x, y: params["table"][x, 0] * y, theta), theta, np.array([2, 0]), Y[:2])
    assert found.rows.tolist() == [[0, 0, 2], [0, 0, 0]]


def carried(params, x, y):
    """The squares, summed up by a loop that carries float32 and takes nothing else."""
    start, all_of_them = jnp.zeros(len(y), "float32"), squares(params, x, y)[None]
    return jax.lax.scan(lambda total, one: (total + one, None), start, all_of_them)[0]


def test_a_function_that_cannot_compute_in_float64_is_differentiated_in_float32():
    found = gradients_of(of(carried), THETA, X, Y)
    assert (found.rows.tolist(), found.rows.dtype, found.gradient.dtype) == (ROWS.tolist(), np.float64, np.float64)
    assert found.gradient == pytest.approx(ROWS.mean(0), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-6), ("float32", 1e-3)])
def test_a_batch_whose_gradient_is_not_the_mean_of_the_rows_is_refused(monkeypatch, dtype, tolerance):
    rows = np.array([[3.0, 4.0], [3.0, 4.0]])

    def taken(off):
        made = rows, np.array([3.0 + 0.6 * off, 4.0 + 0.8 * off]), dtype
        monkeypatch.setattr(function_gradients, "_widest", lambda *given: made)
        theta = {"slope": np.array([2.0, -1.0])}
        sloped = of(lambda p, x, y: (x @ p["slope"] - y) ** 2, theta)
        return gradients_of(sloped, theta, X[:2], Y[:2]).gradient.tolist() == made[1].tolist()

    assert taken(0.9 * 5 * tolerance)
    with pytest.raises(ValueError, match="^the gradient of the mean of losses.* compares the samples of a batch"):
        taken(1.1 * 5 * tolerance)


@jax.custom_vjp
def clipped(value):
    return value


clipped.defvjp(lambda value: (value, None), lambda _, cotangent: (jnp.clip(cotangent, -0.5, 0.5),))


def test_a_backward_pass_that_clips_at_a_constant_is_told_from_samples_that_are_compared():
    alone = of(lambda p, x, y: clipped(squares(p, x, y)))
    with pytest.raises(ValueError, match=r"that of their sum is their sum: .*jax.custom_vjp.* gk.clipped_sum$"):
        gradients_of(alone, THETA, X, Y)
    together = of(lambda p, x, y: clipped(squares(p, x, y) * squares(p, x, y).sum()))
    with pytest.raises(ValueError, match="compares the samples of a batch"):
        gradients_of(together, THETA, X, Y)


def test_a_function_that_rounds_to_half_precision_is_not_only_said_to_compare_samples():
    def losses(p, x, y):
        return (x.astype("bfloat16") @ p["slope"].astype("bfloat16") + p["level"] - y) ** 2

    with pytest.raises(ValueError, match="; or it rounds to bfloat16 or float16 on the way, where none can be proven"):
        gradients_of(of(losses), THETA, X / 3, Y)


# --- how well a working precision can know a row


@pytest.mark.parametrize(("dtype", "change"), [("float64", 2.0**-48), ("float32", 2.0**-19)])
@pytest.mark.parametrize("losses", [squares, carried])
def test_a_row_is_known_up_to_what_a_little_change_of_theta_makes_of_it(losses, dtype, change):
    theta = {"level": np.array(0.0), "slope": np.array([0.0, 1.0])}
    look = gradients_of(of(losses, theta), theta, X, np.zeros(3)).row_errors
    # The residual x1 changes by as much, and the row by twice that, times 1 and x.
    errors = [0.0, 2 * 3 * change * 14**0.5, 2 * change * 2**0.5]
    if losses is carried and dtype == "float64":  # of which the passes, in float32, know nothing
        errors = [0.0] * 3
    assert look([0, 1, 2], dtype) == pytest.approx(errors, rel=1e-6, abs=0)
    assert look([2, 0], dtype) == pytest.approx([errors[2], errors[0]], rel=1e-6, abs=0)


def test_a_row_is_known_up_to_what_a_pass_in_float32_makes_of_it():
    theta = {"slope": np.array([1.0, 1.0])}
    losses = of(lambda params, x, y: (x / 3) @ params["slope"], theta)
    look = gradients_of(losses, theta, X, Y).row_errors
    third = abs(float(np.float32(1) / np.float32(3)) - 1 / 3)
    assert look([2, 0, 1], "float32") == pytest.approx([third, third, abs(float(np.float32(2) / 3) - 2 / 3)], rel=1e-9)
    assert look([2, 0, 1], "float64").tolist() == [0, 0, 0]
