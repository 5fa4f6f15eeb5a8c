"""Passes over a block of rows for three classes at a time, which share what they load of x; after `rows`.

Everywhere: `x` points to the block's first entry, rows are `step` elements apart, `b` rows of `d` entries; predictors
and slopes of the three classes are `line` elements apart, sums `d + 1`.
"""

from __future__ import annotations

from numba import njit

from gradkernels.engines.fused.codegen.arithmetic import fma, sum_lanes
from gradkernels.engines.fused.codegen.options import FAST
from gradkernels.engines.fused.codegen.pointers import at, get, put
from gradkernels.engines.fused.codegen.simd import lanes, load_part, load_vector, splat, store_part, store_vector, zeros


@njit(**FAST)
def predict(x, step, b, d, weights, first, eta, line):
    """Write eta_ki = first_k + x_i . weights_k.

    Args:
        x: First entry of the block.
        step: Elements between rows.
        b: Rows.
        d: Entries of a row.
        weights: `(3, d)`.
        first: Intercepts, `(3,)`.
        eta: Predictors of three classes, written.
        line: Elements between the classes' predictors.
    """
    width = lanes(x)
    w0, w1, w2 = weights, at(weights, d), at(weights, 2 * d)
    for i in range(b):
        row = at(x, i * step)
        a0, a1, a2 = zeros(x), zeros(x), zeros(x)
        j = 0
        while j + width <= d:
            v = load_vector(row, j)
            a0, a1, a2 = fma(v, load_vector(w0, j), a0), fma(v, load_vector(w1, j), a1), fma(v, load_vector(w2, j), a2)
            j += width
        if j < d:
            v, count = load_part(row, j, d - j), d - j
            a0, a1 = fma(v, load_part(w0, j, count), a0), fma(v, load_part(w1, j, count), a1)
            a2 = fma(v, load_part(w2, j, count), a2)
        put(eta, i, get(first, 0) + sum_lanes(a0))
        put(eta, line + i, get(first, 1) + sum_lanes(a1))
        put(eta, 2 * line + i, get(first, 2) + sum_lanes(a2))


@njit(**FAST)
def accumulate(x, step, b, d, slopes, line, sums):
    """Add the sum over i of slope_ki x_ij to sums_kj.

    Args:
        x: First entry of the block.
        step: Elements between rows.
        b: Rows.
        d: Entries of a row.
        slopes: Of three classes.
        line: Elements between the classes' slopes.
        sums: `(3, d + 1)`, of which d are added to.
    """
    width = lanes(x)
    j = 0
    while j < d:
        if j + width < d:
            _accumulate_two(at(x, j), step, b, d + 1, min(d - j - width, width), slopes, line, at(sums, j))
            j += 2 * width
        else:
            _accumulate_one(at(x, j), step, b, d + 1, d - j, slopes, line, at(sums, j))
            j += width


@njit(**FAST)
def _accumulate_two(x, step, b, m, last, slopes, line, sums):
    """Add up two vectors of columns, the second in part."""
    width = lanes(x)
    t0, t1, t2 = at(sums, width), at(sums, m + width), at(sums, 2 * m + width)
    a0, a1, a2 = load_vector(sums, 0), load_vector(sums, m), load_vector(sums, 2 * m)
    b0, b1, b2 = load_part(t0, 0, last), load_part(t1, 0, last), load_part(t2, 0, last)
    for i in range(b):
        u, v = load_vector(x, i * step), load_part(x, i * step + width, last)
        p, q, r = splat(get(slopes, i)), splat(get(slopes, line + i)), splat(get(slopes, 2 * line + i))
        a0, a1, a2 = fma(p, u, a0), fma(q, u, a1), fma(r, u, a2)
        b0, b1, b2 = fma(p, v, b0), fma(q, v, b1), fma(r, v, b2)
    store_vector(sums, 0, a0)
    store_vector(sums, m, a1)
    store_vector(sums, 2 * m, a2)
    store_part(t0, 0, b0, last)
    store_part(t1, 0, b1, last)
    store_part(t2, 0, b2, last)


@njit(**FAST)
def _accumulate_one(x, step, b, m, count, slopes, line, sums):
    a0, a1, a2 = load_part(sums, 0, count), load_part(sums, m, count), load_part(sums, 2 * m, count)
    for i in range(b):
        u = load_part(x, i * step, count)
        a0, a1 = fma(splat(get(slopes, i)), u, a0), fma(splat(get(slopes, line + i)), u, a1)
        a2 = fma(splat(get(slopes, 2 * line + i)), u, a2)
    store_part(sums, 0, a0, count)
    store_part(sums, m, a1, count)
    store_part(sums, 2 * m, a2, count)
