"""What `gradkernels run` takes for granted of a module where nothing is said, and what has no meaning there."""

from __future__ import annotations

from collections.abc import Mapping

from gradkernels.problems import BlackBox, Problem
from gradkernels.tree import leaves
from gradkernels.validate import dtype_of

MODULE_SIZES = (10, 100, 1000)


def own_dtype(problem: Problem) -> str:
    """`float32` for most modules, `float64` for regressions; half precision is measured as float32."""
    if not isinstance(problem, BlackBox):
        return "float64"
    dtype = dtype_of(leaves(problem.parameters())[0])
    return dtype if dtype == "float64" else "float32"


def refuse_for_module(given: Mapping[str, object]) -> None:
    """Raise a ValueError for the first option that was given."""
    for option, value in given.items():
        if value is not None and value is not False:
            raise ValueError(
                f"{option} is for regressions; a module has its data in ModuleProblem(..., example=(x, y))"
            )
