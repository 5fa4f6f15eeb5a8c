"""The drivers that form a few rows at a time, in cache: sums of their outer products, sums of them by group."""

from __future__ import annotations

from numba import njit

from gradkernels.engines.fused.codegen.arithmetic import fma
from gradkernels.engines.fused.codegen.options import FAST, ORDERED
from gradkernels.engines.fused.codegen.pointers import (
    at,
    cast_pointer,
    fill_zeros,
    get,
    put_wide,
    whole_at,
)
from gradkernels.engines.fused.codegen.simd import BYTES, add_wide, lanes, load_vector, splat, zeros
from gradkernels.engines.fused.drivers.per_sample import write_block
from gradkernels.engines.fused.drivers.workspace import (
    FLUSH,
    INTERCEPT,
    block_rows,
    block_slopes,
    lay_out,
    locate_block,
    workspace_size,
)

TILE_ROWS = 4
"""Rows of a tile of the sum of outer products, one vector wide: two would be more than the registers of AVX2 hold."""


@njit(**ORDERED)
def _width(batch):
    """Return the entries of a row."""
    return (batch.d + (batch.flags & INTERCEPT)) * batch.classes


@njit(**ORDERED)
def _padded(batch):
    """Return the entries of a row with zeros behind them, whole vectors."""
    return -(-_width(batch) // lanes(batch.x)) * lanes(batch.x)


def outer_workspace(batch):
    """Return how many float64 numbers of memory `write_outer` takes."""
    step = _padded(batch)
    rows = (block_rows(batch) + FLUSH) * step
    return step * step + workspace_size(batch, 0, 0) + rows * BYTES // lanes(batch.x) // 8


def write_outer(batch, totals):
    """Write the sum of the rows' outer products, `(1, P, P)`, float64."""
    step, pending = _padded(batch), 0
    f = lay_out(batch, at(totals, step * step))
    fill_zeros(totals, step * step)
    fill_zeros(f.spare, (f.block + FLUSH) * step)
    for low in range(batch.start, batch.stop, f.block):
        b = min(f.block, batch.stop - low)
        block, block_step = locate_block(f, batch, low, b)
        block_slopes(f, batch, block, block_step, low, b)
        write_block(f, block, block_step, b, at(f.spare, pending * step), step)
        pending += b
        if pending >= FLUSH or low + b == batch.stop:
            _add_products(f.spare, pending, _width(batch), step, totals)
            pending = 0
    for j in range(_width(batch)):
        for k in range(_width(batch)):
            put_wide(batch.result, j * batch.step1 + k * batch.step2, get(totals, min(j, k) * step + max(j, k)))


@njit(**FAST)
def _add_products(rows, b, width, step, totals):
    """Add the outer products of b rows to `(step, step)` totals, float64: the upper triangle, in tiles.

    Args:
        rows: `(b, step)`, zeros behind the entries.
        b: Rows.
        width: Entries of a row.
        step: Entries with the zeros, whole vectors.
        totals: Added to.
    """
    lane = lanes(rows)
    for column in range(0, step, lane):
        for row in range(0, min(width, column + lane), TILE_ROWS):
            _add_tile(rows, b, step, row, column, at(totals, row * step + column))


@njit(**FAST)
def _add_tile(rows, b, step, row, column, totals):
    """Add up TILE_ROWS entries times one vector."""
    left, right = at(rows, row), at(rows, column)
    a0, a1, a2, a3 = zeros(rows), zeros(rows), zeros(rows), zeros(rows)
    for i in range(b):
        u, p = load_vector(right, i * step), at(left, i * step)
        a0, a1 = fma(splat(get(p, 0)), u, a0), fma(splat(get(p, 1)), u, a1)
        a2, a3 = fma(splat(get(p, 2)), u, a2), fma(splat(get(p, 3)), u, a3)
    _add_lines(totals, step, a0, a1, a2, a3)


@njit(**FAST)
def _add_lines(totals, step, a0, a1, a2, a3):
    """Add vectors to four lines of totals, float64."""
    add_wide(totals, 0, a0)
    add_wide(totals, step, a1)
    add_wide(totals, 2 * step, a2)
    add_wide(totals, 3 * step, a3)


def group_sums_workspace(batch):
    """Return how many float64 numbers of memory `write_group_sums` takes."""
    rows = block_rows(batch) * _padded(batch)
    return workspace_size(batch, 0, 0) + rows * BYTES // lanes(batch.x) // 8


def write_group_sums(batch, memory):
    """Add the rows to the sums of their groups; `more` has each sample's group, int64.

    The result is `(1, groups, padded)`, float64, zeros at first: lines as long as the rows with zeros behind them.
    """
    step = _padded(batch)
    f, sums = lay_out(batch, memory), cast_pointer(batch.result, memory)
    fill_zeros(f.spare, f.block * step)
    for low in range(batch.start, batch.stop, f.block):
        b = min(f.block, batch.stop - low)
        block, block_step = locate_block(f, batch, low, b)
        block_slopes(f, batch, block, block_step, low, b)
        write_block(f, block, block_step, b, f.spare, step)
        for i in range(b):
            _add_row(at(sums, whole_at(batch.more, low + i) * batch.step1), at(f.spare, i * step), step)


@njit(**FAST)
def _add_row(sums, row, step):
    j, lane = 0, lanes(row)
    while j < step:
        add_wide(sums, j, load_vector(row, j))
        j += lane
