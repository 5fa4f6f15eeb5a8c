"""One sample at a time, in Python and numpy: the textbook stochastic gradient, by hand."""

from __future__ import annotations

import numpy as np

from gradkernels.kernel import Compute, declare
from gradkernels.memory import empty_numpy
from gradkernels.problems import Regression
from gradkernels.tree import take


@declare("numpy.loop.per_sample", problems=Regression, loops=True, out=True)
def per_sample(problem: Regression) -> Compute:
    """Build row i as slope_i * (1, x_i) + l2 * (0, theta_{1..d})."""
    first = int(problem.fit_intercept)

    def compute(theta, x, y, out=None):  # type: ignore[no-untyped-def]
        rows = empty_numpy((len(x), *theta.shape), theta.dtype) if out is None else out
        for i, row in enumerate(rows):
            slope = problem.slopes(np, theta, x[i : i + 1], take(y, slice(i, i + 1)))[0]
            row[:first] = slope
            row[first:] = np.multiply.outer(x[i], slope)
            if problem.l2:
                row[first:] += problem.l2 * theta[first:]
        return rows

    return compute
