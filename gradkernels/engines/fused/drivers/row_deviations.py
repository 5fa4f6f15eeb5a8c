"""Deviations of rows whose entries lie side by side from a shift, and their squares; after `rows`."""

from __future__ import annotations

from numba import njit

from gradkernels.engines.fused.codegen.arithmetic import add, fma, mul, sub
from gradkernels.engines.fused.codegen.options import FAST
from gradkernels.engines.fused.codegen.pointers import at, get
from gradkernels.engines.fused.codegen.simd import lanes, load_part, load_vector, splat, store_part, store_vector


@njit(**FAST)
def accumulate(x, step, b, d, slopes, shift, sums, seconds):
    """Add the sums of v and of v^2 to sums_j and seconds_j, for v = slope_i x_ij - shift_j.

    Args:
        x: First entry of the block.
        step: Elements between rows.
        b: Rows.
        d: Entries of a row.
        slopes: `(b,)`.
        shift: `(d,)`.
        sums: `(d,)`, added to.
        seconds: `(d,)`, added to.
    """
    width = lanes(x)
    j = 0
    while j < d:
        if j + width < d:
            count = min(d - j - width, width)
            _deviate_two(at(x, j), step, b, count, slopes, at(shift, j), at(sums, j), at(seconds, j))
            j += 2 * width
        else:
            _deviate_one(at(x, j), step, b, d - j, slopes, at(shift, j), at(sums, j), at(seconds, j))
            j += width


@njit(**FAST)
def _deviate_two(x, step, b, last, slopes, shift, sums, seconds):
    width = lanes(x)
    shift0, shift1 = load_vector(shift, 0), load_part(shift, width, last)
    sum0, sum1 = load_vector(sums, 0), load_part(sums, width, last)
    second0, second1 = load_vector(seconds, 0), load_part(seconds, width, last)
    for i in range(b):
        s = splat(get(slopes, i))
        v = sub(mul(s, load_vector(x, i * step)), shift0)
        u = sub(mul(s, load_part(x, i * step + width, last)), shift1)
        sum0, sum1 = add(sum0, v), add(sum1, u)
        second0, second1 = fma(v, v, second0), fma(u, u, second1)
    store_vector(sums, 0, sum0)
    store_vector(seconds, 0, second0)
    store_part(sums, width, sum1, last)
    store_part(seconds, width, second1, last)


@njit(**FAST)
def _deviate_one(x, step, b, count, slopes, shift, sums, seconds):
    center, first, second = load_part(shift, 0, count), load_part(sums, 0, count), load_part(seconds, 0, count)
    for i in range(b):
        v = sub(mul(splat(get(slopes, i)), load_part(x, i * step, count)), center)
        first, second = add(first, v), fma(v, v, second)
    store_part(sums, 0, first, count)
    store_part(seconds, 0, second, count)
