"""Sums and inner products of gradients as matrix products, without per-sample gradients.

A row is slope_i (1, x_i) + l2 (0, theta_{1..d}): what is linear in the rows is a product of x with the slopes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradkernels.kernel import Compute, declare
from gradkernels.problems import Regression
from gradkernels.tree import each

DOUBLE_BYTES = 8


@declare("numpy.matmul.gradient", problems=Regression)
def gradient(problem: Regression) -> Compute:
    """Build (sum of slopes, x^T slopes) / n + l2 * (0, theta_{1..d})."""
    first = int(problem.fit_intercept)

    def compute(theta, x, y):  # type: ignore[no-untyped-def]
        slope = problem.slopes(np, theta, x, y)
        total = np.empty_like(theta)
        total[:first] = slope.sum(0)
        total[first:] = x.T @ slope
        total /= len(x)
        if problem.l2:
            total[first:] += problem.l2 * theta[first:]
        return total

    return compute


def _columns(x: Any) -> Any:
    """Return x as a matrix `(n, d)`."""
    return x[:, None] if x.ndim == 1 else x


def _squares_are_in_range(factor: Any) -> bool:
    """Return whether squared lengths of rows, but for zero, are in the range of their dtype."""
    largest, limits = np.abs(factor).max(1, initial=0).astype(np.float64), np.finfo(factor.dtype)
    squares = largest[(largest > 0) & np.isfinite(largest)] ** 2
    within = (squares > limits.tiny / limits.eps) & (squares * factor.shape[1] < limits.max)
    return bool(within.all())


def _penalty(problem: Regression, theta: Any) -> Any:
    """Return what the penalty adds to each row, of theta's shape."""
    added = problem.l2 * theta
    added[: int(problem.fit_intercept)] = 0
    return added


@declare("numpy.matmul.weighted_sum", problems=Regression)
def weighted_sum(problem: Regression) -> Compute:
    """Build x^T (weights * slopes)."""
    first = int(problem.fit_intercept)

    def compute(theta, x, y, weights):  # type: ignore[no-untyped-def]
        slope, x = problem.slopes(np, theta, x, y), _columns(x)
        several = weights.T if weights.ndim == 2 else weights[None]
        weighted = several.reshape(*several.shape, *[1] * (slope.ndim - 1)) * slope  # (k, n, ...)
        totals = np.empty((len(several), *theta.shape), theta.dtype)
        totals[:, :first] = weighted.sum(1, keepdims=True)
        totals[:, first:] = np.moveaxis(np.tensordot(x, weighted, ([0], [1])), 0, 1)
        if problem.l2:
            totals += np.multiply.outer(several.sum(1), _penalty(problem, theta))
        return totals if weights.ndim == 2 else totals[0]

    return compute


@declare("numpy.matmul.inner", problems=Regression)
def inner(problem: Regression) -> Compute:
    """Build slopes . (v_0 + x v)."""
    first = int(problem.fit_intercept)

    def compute(theta, x, y, v):  # type: ignore[no-untyped-def]
        slope, x = problem.slopes(np, theta, x, y), _columns(x)
        several = v if v.ndim > theta.ndim else v[None]
        along = np.tensordot(x, several[:, first:], ([1], [1]))  # (n, k, ...)
        if first:
            along += several[:, 0]
        products = (along * slope[:, None]).sum(tuple(range(2, along.ndim)))
        if problem.l2:
            products += np.tensordot(several, _penalty(problem, theta), theta.ndim)
        return products if v.ndim > theta.ndim else products[:, 0]

    return compute


@declare("numpy.matmul.gram", problems=Regression)
def gram(problem: Regression) -> Compute:
    """Build (slope_i . slope_j) (1 + x_i . x_j)."""
    along = inner.build(problem)

    def between(theta: Any, *sides: Any) -> Any:
        slopes = [problem.slopes(np, theta, *side).reshape(len(side[0]), math.prod(theta.shape[1:])) for side in sides]
        columns = [_columns(side[0]) for side in sides]
        if theta.itemsize < DOUBLE_BYTES and not all(map(_squares_are_in_range, (*slopes, *columns))):
            return between(*each(lambda part: part.astype(np.float64), (theta, *sides))).astype(theta.dtype)
        products = columns[0] @ columns[-1].T
        products += int(problem.fit_intercept)
        products *= slopes[0] @ slopes[-1].T
        if problem.l2:
            # g_i = s_i + l for the penalty's l, and g_i . l = s_i . l + l . l comes from `inner`.
            penalty = _penalty(problem, theta)
            of_sides = [along(theta, *side, penalty) for side in sides]
            products += np.add.outer(of_sides[0], of_sides[-1]) - (penalty**2).sum()
        return products

    def compute(theta: Any, x: Any, y: Any, other: Any = None) -> Any:
        return between(theta, (x, y)) if other is None else between(theta, (x, y), other)

    return compute
