"""The functions that losses are written with, on complex numbers: values of the real part, derivatives by the step."""

import numpy as np
import pytest
import torch

from gradkernels.elementwise import COMPLEX, namespace

POINTS = np.array([-1000.0, -30.0, -1.5, -0.5, 0.25, 1.0, 2.0, 30.0, 600.0])
STEP = 1e-100

WITH_DERIVATIVE = {
    "exp": (np.exp, np.exp, POINTS),
    "expm1": (np.expm1, np.exp, POINTS),
    "tanh": (np.tanh, lambda t: 4 * np.exp(-2 * abs(t)) / (1 + np.exp(-2 * abs(t))) ** 2, POINTS),
    "sin": (np.sin, np.cos, POINTS),
    "cos": (np.cos, lambda t: -np.sin(t), POINTS),
    "abs": (np.abs, np.sign, POINTS),
    "sign": (np.sign, np.zeros_like, POINTS),
    "log": (np.log, lambda t: 1 / t, abs(POINTS)),
    "log1p": (np.log1p, lambda t: 1 / (1 + t), abs(POINTS)),
    "sqrt": (np.sqrt, lambda t: 1 / (2 * np.sqrt(t)), abs(POINTS)),
}


@pytest.mark.parametrize("name", WITH_DERIVATIVE)
def test_values_and_derivatives_are_those_of_calculus(name):
    value, derivative, points = WITH_DERIVATIVE[name]
    stepped = getattr(COMPLEX, name)(points + STEP * 1j)
    np.testing.assert_allclose(np.real(stepped), value(points), rtol=1e-14, atol=1e-199)
    np.testing.assert_allclose(np.imag(stepped) / STEP, derivative(points), rtol=1e-13)


Z = np.array([-2.0, 0.5, 3.0]) + np.array([5.0, 6.0, 7.0]) * STEP * 1j


@pytest.mark.parametrize(
    ("result", "real", "steps"),
    [
        (COMPLEX.clip(Z, -1, 1), [-1, 0.5, 1], [0, 6, 0]),
        (COMPLEX.maximum(Z, 0.0), [0, 0.5, 3], [0, 6, 7]),
        (COMPLEX.minimum(Z, 0.0), [-2, 0, 0], [5, 0, 0]),
        (COMPLEX.where(np.real(Z) > 0, Z, 0.0), [0, 0.5, 3], [0, 6, 7]),
        (COMPLEX.amax(Z, -1), 3, 7),
        (COMPLEX.amax(Z, -1, keepdims=True), [3], [7]),
        (COMPLEX.abs(np.array([0.0 + STEP * 1j])), [0], [0]),
    ],
)
def test_what_is_not_analytic_acts_on_the_real_part_and_takes_the_step_along(result, real, steps):
    np.testing.assert_array_equal(np.real(result), real)
    np.testing.assert_allclose(np.imag(result) / STEP, steps, rtol=1e-15)


def test_each_array_has_its_own_namespace():
    import jax.numpy as jnp

    assert namespace(np.zeros(1)) is np
    assert namespace(np.float32(1)) is np
    assert namespace(np.zeros(1, complex)) is COMPLEX
    assert namespace(torch.zeros(1)) is torch
    assert namespace(jnp.zeros(1)) is jnp
