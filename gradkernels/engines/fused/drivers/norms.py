"""Norms of rows: |slope| sqrt(1 + |x|^2), or with a penalty the root of the sum of squares."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from gradkernels.engines.fused.codegen.options import FAST, ORDERED
from gradkernels.engines.fused.codegen.pointers import at, get, put
from gradkernels.engines.fused.codegen.simd import lanes
from gradkernels.engines.fused.drivers import columns, rows
from gradkernels.engines.fused.drivers.workspace import (
    BY_ROWS,
    block_slopes,
    block_slopes_and_squares,
    lay_out,
    locate_block,
    workspace_size,
)


@njit(**FAST)
def block_norms(f, batch, x, step, low, b, norms):
    """Compute the slopes of a block and the norms of its rows; overwrite `f.y`, which is no longer needed then.

    Args:
        f: The workspace.
        batch: The batch.
        x: First entry of the block.
        step: Elements between its rows or columns.
        low: The block's first row.
        b: Rows.
        norms: `(b,)`, written.
    """
    line = f.y
    if batch.l2 == 0:
        block_slopes_and_squares(f, batch, x, step, low, b, norms)
        _sizes(f, b, line)
    else:
        block_slopes(f, batch, x, step, low, b)
        _penalised(f, x, step, b, line, norms)
    if _scaled_roots(b, line, norms, f.classes > 1 and batch.l2 == 0):
        for i in range(b):
            if get(line, i) < 0:
                put(norms, i, _careful(f, batch, low + i, i))


@njit(**FAST)
def _penalised(f, x, step, b, line, norms):
    """Write the squares of the rows' norms, and a line of ones."""
    _sizes(f, b, line)
    for i in range(b):
        put(norms, i, f.intercept * (get(line, i) * get(line, i)))
        put(line, i, 1)
    for k in range(f.classes):
        eta, penalty = at(f.eta, k * f.block), at(f.penalty, k * f.d)
        if f.mode == BY_ROWS:
            rows.add_squared_norms(x, step, b, f.d, eta, penalty, norms)
        else:
            columns.add_squared_norms(x, step, b, f.d, eta, penalty, norms)


@njit(**FAST)
def _sizes(f, b, line):
    """Write the Euclidean norm of each row's slopes."""
    if f.classes == 1:
        for i in range(b):
            put(line, i, abs(get(f.eta, i)))
        return
    for i in range(b):
        put(line, i, 0)
    for k in range(f.classes):
        eta = at(f.eta, k * f.block)
        for i in range(b):
            put(line, i, get(line, i) + get(eta, i) * get(eta, i))
    for i in range(b):
        put(line, i, math.sqrt(get(line, i)))


@njit(**FAST)
def _scaled_roots(b, line, norms, rooted):
    """Turn squares to norms, times `line`; count those that are zero, tiny, huge or NaN, whose `line` becomes -1.

    Squares are also those that `line` is the roots of, if it is `rooted`.
    """
    least, most = (1e-30, 1e37) if lanes(line) == 16 else (1e-290, 1e300)
    odd = 0
    for i in range(b):
        size, square = get(line, i), get(norms, i)
        put(norms, i, size * math.sqrt(square))
        fine = (square > least) & (square < most)
        if rooted:
            fine &= (size * size > least) & (size * size < most)
        put(line, i, size if fine else -1)
        odd += 1 - fine
    return odd


@njit(**ORDERED)
def _careful(f, batch, row, i):
    """Return a row's norm with its largest entry as the unit, in float64."""
    unit = 0.0
    for k in range(f.classes):
        for j in range(1 - f.intercept, f.d + 1):
            size = abs(_entry(f, batch, row, i, j, k))
            if size > unit:
                unit = size
    if unit == 0 or unit == math.inf:
        unit = 1.0
    total = 0.0
    for k in range(f.classes):
        for j in range(1 - f.intercept, f.d + 1):
            part = _entry(f, batch, row, i, j, k) / unit
            total += part * part
    return unit * math.sqrt(total)


@njit(**ORDERED)
def _entry(f, batch, row, i, j, k):
    """Return entry j of a row's gradient for class k, the intercept's first; float64."""
    s = np.float64(get(f.eta, k * f.block + i))
    if j == 0:
        return s
    x = get(batch.x, row * batch.row + (j - 1) * batch.column)
    return s * np.float64(x) + np.float64(get(f.penalty, k * f.d + j - 1))


def norms_workspace(batch):
    """Return how many float64 numbers of memory `write_norms` takes."""
    return workspace_size(batch, 1, 0)


def write_norms(batch, memory):
    """Write the norms of the rows to the result."""
    f = lay_out(batch, memory)
    for low in range(batch.start, batch.stop, f.block):
        b = min(f.block, batch.stop - low)
        block, step = locate_block(f, batch, low, b)
        block_norms(f, batch, block, step, low, b, f.spare)
        for i in range(b):
            put(batch.result, (low + i) * batch.step0, get(f.spare, i))
