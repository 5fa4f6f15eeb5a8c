"""Arrays on their way to a kernel of a regression: plain, targets in the right dtype, and none without a loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gradkernels.backend import Array, arrays_of
from gradkernels.names import dtype_name
from gradkernels.problems.frames import without_frames
from gradkernels.problems.problem import Problem
from gradkernels.problems.regression.regression import Regression
from gradkernels.problems.regression.target_guard import target_guard
from gradkernels.tree import Tree, each, leaves


def is_integral(array: Array) -> bool:
    """Tell whether an array of any library holds integers or truth values."""
    name = dtype_name(array.dtype)
    return name == "bool" or name.removeprefix("u").startswith("int")


def plain_array(array: Any) -> Any:
    """Return the plain array of a memory map's memory, or of another class derived from numpy's."""
    return np.asarray(array) if isinstance(array, np.ndarray) and type(array) is not np.ndarray else array


def convert_target(problem: Problem, x: Array, y: Tree) -> Tree:
    """Convert integers and truth values in `y` to x's dtype, class numbers to int64 or int32.

    Args:
        problem: A regression, for whether its targets are class numbers.
        x: Features.
        y: Targets, with their weights where the problem is weighted.
    """
    classes = leaves(y)[0] if problem.integer_target else None

    def one(array: Array) -> Array:
        name = dtype_name(array.dtype)
        if not is_integral(array) or (array is classes and name in ("int64", "int32")):
            return array
        return arrays_of(array).cast(array, "int64" if array is classes else dtype_name(x.dtype))

    return each(one, y)


def needs_conversion(problem: Problem, theta: Array, x: Array, y: Tree) -> bool:
    """Tell whether arrays have to be converted before a kernel takes them.

    Args:
        problem: A regression.
        theta: Parameters.
        x: Features.
        y: Targets.
    """
    arrays = (theta, x, *leaves(y))
    same = all(plain_array(array) is array for array in arrays)
    return not same or any(a is not b for a, b in zip(leaves(convert_target(problem, x, y)), leaves(y), strict=True))


def with_conversion(compute: Callable[..., Any], problem: Problem, convert: bool) -> Callable[..., Any]:
    """Check targets at every call of a kernel, and convert the arrays where they need it.

    Args:
        compute: The kernel, built.
        problem: Whose targets are checked.
        convert: Whether arrays have to be converted.

    Returns:
        A function called like `compute`; itself where there is nothing to do.
    """
    look = target_guard(problem) if isinstance(problem, Regression) else None

    def call(theta: Tree, x: Tree, y: Tree, *arguments: Any, **options: Any) -> Any:
        theta, x, y = each(plain_array, without_frames(theta, x, y))
        y = convert_target(problem, x, y)
        if look is not None:
            look(y)
        return compute(theta, x, y, *arguments, **options)

    def looked(theta: Tree, x: Tree, y: Tree, *arguments: Any, **options: Any) -> Any:
        look(y)  # type: ignore[misc]
        return compute(theta, x, y, *arguments, **options)

    return call if convert else compute if look is None else looked
