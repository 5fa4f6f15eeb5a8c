"""A quantity that takes options, computed by the fastest kernel: what every public function of that kind does."""

from __future__ import annotations

from typing import Any

from gradkernels.dispatch.bound_kernels import bound_kernel
from gradkernels.dispatch.keywords import with_names, with_weights
from gradkernels.dispatch.request import KernelLike, NameGlobs, ResultsPath
from gradkernels.problems import Problem
from gradkernels.quantity import quantity
from gradkernels.tree import Tree

Chosen = tuple[KernelLike, ResultsPath, int | None]
"""What the kernel is chosen by: `(kernel, results, max_bytes)`."""


def compute(
    name: str,
    problem: Problem,
    arrays: tuple[Tree, Tree, Tree],
    chosen: Chosen,
    sample_weight: Any,
    *,
    parameters: NameGlobs = None,
    **options: Any,
) -> Any:
    """Compute a quantity with its options, which the bound kernel looks at.

    Args:
        name: Of the quantity.
        problem: What is differentiated.
        arrays: `(theta, x, y)`.
        chosen: What the kernel is chosen by.
        sample_weight: Factor of each sample's loss, `(n,)`, for regressions; None for 1.
        parameters: Names or globs of the only parameters that are asked about; None for all.
        options: Of the quantity, None where the caller gave none.
    """
    theta, x, y = arrays
    if parameters is not None:
        problem = with_names(problem, parameters)
    if sample_weight is not None:
        problem, y = with_weights(problem, y, sample_weight)
    bound = bound_kernel(name, problem, (theta, x, y), chosen)
    given = {option: value for option, value in options.items() if value is not None}
    return bound(theta, x, y, **given)


def function_of(name: str) -> Any:
    """Return the public function of a quantity that has none written out: `f(problem, theta, x, y, **options)`.

    Args:
        name: Of the quantity.
    """
    asked = quantity(name)

    def function(
        problem: Problem,
        theta: Tree,
        x: Tree,
        y: Tree,
        *,
        parameters: NameGlobs = None,
        sample_weight: Any = None,
        kernel: KernelLike = None,
        results: ResultsPath = None,
        max_bytes: int | None = None,
        **options: Any,
    ) -> Any:
        """Compute the quantity; arguments and errors are those of `gk.gradient`, and the quantity's own options."""
        if unknown := options.keys() - {*asked.option_names}:
            takes = "".join(f", {option}=" for option in asked.option_names)
            raise TypeError(f"{name} takes problem, theta, x, y{takes} and not {min(unknown)}=")
        chosen = kernel, results, max_bytes
        arrays = theta, x, y
        return compute(name, problem, arrays, chosen, sample_weight, parameters=parameters, **options)

    function.__name__ = function.__qualname__ = name
    return function
