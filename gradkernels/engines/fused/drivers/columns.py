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
    """eta_i = first + x_i . weights."""
    for i in range(b):
        put(eta, i, first)
    for j in range(d):
        column, weight = at(x, j * step), get(weights, j)
        for i in range(b):
            put(eta, i, get(eta, i) + weight * get(column, i))


@njit(**FAST)
def predict_squares(x, step, b, d, weights, first, eta, squares):
    """`predict`, and squares_i += |x_i|^2."""
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
    """sums_j += sum over i of slope_i x_ij."""
    for j in range(d):
        column = at(x, j * step)
        s = get(sums, j)
        for i in range(b):
            s += get(slopes, i) * get(column, i)
        put(sums, j, s)


@njit(**FAST)
def add_squared_norms(x, step, b, d, slopes, penalty, sums):
    """sums_i += sum over j of (slope_i x_ij + penalty_j)^2."""
    for j in range(d):
        column, shift = at(x, j * step), get(penalty, j)
        for i in range(b):
            g = get(slopes, i) * get(column, i) + shift
            put(sums, i, get(sums, i) + g * g)


@njit(**FAST)
def accumulate_deviations(x, step, b, d, slopes, shift, sums, seconds):
    """sums_j += sum of v, seconds_j += sum of v^2, for v = slope_i x_ij - shift_j."""
    for j in range(d):
        column, center = at(x, j * step), get(shift, j)
        first, second = get(sums, j), get(seconds, j)
        for i in range(b):
            v = get(slopes, i) * get(column, i) - center
            first += v
            second += v * v
        put(sums, j, first)
        put(seconds, j, second)


TILE = 8  # rows whose part of a column is one cache line


@njit(**FAST)
def write(x, step, b, d, slopes, penalty, out, out_step):
    """out_ij = slope_i x_ij + penalty_j."""
    for low in range(0, b, TILE):
        high = min(low + TILE, b)
        for j in range(d):
            column, shift = at(x, j * step), get(penalty, j)
            for i in range(low, high):
                put(out, i * out_step + j, get(slopes, i) * get(column, i) + shift)


@njit(**FAST)
def write_pairs(x, b, slopes, penalty, out):
    """Rows (slope_i, slope_i x_i + penalty), side by side: one feature with an intercept."""
    for i in range(b):
        s = get(slopes, i)
        put(out, 2 * i, s)
        put(out, 2 * i + 1, s * get(x, i) + penalty)
