"""The full-batch gradient as two matrix products, without per-sample gradients."""

from __future__ import annotations

import numpy as np

from gradkernels.kernel import Compute, declare
from gradkernels.problems import Regression


@declare("numpy.matmul.gradient", problems=Regression)
def gradient(problem: Regression) -> Compute:
    """(sum of slopes, slopes @ x) / n."""
    first = int(problem.fit_intercept)

    def compute(theta, x, y):  # type: ignore[no-untyped-def]
        slope = problem.slope(problem.eta(theta, x, y), y)
        total = np.empty_like(theta)
        total[:first] = slope.sum()
        total[first:] = slope @ x
        total /= len(y)
        return total

    return compute
