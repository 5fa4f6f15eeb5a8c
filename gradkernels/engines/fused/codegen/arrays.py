"""What compiled code reads through pointers: arrays of the right dtypes, whole elements apart."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np


def aligned(*args: Any) -> list[Any]:
    """Copy arrays with fractions of an element between neighbours, as in packed structures; return all arguments."""
    return [arg.copy() if isinstance(arg, np.ndarray) and _packed(arg) else arg for arg in args]


def _packed(array: Any) -> bool:
    return not array.flags.aligned or any(stride % array.itemsize for stride in array.strides)


def check_dtypes(theta: Any, x: Any, y: Any, w: Any, result: Any) -> None:
    """Raise a TypeError for what would be read through a pointer of another type.

    Args:
        theta: Parameters, float64 or float32.
        x: Features, of theta's dtype.
        y: Targets, of theta's dtype, int64 or int32.
        w: Weights, of theta's dtype, or None.
        result: Memory for it, of theta's dtype or float64, or None.
    """
    dtype = theta.dtype
    fits = dtype in (np.float64, np.float32) and x.dtype == dtype and y.dtype in (dtype, np.int64, np.int32)
    fits = fits and (w is None or w.dtype == dtype) and (result is None or result.dtype in (dtype, np.float64))
    if not fits or not all(array.dtype.isnative for array in (theta, x, y)):
        named = {"theta": theta, "x": x, "y": y, "sample_weight": w}
        given = ", ".join(f"{name} {array.dtype}" for name, array in named.items() if array is not None)
        hint = "all must be float64 or all float32 (class numbers y: int64 or int32); convert them with astype"
        raise TypeError(f"{given}: {hint}")


def require_native(theta: Any, x: Any, y: Any, w: Any) -> None:
    """Raise a TypeError for arrays in another byte order than this machine's.

    numba tells types of read-only arrays apart by less than their byte order, so they are looked at in each call.

    Args:
        theta: Parameters.
        x: Features.
        y: Targets.
        w: Weights, or None.
    """
    if not (theta.dtype.isnative and x.dtype.isnative and y.dtype.isnative and (w is None or w.dtype.isnative)):
        check_dtypes(theta, x, y, w, None)


def show_swapped(run: Callable[..., None]) -> None:
    """Let numba meet arrays of the other byte order, which it has no type for, before any that is not aligned.

    numba remembers types by what it sees of an array at a glance, which is the same for both: after one that is not
    aligned it would read the other's bytes the wrong way round. Now it takes neither, and `aligned` copies the former.

    Args:
        run: A compiled function of six arguments, which is called and refuses them.
    """
    for dtype in (np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.int64), np.dtype(np.int32)):
        for shape in ((2,), (2, 2), (2, 2, 2)):
            swapped = np.zeros(shape, dtype.newbyteorder())
            layouts = swapped, swapped.T, swapped[::-1]
            with suppress(TypeError):
                run(*layouts, *layouts)
