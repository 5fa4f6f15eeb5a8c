"""numpy broadcasting: all slopes at once, then their outer product with the features."""

from __future__ import annotations

import numpy as np

from gradkernels.kernel import Compute, declare
from gradkernels.problems import Regression


@declare("numpy.broadcast.per_sample", problems=Regression, out=True)
def per_sample(problem: Regression) -> Compute:
    """Rows slope * (1, x), written once into the result."""
    first = int(problem.fit_intercept)

    def compute(theta, x, y, out=None):  # type: ignore[no-untyped-def]
        rows = np.empty((len(y), *theta.shape), theta.dtype) if out is None else out
        slope = problem.slope(problem.eta(theta, x, y), y)[:, None]
        rows[:, :first] = slope
        np.multiply(slope, x if x.ndim == 2 else x[:, None], out=rows[:, first:])
        return rows

    return compute
