"""The drivers that add rows up: gradient and clipped sum, which compiles three times as much."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from gradkernels.engines.fused.codegen.options import FAST, INLINE, ORDERED
from gradkernels.engines.fused.codegen.pointers import at, fill_zeros, get, put, put_wide
from gradkernels.engines.fused.drivers.norms import block_norms
from gradkernels.engines.fused.drivers.workspace import (
    FLUSH,
    MEAN,
    RESULT_FLOAT64,
    accumulate,
    block_slopes,
    lay_out,
    locate_block,
    workspace_size,
)


@njit(**ORDERED)
def flush_sums(sums, totals, m):
    """Move sums to float64 totals and their rounding errors (Knuth's TwoSum), and begin anew.

    Args:
        sums: `(m,)`, set to zero.
        totals: `(2 m,)`, float64: totals and their errors.
        m: Numbers in a sum.
    """
    errors = at(totals, m)
    for j in range(m):
        value, before = np.float64(get(sums, j)), get(totals, j)
        after = before + value
        added = after - before
        put(errors, j, get(errors, j) + ((before - (after - added)) + (value - added)))
        put(totals, j, after)
        put(sums, j, 0)


@njit(**ORDERED)
def corrected_total(totals, j, m):
    """Return a total with its rounding errors; these are NaN where the total is infinite.

    Args:
        totals: `(2 m,)`, float64: totals and their errors.
        j: Which one.
        m: Numbers in a sum.
    """
    value = get(totals, j)
    return value + get(totals, m + j) if math.isfinite(value) else value


@njit(**FAST)
def _clip(f, batch, b, norms):
    """Shorten the block's slopes so that no row is longer than `max_norm`; return the sum of the factors."""
    kept = 0.0
    for i in range(b):
        ratio = get(norms, i) / batch.max_norm
        factor = 1 if ratio <= 1 else 1 / ratio
        kept += factor
        put(norms, i, factor)
    for k in range(f.classes):
        for i in range(b):
            put(f.eta, k * f.block + i, get(f.eta, k * f.block + i) * get(norms, i))
    return kept


def sums_workspace(batch):
    """Return how many float64 numbers of memory `write_sums` takes."""
    return workspace_size(batch, 1, 2)


def write_sums(batch, totals):
    """Write the sum of the rows, or their mean."""
    f = _begin(batch, totals)
    pending = 0
    for low in range(batch.start, batch.stop, f.block):
        b = min(f.block, batch.stop - low)
        block, step = locate_block(f, batch, low, b)
        block_slopes(f, batch, block, step, low, b)
        pending = _add(f, block, step, b, totals, pending, low + b == batch.stop)
    _finish(f, batch, totals, batch.stop - batch.start)


def clipped_workspace(batch):
    """Return how many float64 numbers of memory `write_clipped_sum` takes."""
    return workspace_size(batch, 2, 2)


def write_clipped_sum(batch, totals):
    """Write the sum of the rows, each clipped to `max_norm`."""
    f = _begin(batch, totals)
    norms, kept, pending = at(f.spare, f.m), 0.0, 0
    for low in range(batch.start, batch.stop, f.block):
        b = min(f.block, batch.stop - low)
        block, step = locate_block(f, batch, low, b)
        block_norms(f, batch, block, step, low, b, norms)
        kept += _clip(f, batch, b, norms)
        pending = _add(f, block, step, b, totals, pending, low + b == batch.stop)
    _finish(f, batch, totals, kept)


@njit(**ORDERED)
def _begin(batch, totals):
    """Return the Workspace, with sums that are zero in its spare memory."""
    f = lay_out(batch, at(totals, 2 * (batch.d + 1) * batch.classes))
    fill_zeros(totals, 2 * f.m)
    fill_zeros(f.spare, f.m)
    return f


@njit(**INLINE)
def _add(f, block, step, b, totals, pending, last):
    """Add a block of rows to the sums; return how many rows they hold that are not in the totals yet.

    Args:
        f: The workspace.
        block: First entry of the block.
        step: Elements between its rows or columns.
        b: Rows.
        totals: `(2 m,)`, float64: totals and their errors.
        pending: Rows that the sums hold.
        last: Whether no block follows.
    """
    accumulate(f, block, step, b, f.spare)
    if pending + b < FLUSH and not last:
        return pending + b
    flush_sums(f.spare, totals, f.m)
    return 0


@njit(**ORDERED)
def _finish(f, batch, totals, kept):
    first = 1 - f.intercept
    count = batch.stop - batch.start if batch.flags & MEAN else 1
    for k in range(f.classes):
        for j in range(first, f.d + 1):
            value = corrected_total(totals, k * (f.d + 1) + j, f.m)
            if batch.l2 != 0 and j > 0:
                value += kept * batch.l2 * get(f.weights, k * f.d + j - 1)
            place = (j - first) * batch.step0 + k * batch.step1
            if batch.flags & RESULT_FLOAT64:
                put_wide(batch.result, place, value / count)
            else:
                put(batch.result, place, value / count)
