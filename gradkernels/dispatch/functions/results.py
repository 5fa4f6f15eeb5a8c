"""Results of a JAX function's quantities, in the structure of the caller's params."""

from __future__ import annotations

from typing import Any

from gradkernels.problems import FunctionProblem
from gradkernels.quantity import Moments, Quantity
from gradkernels.tree import Tree

OF_SUMS = "sum"
"""The field of a result of sums and norms that has theta's structure."""


def restored(problem: FunctionProblem, quantity: Quantity, result: Tree) -> Any:
    """Return a result with what is of theta's structure in that of params; dicts by parameter stay as they are.

    Args:
        problem: Whose params.
        quantity: What was computed.
        result: By a kernel, of flat theta.
    """
    if isinstance(result, Moments):
        return Moments(*map(problem.restored, result))
    if quantity.per_parameter:
        return problem.restored(result)
    if hasattr(result, OF_SUMS) and hasattr(result, "_replace"):
        return result._replace(**{OF_SUMS: problem.restored(getattr(result, OF_SUMS))})
    return result
