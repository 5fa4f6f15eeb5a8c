"""The array namespace that a loss is written with, whatever library its arrays are of.

Losses use what numpy, torch and `jax.numpy` call by the same name: exp, expm1, log, log1p, sqrt, tanh, abs, sign,
clip(a, low, high), where(condition, a, b), amax, and operators. For the reference, which steps along the
imaginary axis, `COMPLEX` carries those among them that are not analytic over to complex numbers: they act on the
real part, and the step goes along (Martins, Sturdza & Alonso 2003, ACM TOMS 29(3), section 4.1).
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np

from gradkernels.backend import Array, backend_of

Namespace = Any
"""`numpy`, `torch`, `jax.numpy` or `COMPLEX`."""


def namespace(array: Array) -> Namespace:
    """Return the functions for arrays like this one."""
    if isinstance(array, np.ndarray | np.generic):
        return COMPLEX if array.dtype.kind == "c" else np
    backend = backend_of(array)
    return np if backend is None else sys.modules[backend.arrays.namespace or backend.name]


def _abs(z: Array) -> Array:
    return z * np.sign(np.real(z))


def _sign(z: Array) -> Array:
    return np.sign(np.real(z))


def _clip(z: Array, low: Any, high: Any) -> Array:
    real = np.real(z)
    return np.where(real < low, low, np.where(real > high, high, z))


def _maximum(a: Array, b: Array) -> Array:
    return np.where(np.real(a) >= np.real(b), a, b)


def _minimum(a: Array, b: Array) -> Array:
    return np.where(np.real(a) <= np.real(b), a, b)


def _amax(z: Array, axis: int, keepdims: bool = False) -> Array:
    """Return the entry with the largest real part."""
    at = np.expand_dims(np.argmax(np.real(z), axis), axis)
    found = np.take_along_axis(z, at, axis)
    return found if keepdims else found.squeeze(axis)


COMPLEX: Namespace = SimpleNamespace(
    __name__="complex",
    **{name: getattr(np, name) for name in ("exp", "expm1", "log", "log1p", "sqrt", "tanh", "where", "sin", "cos")},
    **{name: getattr(np, name) for name in ("asarray", "take_along_axis")},
    abs=_abs,
    sign=_sign,
    clip=_clip,
    maximum=_maximum,
    minimum=_minimum,
    amax=_amax,
)
"""The functions for complex numpy arrays."""

STEP = 1e-100
"""Size of the complex step: far below the square root of the smallest relative step, so that nothing cancels."""
