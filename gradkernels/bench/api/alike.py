"""Whether the results of two functions are the same, and whether a function left its arguments as they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

_NO_EQUALITY: Any = object.__eq__
"""Of types that have none of their own: two objects of such a type are not compared."""


def same(one: Any, other: Any) -> bool:
    """Return whether two values hold the same: arrays entry by entry, also where they are no numbers."""
    return _alike(one, other, _equal)


def close(result: Any, wanted: Any) -> bool:
    """Return whether results are about the same: floats within half of their digits of the largest, all else equal."""
    return _alike(result, wanted, _about)


def _alike(one: Any, other: Any, arrays_alike: Callable[[Any, Any], bool]) -> bool:
    """Compare values part by part.

    Args:
        one: A value: a dict, list or tuple of such, an array, a number or anything else.
        other: Likewise.
        arrays_alike: Compares arrays of numpy, of the same shape.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[name], other[name], arrays_alike) for name in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(_alike(*pair, arrays_alike) for pair in zip(one, other, strict=True))
    left, right = _array(one), _array(other)
    if left is None or right is None:
        own: Any = type(one).__eq__
        return type(one) is type(other) and (own is _NO_EQUALITY or bool(one == other))
    return left.shape == right.shape and arrays_alike(left, right)


def _array(value: Any) -> np.ndarray[Any, Any] | None:
    if not isinstance(value, bool | int | float | complex) and not (
        hasattr(value, "shape") and hasattr(value, "dtype")
    ):
        return None
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


def _equal(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind in "fc" and other.dtype.kind in "fc"))


def _about(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    floats = [array.dtype for array in (one, other) if array.dtype.kind in "fc"]
    if not floats:
        return _equal(one, other)
    within = max(float(np.sqrt(np.finfo(dtype).eps)) for dtype in floats)
    scale = float(np.abs(np.where(np.isfinite(other), other, 0)).max(initial=0.0))
    return bool(np.allclose(one, other, rtol=within, atol=within * scale, equal_nan=True))
