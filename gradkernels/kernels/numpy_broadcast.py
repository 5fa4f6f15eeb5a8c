"""numpy broadcasting: all slopes at once, then their outer product with the features."""

from __future__ import annotations

import numpy as np

from gradkernels.kernel import Compute, declare
from gradkernels.memory import empty_numpy
from gradkernels.problems import Regression


@declare("numpy.broadcast.per_sample", problems=Regression, out=True)
def per_sample(problem: Regression) -> Compute:
    """Build rows slope * (1, x) + l2 * (0, theta_{1..d})."""
    first = int(problem.fit_intercept)

    def compute(theta, x, y, out=None):  # type: ignore[no-untyped-def]
        rows = empty_numpy((len(x), *theta.shape), theta.dtype) if out is None else out
        slope = problem.slopes(np, theta, x, y)[:, None]
        columns = x if x.ndim == 2 else x[:, None]
        rows[:, :first] = slope
        np.multiply(slope, columns[..., None] if problem.outputs else columns, out=rows[:, first:])
        if problem.l2:
            rows[:, first:] += problem.l2 * theta[first:]
        return rows

    return compute
