"""numba, in one pass over x: every quantity of every regression, generated from its slope."""

from __future__ import annotations

from gradkernels.case import Case
from gradkernels.kernel import Compute, declare
from gradkernels.problems import Regression


def _refuses(case: Case) -> list[str]:
    """Return why numba cannot compile a slope from elsewhere; those of this package it can."""
    problem = case.problem
    # What is executed from a string without a __name__ has no module.
    if str(type(problem).slope.__module__).startswith("gradkernels."):  # type: ignore[attr-defined]
        return []
    from gradkernels.engines.fused.codegen.slopes import compile_errors

    return list(compile_errors(problem, case.dtype))


@declare("numba.fused.gradient", problems=Regression, refuses=_refuses)
def gradient(problem: Regression) -> Compute:
    """Build the mean of the rows slope * (1, x) + l2 * (0, theta), none of which is formed."""
    from gradkernels.engines.fused import quantities

    return quantities.gradient(problem)


@declare("numba.fused.per_sample", problems=Regression, out=True, refuses=_refuses)
def per_sample(problem: Regression) -> Compute:
    """Build the rows, each written once."""
    from gradkernels.engines.fused import quantities

    return quantities.per_sample(problem)


@declare("numba.fused.norms", problems=Regression, out=True, refuses=_refuses)
def norms(problem: Regression) -> Compute:
    """Build |slope| * sqrt(1 + |x|^2), or with a penalty the root of the sum of squares."""
    from gradkernels.engines.fused import quantities

    return quantities.norms(problem)


@declare("numba.fused.moments", problems=Regression, refuses=_refuses)
def moments(problem: Regression) -> Compute:
    """Build mean and variance around shifts that lie in the data, joined in float64."""
    from gradkernels.engines.fused import quantities

    return quantities.moments(problem)


@declare("numba.fused.clipped_sum", problems=Regression, refuses=_refuses)
def clipped_sum(problem: Regression) -> Compute:
    """Build the sum of the rows with slopes shortened by the norms."""
    from gradkernels.engines.fused import quantities

    return quantities.clipped_sum(problem)


@declare("numba.fused.weighted_sum", problems=Regression, refuses=_refuses)
def weighted_sum(problem: Regression) -> Compute:
    """Build sums of the rows with slopes times weights, a line for each weighting."""
    from gradkernels.engines.fused import products

    return products.weighted_sum(problem)


@declare("numba.fused.group_sums", problems=Regression, refuses=_refuses)
def group_sums(problem: Regression) -> Compute:
    """Build sums of the rows by group, each added to its group's while it is in cache."""
    from gradkernels.engines.fused import products

    return products.group_sums(problem)


@declare("numba.fused.inner", problems=Regression, refuses=_refuses)
def inner(problem: Regression) -> Compute:
    """Build slopes times predictors of the directions, from the same rows in cache."""
    from gradkernels.engines.fused import products

    return products.inner(problem)


@declare("numba.fused.outer", problems=Regression, refuses=_refuses)
def outer(problem: Regression) -> Compute:
    """Build the sum of outer products of some tens of rows at a time; with groups, of their sums."""
    from gradkernels.engines.fused import products

    return products.outer(problem)
