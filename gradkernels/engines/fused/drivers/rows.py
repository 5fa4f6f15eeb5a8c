"""Passes over a block of rows whose entries lie side by side; 4 to 8 KB of rows stay in the first-level cache.

Everywhere: `x` points to the block's first entry, rows are `step` elements apart, `b` rows of `d` entries.
"""

from __future__ import annotations

from numba import njit

from gradkernels.engines.fused.codegen.arithmetic import add, fma, sum_lanes
from gradkernels.engines.fused.codegen.options import FAST
from gradkernels.engines.fused.codegen.pointers import at, get, put
from gradkernels.engines.fused.codegen.simd import lanes, load_part, load_vector, splat, store_part, store_vector, zeros


@njit(**FAST)
def predict(x, step, b, d, weights, first, eta):
    """Write eta_i = first + x_i . weights; read memory in order, which the hardware foresees.

    Args:
        x: First entry of the block.
        step: Elements between rows.
        b: Rows.
        d: Entries of a row.
        weights: `(d,)`.
        first: The intercept.
        eta: Predictors, `(b,)`, written.
    """
    width = lanes(x)
    for i in range(b):
        row = at(x, i * step)
        a0, a1, a2, a3 = zeros(x), zeros(x), zeros(x), zeros(x)
        j = 0
        while j + 4 * width <= d:
            a0 = fma(load_vector(row, j), load_vector(weights, j), a0)
            a1 = fma(load_vector(row, j + width), load_vector(weights, j + width), a1)
            a2 = fma(load_vector(row, j + 2 * width), load_vector(weights, j + 2 * width), a2)
            a3 = fma(load_vector(row, j + 3 * width), load_vector(weights, j + 3 * width), a3)
            j += 4 * width
        while j + width <= d:
            a0, a1 = a1, fma(load_vector(row, j), load_vector(weights, j), a0)
            j += width
        if j < d:
            a2 = fma(load_part(row, j, d - j), load_part(weights, j, d - j), a2)
        put(eta, i, first + sum_lanes(add(add(a0, a1), add(a2, a3))))


@njit(**FAST)
def predict_squares(x, step, b, d, weights, first, eta, squares):
    """Write predictors as `predict` does, and add |x_i|^2 to squares_i from the same loads.

    Args:
        x: First entry of the block.
        step: Elements between rows.
        b: Rows.
        d: Entries of a row.
        weights: `(d,)`.
        first: The intercept.
        eta: Predictors, `(b,)`, written.
        squares: `(b,)`, added to.
    """
    width = lanes(x)
    for i in range(b):
        row = at(x, i * step)
        a0, a1, s0, s1 = zeros(x), zeros(x), zeros(x), zeros(x)
        j = 0
        while j + 2 * width <= d:
            u, v = load_vector(row, j), load_vector(row, j + width)
            a0, a1 = fma(u, load_vector(weights, j), a0), fma(v, load_vector(weights, j + width), a1)
            s0, s1 = fma(u, u, s0), fma(v, v, s1)
            j += 2 * width
        if j + width <= d:
            u = load_vector(row, j)
            a0, s0 = fma(u, load_vector(weights, j), a0), fma(u, u, s0)
            j += width
        if j < d:
            v = load_part(row, j, d - j)
            a1, s1 = fma(v, load_part(weights, j, d - j), a1), fma(v, v, s1)
        put(eta, i, first + sum_lanes(add(a0, a1)))
        put(squares, i, get(squares, i) + sum_lanes(add(s0, s1)))


@njit(**FAST)
def accumulate(x, step, b, d, slopes, sums):
    """Add the sum over i of slope_i x_ij to sums_j.

    Args:
        x: First entry of the block.
        step: Elements between rows.
        b: Rows.
        d: Entries of a row.
        slopes: `(b,)`.
        sums: `(d,)`, added to.
    """
    width = lanes(x)
    j = 0
    while j + 3 * width < d:
        _accumulate_four(at(x, j), step, b, min(d - j - 3 * width, width), slopes, at(sums, j))
        j += 4 * width
    while j < d:
        _accumulate_one(at(x, j), step, b, min(d - j, width), slopes, at(sums, j))
        j += width


