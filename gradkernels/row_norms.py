"""Euclidean lengths of rows whose squares may leave the range of their dtype; half precision is squared in float32.

The plain root of the sum of squares, and where that sum is zero, tiny, infinite or NaN once more with the row's
largest entry as its unit, as BLAS' nrm2 does (Blue 1978, ACM TOMS 4(1)).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from gradkernels.backend import Array, arrays_by_namespace, arrays_of
from gradkernels.names import dtype_name


def lengths(xp: Any, parts: Sequence[Array]) -> Array:
    """Compute the length of each row over several arrays, `(n,)`, in at least float32.

    Args:
        xp: `numpy`, `torch` or `jax.numpy`.
        parts: Arrays `(n, m)` with the same n.
    """
    parts = [wide(part) for part in parts]
    if arrays_by_namespace(xp).all_between is None:  # its compiled code has no branches
        return scaled(xp, parts)
    with np.errstate(over="ignore"):  # what overflows is mended
        squares = sum((part**2).sum(1) for part in parts)
    return mended(xp, xp.sqrt(squares), squares, lambda rows: scaled(xp, [part[rows] for part in parts]))


def mended(xp: Any, norms: Array, squares: Array, again: Callable[[Array], Array], least: float = 0) -> Array:
    """Replace in `norms` those of squares outside of their dtype's range.

    Args:
        xp: `numpy` or `torch`.
        norms: `(n,)`, written to.
        squares: What they were made from, `(n,)`.
        again: Norms of the rows whose positions it is given.
        least: What no square is below, if that is known.
    """
    low, high = _range(squares.dtype)
    all_between = arrays_by_namespace(xp).all_between
    assert all_between is not None
    if not len(squares) or all_between(squares, low if least <= low else -np.inf, high):
        return norms
    beyond = xp.where(~((squares > low) & (squares <= high)))[0]
    norms[beyond] = again(beyond)
    return norms


@cache
def _range(dtype: Any) -> tuple[float, float]:
    """Return what squares must be larger than, and at most, to have lost nothing."""
    limits = np.finfo(dtype_name(dtype))
    return float(limits.tiny / limits.eps), float(limits.max)


def scaled(xp: Any, parts: Sequence[Array]) -> Array:
    """Compute lengths with each row's largest entry as its unit; NaN and infinity stay as they are."""
    parts = [part for part in parts if part.shape[1]] or list(parts[:1])
    unit = _unit(xp, parts)
    total = sum(((part / unit[:, None]) ** 2).sum(1) for part in parts)
    return unit * xp.sqrt(total)


def _unit(xp: Any, parts: Sequence[Array]) -> Array:
    if not parts[0].shape[1]:
        return xp.ones_like(parts[0].sum(1))
    largest = xp.amax(xp.abs(parts[0]), 1)
    for part in parts[1:]:
        largest = xp.maximum(largest, xp.amax(xp.abs(part), 1))
    return xp.where((largest > 0) & (largest < np.inf), largest, 1.0)


def half(array: Array) -> bool:
    """Return whether an array has half precision: float16 or bfloat16."""
    return bool(array.dtype.itemsize == 2)


def wide(array: Array) -> Array:
    """Return the array, half precision as float32."""
    return arrays_of(array).cast(array, "float32") if half(array) else array


def narrowed(value: Array, like: Array) -> Array:
    """Convert `value` to the dtype of `like`, where that is half precision."""
    return cast_like(value, like) if half(like) else value


def cast_like(value: Array, like: Array) -> Array:
    """Convert `value` to the dtype of `like`."""
    if value.dtype == like.dtype:
        return value
    return arrays_of(value).cast(value, dtype_name(like.dtype))
