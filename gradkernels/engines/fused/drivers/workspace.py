"""How a batch is walked through: blocks of rows that stay in the cache, however x lies in memory."""

from __future__ import annotations

from collections import namedtuple

from numba import njit

from gradkernels.engines.fused.codegen.options import INLINE, ORDERED
from gradkernels.engines.fused.codegen.pointers import at, call_address, cast_pointer, get, get_narrow, get_whole, put
from gradkernels.engines.fused.codegen.simd import BYTES, lanes
from gradkernels.engines.fused.drivers import columns, rows, three_classes

BY_ROWS, BY_COLUMNS, BY_COPY = 0, 1, 2
INTERCEPT, MEAN, WEIGHTED, TARGETS_INT64, RESULT_FLOAT64, TARGETS_INT32 = 1, 2, 4, 8, 16, 32
"""Flags of a call: theta has one; divide by n; y has weights; y is int64; the result is always float64; y is int32."""
ROW_BLOCK, BLOCK_ROWS, COPY_BLOCK = 8192, 256, 2**18  # bytes of rows, rows of columns, bytes of what is copied
FLUSH = 64  # rows after which sums move to float64

BatchPointers = namedtuple(
    "BatchPointers",
    "theta x y w result theta_row theta_column classes row column d y_step w_step step0 step1 step2 "
    "function flags l2 max_norm start stop more count",
)
"""What a driver gets: addresses, steps in elements, sizes; the slope's address, flags, constants, rows to do; and for
what else it takes an address, in bytes, and a number."""

Workspace = namedtuple("Workspace", "mode block d classes intercept m weights penalty first eta y copy spare")
"""What stays the same over all blocks.

The order to walk in, rows of a block, sizes with m = (d + 1) classes; then pointers: theta without its intercepts and
the penalty's gradient (both class after class), the intercepts; memory for a block's predictors (a line for each class,
and two more), targets and entries; and what is left for the driver itself.
"""


@njit(**ORDERED)
def _mode(row, column, d):
    """Return the order to walk in; short rows are copied, since a vector holds more than one of them."""
    if row == 1 or d == 0:
        return BY_COLUMNS
    return BY_ROWS if column == 1 and d >= 6 else BY_COPY


