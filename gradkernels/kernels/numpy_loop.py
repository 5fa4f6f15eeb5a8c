"""One sample at a time, in Python and numpy: the textbook stochastic gradient, by hand."""

from __future__ import annotations

import numpy as np

from gradkernels.kernel import Compute, declare
from gradkernels.problems import Regression


@declare("numpy.loop.per_sample", problems=Regression, loops=True, out=True)
def per_sample(problem: Regression) -> Compute:
    """Row i is slope_i * (1, x_i)."""
    first = int(problem.fit_intercept)

    def compute(theta, x, y, out=None):  # type: ignore[no-untyped-def]
        rows = np.empty((len(y), *theta.shape), theta.dtype) if out is None else out
        for i, row in enumerate(rows):
            slope = problem.slope(problem.eta(theta, x[i], y[i]), y[i])
            row[:first] = slope
            row[first:] = slope * x[i]
        return rows

    return compute
