"""The driver of moments: mean and variance of the rows in one pass, as exact as two passes.

A stretch of at least 64 rows is summed up around a shift near its mean (the mean of the stretch before, or of the
first block), and joined with what came before by the formula of Chan, Golub & LeVeque (1983, The American
Statistician 37(3)). What the shift's distance costs in digits is part of the variance itself: two neighbouring
stretches whose means lie D apart add at least D^2 / 2 for each of their rows.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from gradkernels.engines.fused.codegen.options import FAST, ORDERED
from gradkernels.engines.fused.codegen.pointers import at, fill_zeros, get, put, put_wide
from gradkernels.engines.fused.drivers import columns, row_deviations
from gradkernels.engines.fused.drivers.sums import corrected_total
from gradkernels.engines.fused.drivers.workspace import (
    BY_ROWS,
    FLUSH,
    accumulate,
    block_slopes,
    lay_out,
    locate_block,
    workspace_size,
)


@njit(**FAST)
def _deviate(f, x, step, b, shift, sums, seconds):
    """Add the block's deviations from the shift, and their squares."""
    for k in range(f.classes):
        line, base = at(f.eta, k * f.block), k * (f.d + 1)
        center, first, second = get(shift, base), get(sums, base), get(seconds, base)
        for i in range(b):
            v = get(line, i) - center
            first += v
            second += v * v
        put(sums, base, first)
        put(seconds, base, second)
        base += 1
        if f.mode == BY_ROWS:
            row_deviations.accumulate(x, step, b, f.d, line, at(shift, base), at(sums, base), at(seconds, base))
        else:
            columns.accumulate_deviations(x, step, b, f.d, line, at(shift, base), at(sums, base), at(seconds, base))


@njit(**ORDERED)
def _finite(center, other):
    """Return a number to take differences from: those from infinity have lost its sign."""
    return center if abs(center) < math.inf else other


@njit(**ORDERED)
def _join(base, shift, sums, seconds, totals, m, before, count):
    """Join a stretch of `count` rows with the `before` rows; totals are sums around `base`, their errors, squares."""
    share = before / (before + count) * count
    for j in range(m):
        first, old = np.float64(get(sums, j)), get(totals, j)
        mean = (np.float64(get(shift, j)) - np.float64(get(base, j))) + first / count
        value = count * mean
        after = old + value
        added = after - old
        apart = mean - ((old + get(totals, m + j)) / before if before > 0 else 0.0)
        within = get(seconds, j) - first * first / count
        second = (0.0 if within < 0 else within) + apart * apart * share
        put(totals, 2 * m + j, get(totals, 2 * m + j) + second)
        put(totals, m + j, get(totals, m + j) + ((old - (after - added)) + (value - added)))
        put(totals, j, after)
        put(shift, j, _finite(np.float64(get(base, j)) + mean, get(base, j)))
        put(sums, j, 0)
        put(seconds, j, 0)


def moments_workspace(batch):
    """Return how many float64 numbers of memory `write_moments` takes."""
    return workspace_size(batch, 4, 3)


def write_moments(batch, totals):
    """Write three parts, float64: a base near the mean, sums around it, squares around the mean.

    Sums around a base keep the digits that differences of means need when the mean is large.
    """
    f = lay_out(batch, at(totals, 3 * (batch.d + 1) * batch.classes))
    shift, sums, seconds, base = f.spare, at(f.spare, f.m), at(f.spare, 2 * f.m), at(f.spare, 3 * f.m)
    fill_zeros(totals, 3 * f.m)
    fill_zeros(shift, 3 * f.m)
    done, pending = 0, 0
    for low in range(batch.start, batch.stop, f.block):
        b = min(f.block, batch.stop - low)
        block, step = locate_block(f, batch, low, b)
        block_slopes(f, batch, block, step, low, b)
        if low == batch.start:
            accumulate(f, block, step, b, shift)
            for j in range(f.m):
                put(shift, j, _finite(get(shift, j) / b, 0.0))
                put(base, j, get(shift, j))
        _deviate(f, block, step, b, shift, sums, seconds)
        pending += b
        if pending >= FLUSH or low + b == batch.stop:
            _join(base, shift, sums, seconds, totals, f.m, done, pending)
            done, pending = done + pending, 0
    _finish(f, batch, base, totals)


@njit(**ORDERED)
def _finish(f, batch, base, totals):
    first = 1 - f.intercept
    for k in range(f.classes):
        for j in range(first, f.d + 1):
            source = k * (f.d + 1) + j
            place = (j - first) * batch.step1 + k * batch.step2
            put_wide(batch.result, place, get(base, source))
            put_wide(batch.result, batch.step0 + place, corrected_total(totals, source, f.m))
            put_wide(batch.result, 2 * batch.step0 + place, get(totals, 2 * f.m + source))
