"""The full-batch gradient as two matrix products, without per-sample gradients."""

from __future__ import annotations

import numpy as np

from gradkernels.kernel import Compute, declare
from gradkernels.problems import Regression


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