@njit(**FAST)
def _accumulate_four(x, step, b, last, slopes, sums):
    """Add up four vectors of columns, the last of them in part; even and odd rows apart, which shortens the sums."""
    width = lanes(x)
    a0, a1, a2, a3 = (
        load_vector(sums, 0),
        load_vector(sums, width),
        load_vector(sums, 2 * width),
        load_part(sums, 3 * width, last),
    )
    b0, b1, b2, b3 = zeros(x), zeros(x), zeros(x), zeros(x)
    for i in range(0, b - 1, 2):
        p, q = at(x, i * step), at(x, i * step + step)
        s, t = splat(get(slopes, i)), splat(get(slopes, i + 1))
        a0, a1 = fma(s, load_vector(p, 0), a0), fma(s, load_vector(p, width), a1)
        a2, a3 = fma(s, load_vector(p, 2 * width), a2), fma(s, load_part(p, 3 * width, last), a3)
        b0, b1 = fma(t, load_vector(q, 0), b0), fma(t, load_vector(q, width), b1)
        b2, b3 = fma(t, load_vector(q, 2 * width), b2), fma(t, load_part(q, 3 * width, last), b3)
    if b % 2:
        p, s = at(x, (b - 1) * step), splat(get(slopes, b - 1))
        a0, a1 = fma(s, load_vector(p, 0), a0), fma(s, load_vector(p, width), a1)
        a2, a3 = fma(s, load_vector(p, 2 * width), a2), fma(s, load_part(p, 3 * width, last), a3)
    store_vector(sums, 0, add(a0, b0))
    store_vector(sums, width, add(a1, b1))
    store_vector(sums, 2 * width, add(a2, b2))
    store_part(sums, 3 * width, add(a3, b3), last)


@njit(**FAST)
def _accumulate_one(x, step, b, count, slopes, sums):
    a, c = load_part(sums, 0, count), zeros(x)
    for i in range(0, b - 1, 2):
        a = fma(splat(get(slopes, i)), load_part(x, i * step, count), a)
        c = fma(splat(get(slopes, i + 1)), load_part(x, i * step + step, count), c)
    if b % 2:
        a = fma(splat(get(slopes, b - 1)), load_part(x, (b - 1) * step, count), a)
    store_part(sums, 0, add(a, c), count)


@njit(**FAST)
def add_squared_norms(x, step, b, d, slopes, penalty, sums):
    """Add the sum over j of (slope_i x_ij + penalty_j)^2 to sums_i.

    Args:
        x: First entry of the block.
        step: Elements between rows.
        b: Rows.
        d: Entries of a row.
        slopes: `(b,)`.
        penalty: Gradient of the penalty, `(d,)`.
        sums: `(b,)`, added to.
    """
    width = lanes(x)
    for i in range(b):
        row, s = at(x, i * step), splat(get(slopes, i))
        a0, a1 = zeros(x), zeros(x)
        j = 0
        while j + 2 * width <= d:
            g = fma(s, load_vector(row, j), load_vector(penalty, j))
            h = fma(s, load_vector(row, j + width), load_vector(penalty, j + width))
            a0, a1 = fma(g, g, a0), fma(h, h, a1)
            j += 2 * width
        while j < d:
            count = min(d - j, width)
            g = fma(s, load_part(row, j, count), load_part(penalty, j, count))
            a0, a1 = a1, fma(g, g, a0)
            j += width
        put(sums, i, get(sums, i) + sum_lanes(add(a0, a1)))


@njit(**FAST)
def write(x, step, b, d, slopes, penalty, out, out_step):
    """Write out_ij = slope_i x_ij + penalty_j.

    Args:
        x: First entry of the block.
        step: Elements between rows.
        b: Rows.
        d: Entries of a row.
        slopes: `(b,)`.
        penalty: Gradient of the penalty, `(d,)`.
        out: First entry of the result.
        out_step: Elements between its rows.
    """
    width = lanes(x)
    for i in range(b):
        row, target, s = at(x, i * step), at(out, i * out_step), splat(get(slopes, i))
        j = 0
        while j + width <= d:
            store_vector(target, j, fma(s, load_vector(row, j), load_vector(penalty, j)))
            j += width
        if j < d:
            part = fma(s, load_part(row, j, d - j), load_part(penalty, j, d - j))
            store_part(target, j, part, d - j)
