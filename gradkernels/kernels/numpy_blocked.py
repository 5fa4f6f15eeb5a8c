"""numpy in blocks of rows that stay in cache: one pass over x, and nothing of the size of the rows."""

from __future__ import annotations

from functools import partial

import numpy as np

from gradkernels.engines.closed import products
from gradkernels.engines.closed.blocks import ClosedForms
from gradkernels.kernel import Compute, declare
from gradkernels.memory import empty_numpy
from gradkernels.problems import Regression

ROWS = 8192
MEMORY = 1 << 19  # bytes; a core's own cache holds a block and its temporaries


def _blocks(problem: Regression, rows: int) -> ClosedForms:
    return ClosedForms(np, problem, rows, MEMORY)


@declare("numpy.blocked.gradient", problems=Regression)
def gradient(problem: Regression, rows: int = ROWS) -> Compute:
    """Build sums of each block of at most `rows` rows, added up in float64."""
    return _blocks(problem, rows).gradient


@declare("numpy.blocked.per_sample", problems=Regression, out=True)
def per_sample(problem: Regression, rows: int = ROWS) -> Compute:
    """Build rows slope * (1, x) + l2 * (0, theta_{1..d}), at most `rows` at a time."""
    blocks = _blocks(problem, rows)

    def compute(theta, x, y, out=None):  # type: ignore[no-untyped-def]
        return blocks.per_sample(theta, x, y, empty_numpy((len(x), *theta.shape), theta.dtype) if out is None else out)

    return compute


@declare("numpy.blocked.norms", problems=Regression, out=True)
def norms(problem: Regression, rows: int = ROWS) -> Compute:
    """Build |slope| sqrt(1 + |x|^2), at most `rows` rows at a time."""
    blocks = _blocks(problem, rows)

    def compute(theta, x, y, out=None):  # type: ignore[no-untyped-def]
        return blocks.norms(theta, x, y, empty_numpy((len(x),), theta.dtype) if out is None else out)

    return compute


@declare("numpy.blocked.moments", problems=Regression)
def moments(problem: Regression, rows: int = ROWS) -> Compute:
    """Build mean and centred squares of each block of at most `rows` rows, merged."""
    return _blocks(problem, rows).moments


@declare("numpy.blocked.clipped_sum", problems=Regression)
def clipped_sum(problem: Regression, rows: int = ROWS) -> Compute:
    """Build sums of scaled slopes of each block of at most `rows` rows, added up in float64."""
    return _blocks(problem, rows).clipped_sum


@declare("numpy.blocked.group_sums", problems=Regression)
def group_sums(problem: Regression, rows: int = ROWS) -> Compute:
    """Build sums by group of each block of at most `rows` rows, added up in float64."""
    return partial(products.group_sums, _blocks(problem, rows))


@declare("numpy.blocked.outer", problems=Regression)
def outer(problem: Regression, rows: int = ROWS) -> Compute:
    """Build g^T g of each block of at most `rows` rows; with groups, of the sums by group of all."""
    return partial(products.outer, _blocks(problem, rows))