@njit(**ORDERED)
def _block(mode, d, itemsize, n):
    block = BLOCK_ROWS
    if mode == BY_ROWS:
        block = max(8, min(BLOCK_ROWS, (ROW_BLOCK // (itemsize * d) + 7) // 8 * 8))
    if mode == BY_COPY:
        block = max(8, min(BLOCK_ROWS, COPY_BLOCK // (itemsize * d)))
    return min(block, max(n, 1))


@njit(**ORDERED)
def block_rows(batch):
    """Return the rows of a block."""
    mode = _mode(batch.row, batch.column, batch.d)
    return _block(mode, batch.d, BYTES // lanes(batch.x), batch.stop - batch.start)


@njit(**ORDERED)
def workspace_size(batch, lines, wide):
    """Return how many float64 numbers hold a Workspace, what the driver adds to it, and `wide` m of float64.

    Args:
        batch: The batch.
        lines: Numbers for each row of a block that the driver adds, and lines of m numbers.
        wide: Lines of m float64 numbers.
    """
    size, mode, block = BYTES // lanes(batch.x), _mode(batch.row, batch.column, batch.d), block_rows(batch)
    m = (batch.d + 1) * batch.classes
    copied = batch.d if mode == BY_COPY else 0
    entries = 3 * m + (batch.classes + 3 + copied + lines) * block + lines * m
    return wide * m + entries * size // 8 + 1


@njit(**ORDERED)
def lay_out(batch, memory):
    """Return the Workspace of a call, in `memory`."""
    d, count, intercept = batch.d, batch.classes, batch.flags & INTERCEPT
    mode, block = _mode(batch.row, batch.column, d), block_rows(batch)
    weights = cast_pointer(memory, batch.x)
    penalty, first = at(weights, d * count), at(weights, 2 * d * count)
    eta = at(first, count)
    y = at(eta, (count + 2) * block)
    copy = at(y, block)
    spare = at(copy, d * block if mode == BY_COPY else 0)
    f = Workspace(mode, block, d, count, intercept, (d + 1) * count, weights, penalty, first, eta, y, copy, spare)
    _split(f, batch)
    return f


@njit(**ORDERED)
def _split(f, batch):
    for k in range(f.classes):
        column = at(batch.theta, k * batch.theta_column)
        put(f.first, k, get(column, 0) if f.intercept else 0)
        column = at(column, f.intercept * batch.theta_row)
        for j in range(f.d):
            weight = get(column, j * batch.theta_row)
            put(f.weights, k * f.d + j, weight)
            put(f.penalty, k * f.d + j, batch.l2 * weight if batch.l2 != 0 else 0)


@njit(**INLINE)
def locate_block(f, batch, low, b):
    """Return the pointer to a block of rows, and the elements between its rows (ROWS) or its columns.

    Args:
        f: The workspace.
        batch: The batch.
        low: First row.
        b: Rows.
    """
    base = at(batch.x, low * batch.row)
    if f.mode == BY_ROWS:
        return base, batch.row
    if f.mode == BY_COLUMNS:
        return base, batch.column
    for j in range(f.d):
        for i in range(b):
            put(f.copy, j * f.block + i, get(base, i * batch.row + j * batch.column))
    return f.copy, f.block


@njit(**INLINE)
def block_slopes(f, batch, x, step, low, b):
    """Write the slopes of a block, a line of `f.eta` for each class, times the weights.

    Args:
        f: The workspace.
        batch: The batch.
        x: First entry of the block.
        step: Elements between its rows or columns.
        low: The block's first row.
        b: Rows.
    """
    predict_block(f, x, step, b, 0)
    _slopes(f, batch, low, b)


@njit(**INLINE)
def block_slopes_and_squares(f, batch, x, step, low, b, squares):
    """Write the slopes of a block, and squares_i = 1 + |x_i|^2, or |x_i|^2 where there is no intercept.

    Args:
        f: The workspace.
        batch: The batch.
        x: First entry of the block.
        step: Elements between its rows or columns.
        low: The block's first row.
        b: Rows.
        squares: `(b,)`, written.
    """
    for i in range(b):
        put(squares, i, f.intercept)
    if f.mode == BY_ROWS:
        rows.predict_squares(x, step, b, f.d, f.weights, get(f.first, 0), f.eta, squares)
    else:
        columns.predict_squares(x, step, b, f.d, f.weights, get(f.first, 0), f.eta, squares)
    predict_block(f, x, step, b, 1)
    _slopes(f, batch, low, b)


@njit(**INLINE)
def predict_block(f, x, step, b, k):
    """Write the predictors of the classes from k on.

    Args:
        f: The workspace, of whose weights they are.
        x: First entry of the block.
        step: Elements between its rows or columns.
        b: Rows.
        k: First class.
    """
    while f.mode == BY_ROWS and k + 3 <= f.classes:
        weights, line = at(f.weights, k * f.d), at(f.eta, k * f.block)
        three_classes.predict(x, step, b, f.d, weights, at(f.first, k), line, f.block)
        k += 3
    while k < f.classes:
        weights, line = at(f.weights, k * f.d), at(f.eta, k * f.block)
        if f.mode == BY_ROWS:
            rows.predict(x, step, b, f.d, weights, get(f.first, k), line)
        else:
            columns.predict(x, step, b, f.d, weights, get(f.first, k), line)
        k += 1


@njit(**INLINE)
def _slopes(f, batch, low, b):
    call_address(batch.function, (f.eta, _targets(f, batch, low, b), b, f.classes, f.block))
    if batch.flags & WEIGHTED:
        for k in range(f.classes):
            for i in range(b):
                slope = get(f.eta, k * f.block + i)
                put(f.eta, k * f.block + i, slope * get(batch.w, (low + i) * batch.w_step))


@njit(**INLINE)
def _targets(f, batch, low, b):
    """Return the pointer to the block's targets, side by side and as floats."""
    if batch.flags & TARGETS_INT64:
        for i in range(b):
            put(f.y, i, get_whole(batch.y, (low + i) * batch.y_step))
        return f.y
    if batch.flags & TARGETS_INT32:
        for i in range(b):
            put(f.y, i, get_narrow(batch.y, (low + i) * batch.y_step))
        return f.y
    if batch.y_step == 1:
        return at(batch.y, low)
    for i in range(b):
        put(f.y, i, get(batch.y, (low + i) * batch.y_step))
    return f.y


@njit(**INLINE)
def accumulate(f, x, step, b, sums):
    """Add the block's rows to `sums`, d + 1 entries for each class, the intercept's first.

    Args:
        f: The workspace, with the block's slopes.
        x: First entry of the block.
        step: Elements between its rows or columns.
        b: Rows.
        sums: `(m,)`, added to.
    """
    for k in range(f.classes):
        line, target = at(f.eta, k * f.block), at(sums, k * (f.d + 1))
        s = get(target, 0)
        for i in range(b):
            s += get(line, i)
        put(target, 0, s)
    k = 0
    while f.mode == BY_ROWS and k + 3 <= f.classes:
        three_classes.accumulate(x, step, b, f.d, at(f.eta, k * f.block), f.block, at(sums, k * (f.d + 1) + 1))
        k += 3
    while k < f.classes:
        line, target = at(f.eta, k * f.block), at(sums, k * (f.d + 1) + 1)
        if f.mode == BY_ROWS:
            rows.accumulate(x, step, b, f.d, line, target)
        else:
            columns.accumulate(x, step, b, f.d, line, target)
        k += 1
