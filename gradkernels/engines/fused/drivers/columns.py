"""Passes over a block whose columns lie side by side: one feature, Fortran order, and what was copied into that order.

Everywhere: `x` points to the block's first entry, columns are `step` elements apart, `b` rows of `d` entries. The
functions are those of `rows`, entry for entry.
"""

from __future__ import annotations

from numba import njit

from gradkernels.engines.fused.codegen.options import FAST
from gradkernels.engines.fused.codegen.pointers import at, get, put


@njit(**FAST)
def predict(x, step, b, d, weights, first, eta):
    """Write eta_i = first + x_i . weights.

    Args:
        x: First entry of the block.
        step: Elements between columns.
        b: Rows.
        d: Entries of a row.
        weights: `(d,)`.
        first: The intercept.
        eta: Predictors, `(b,)`, written.
    """
    for i in range(b):
        put(eta, i, first)
    for j in range(d):
        column, weight = at(x, j * step), get(weights, j)
        for i in range(b):
            put(eta, i, get(eta, i) + weight * get(column, i))


@njit(**FAST)
def predict_squares(x, step, b, d, weights, first, eta, squares):
    """Write predictors as `predict` does, and add |x_i|^2 to squares_i.

    Args:
        x: First entry of the block.
        step: Elements between columns.
        b: Rows.
        d: Entries of a row.
        weights: `(d,)`.
        first: The intercept.
        eta: Predictors, `(b,)`, written.
        squares: `(b,)`, added to.
    """
    for i in range(b):
        put(eta, i, first)
    for j in range(d):
        column, weight = at(x, j * step), get(weights, j)
        for i in range(b):
            value = get(column, i)
            put(eta, i, get(eta, i) + weight * value)
            put(squares, i, get(squares, i) + value * value)


@njit(**FAST)
def accumulate(x, step, b, d, slopes, sums):
    """Add the sum over i of slope_i x_ij to sums_j.

    Args:
        x: First entry of the block.
        step: Elements between columns.
        b: Rows.
        d: Entries of a row.
        slopes: `(b,)`.
        sums: `(d,)`, added to.
    """
    for j in range(d):
        column = at(x, j * step)
        s = get(sums, j)
        for i in range(b):
            s += get(slopes, i) * get(column, i)
        put(sums, j, s)


@njit(**FAST)
def add_squared_norms(x, step, b, d, slopes, penalty, sums):
    """Add the sum over j of (slope_i x_ij + penalty_j)^2 to sums_i.

    Args:
        x: First entry of the block.
        step: Elements between columns.
        b: Rows.
        d: Entries of a row.
        slopes: `(b,)`.
        penalty: Gradient of the penalty, `(d,)`.
        sums: `(b,)`, added to.
    """
    for j in range(d):
        column, shift = at(x, j * step), get(penalty, j)
        for i in range(b):
            g = get(slopes, i) * get(column, i) + shift
            put(sums, i, get(sums, i) + g * g)


@njit(**FAST)
def accumulate_deviations(x, step, b, d, slopes, shift, sums, seconds):
    """Add the sums of v and of v^2 to sums_j and seconds_j, for v = slope_i x_ij - shift_j.

    Args:
        x: First entry of the block.
        step: Elements between columns.
        b: Rows.
        d: Entries of a row.
        slopes: `(b,)`.
        shift: `(d,)`.
        sums: `(d,)`, added to.
        seconds: `(d,)`, added to.
    """
    for j in range(d):
        column, center = at(x, j * step), get(shift, j)
        first, second = get(sums, j), get(seconds, j)
        for i in range(b):
            v = get(slopes, i) * get(column, i) - center
            first += v
            second += v * v
        put(sums, j, first)
        put(seconds, j, second)


ROWS_PER_LINE = 8  # rows whose part of a column is one cache line


@njit(**FAST)
def write(x, step, b, d, slopes, penalty, out, out_step):
    """Write out_ij = slope_i x_ij + penalty_j.

    Args:
        x: First entry of the block.
        step: Elements between columns.
        b: Rows.
        d: Entries of a row.
        slopes: `(b,)`.
        penalty: Gradient of the penalty, `(d,)`.
        out: First entry of the result.
        out_step: Elements between its rows.
    """
    for low in range(0, b, ROWS_PER_LINE):
        high = min(low + ROWS_PER_LINE, b)
        for j in range(d):
            column, shift = at(x, j * step), get(penalty, j)
            for i in range(low, high):
                put(out, i * out_step + j, get(slopes, i) * get(column, i) + shift)


@njit(**FAST)
def write_pairs(x, b, slopes, penalty, out):
    """Write rows (slope_i, slope_i x_i + penalty), side by side: one feature with an intercept.

    Args:
        x: The feature, `(b,)`.
        b: Rows.
        slopes: `(b,)`.
        penalty: Gradient of the penalty, a number.
        out: First entry of the result.
    """
    for i in range(b):
        s = get(slopes, i)
        put(out, 2 * i, s)
        put(out, 2 * i + 1, s * get(x, i) + penalty)
