"""What a matrix of rows is multiplied by: arrays, lists of numbers, and the rows of the same parameters."""

from __future__ import annotations

from typing import Any

from gradkernels.backend import backend_of
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
