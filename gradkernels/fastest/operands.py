"""What a matrix of rows is multiplied by: arrays, lists of numbers, and the rows of the same parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradkernels.backend import backend_of
from gradkernels.fastest.flat_rows import FlatLayout
from gradkernels.quantities.shared.arguments import numbers_of
from gradkernels.scale.lazy_arrays import is_lazy
from gradkernels.tree import Tree, leaves


def operand(value: Any, name: str) -> Any:
    """Return what a matrix is multiplied by as an array: one of a library as it is, lists of numbers as numpy's.

    Args:
        value: The array.
        name: Of it, for messages.

    Raises:
        TypeError: It is nothing of the kind.
    """
    if backend_of(value) is not None or is_lazy(value):
        return value
    if not isinstance(value, list | tuple):
        raise TypeError(f"{name} is a {type(value).__name__}; multiply by an array, or by the transpose H.T of rows")
    return numbers_of(value, name)


def same_parameters(theta: Tree, other: Tree) -> bool:
    """Return whether two thetas are the same: the same arrays, or equal ones."""
    one, two = leaves(theta), leaves(other)
    return len(one) == len(two) and all(
        a is b or (type(a) is type(b) and a.shape == b.shape and a.dtype == b.dtype and bool((a == b).all()))
        for a, b in zip(one, two, strict=True)
    )


def chosen_samples(samples: Any, n: int) -> Any:
    """Return which samples are meant, as arrays of every library take it: a slice or an array.

    Args:
        samples: A number, a slice, or a list or array of numbers or of truth values.
        n: Number of samples.

    Raises:
        IndexError: It is nothing of the kind, or a number beyond the last.
    """
    if isinstance(samples, int | np.integer) and not isinstance(samples, bool):
        at = range(n)[samples]
        return slice(at, at + 1)
    if isinstance(samples, slice):
        return np.arange(n)[samples].copy() if (samples.step or 1) < 0 else samples  # which torch has not
    chosen = samples
    if isinstance(samples, list):
        chosen = np.asarray(samples) if samples else np.empty(0, int)
    if getattr(chosen, "ndim", 0) != 1 or "float" in str(chosen.dtype) or "complex" in str(chosen.dtype):
        raise IndexError(f"samples are {samples!r}; choose by number, slice, or a list of numbers or truth values")
    return chosen


def require_layout(now: FlatLayout, before: FlatLayout) -> None:
    """Raise a ValueError unless a model's parameters are those that a matrix was made with."""
    if now.shapes != before.shapes:
        named = ", ".join(sorted({name for name, _ in now.shapes.items() ^ before.shapes.items()})[:4])
        raise ValueError(f"the model trains other parameters than when gk.rows was called: {named}; call gk.rows again")


def in_numpy(array: Any) -> Any:
    """Return an array of any library as numpy's, in float64."""
    array = array.compute() if is_lazy(array) else array
    library = backend_of(array)
    assert library is not None
    return np.asarray(library.get(array), np.float64)
