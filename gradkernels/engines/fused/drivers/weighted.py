"""The drivers that take vectors: sums of the rows by several weightings, inner products with several directions.

All weightings, or directions, go through a block of rows together, as the classes of a softmax do.
"""

from __future__ import annotations

from numba import njit

from gradkernels.engines.fused.codegen.options import FAST, ORDERED
from gradkernels.engines.fused.codegen.pointers import at, fill_zeros, get, pointer_at, put, put_wide
from gradkernels.engines.fused.codegen.simd import BYTES, lanes
from gradkernels.engines.fused.drivers.sums import corrected_total, flush_sums
from gradkernels.engines.fused.drivers.workspace import (
    FLUSH,
    Workspace,
    accumulate,
    block_rows,
    block_slopes,
    lay_out,
    locate_block,
    predict_block,
    workspace_size,
)


@njit(**ORDERED)
def _repeated(f, count, weights, first, eta):
    """Return a Workspace with `count` times the classes: their weights, intercepts, and memory for a line of each."""
    classes, m = f.classes * count, f.m * count
    return Workspace(
        f.mode, f.block, f.d, classes, f.intercept, m, weights, f.penalty, first, eta, f.y, f.copy, f.spare
    )


@njit(**FAST)
def _weigh(f, b, weights, count, lines):
    """Write the slopes of a block times each weighting, a line for each class of each; weights are `(b, count)`."""
    for k in range(count):
        for c in range(f.classes):
            line, own = at(f.eta, c * f.block), at(lines, (k * f.classes + c) * f.block)
            for i in range(b):
                put(own, i, get(line, i) * get(weights, i * count + k))


@njit(**FAST)
def _keep(b, weights, count, kept):
    """Add up each weighting's weights of a block."""
    for k in range(count):
        total = 0.0
        for i in range(b):
            total += get(weights, i * count + k)
        put(kept, k, get(kept, k) + total)


def weighted_workspace(batch):
    """Return how many float64 numbers of memory `write_weighted_sums` takes."""
    lines = batch.count * batch.classes
    numbers, wide = lines * (block_rows(batch) + batch.d + 1), lines * 2 * (batch.d + 1) + batch.count
    return workspace_size(batch, 0, 0) + wide + numbers * BYTES // lanes(batch.x) // 8


def write_weighted_sums(batch, memory):
    """Write `count` sums of the rows, each by weights of its own; `more` has the weights, `(n, count)`.

    The result is `(count, entries, classes)`, float64.
    """
    count = batch.count
    m = (batch.d + 1) * batch.classes
    kept, totals = memory, at(memory, count)
    fill_zeros(kept, count * (2 * m + 1))
    f = lay_out(batch, at(totals, 2 * m * count))
    sums, weights, pending = f.spare, pointer_at(batch.more, batch.x), 0
    fill_zeros(sums, m * count)
    every = _repeated(f, count, f.weights, f.first, at(sums, m * count))
    for low in range(batch.start, batch.stop, f.block):
        b = min(f.block, batch.stop - low)
        block, step = locate_block(f, batch, low, b)
        block_slopes(f, batch, block, step, low, b)
        own = at(weights, low * count)
        _weigh(f, b, own, count, every.eta)
        _keep(b, own, count, kept)
        accumulate(every, block, step, b, sums)
        pending += b
        if pending >= FLUSH or low + b == batch.stop:
            flush_sums(sums, totals, m * count)
            pending = 0
    _finish(f, batch, count, kept, totals)


@njit(**ORDERED)
def _finish(f, batch, count, kept, totals):
    first = 1 - f.intercept
    for k in range(count):
        for c in range(f.classes):
            for j in range(first, f.d + 1):
                value = corrected_total(totals, (k * f.classes + c) * (f.d + 1) + j, f.m * count)
                if batch.l2 != 0 and j > 0:
                    value += get(kept, k) * batch.l2 * get(f.weights, c * f.d + j - 1)
                put_wide(batch.result, k * batch.step0 + (j - first) * batch.step1 + c * batch.step2, value)


def inner_workspace(batch):
    """Return how many float64 numbers of memory `write_inner` takes."""
    numbers = batch.count * batch.classes * block_rows(batch)
    return workspace_size(batch, 0, 0) + numbers * BYTES // lanes(batch.x) // 8


def write_inner(batch, memory):
    """Write the inner products of the rows with `count` directions, `(n, count)`.

    `more` has the directions, `(count, classes, d)`, then their intercepts, `(count, classes)`, then what the penalty
    adds to each, `(count,)`.
    """
    f, count = lay_out(batch, memory), batch.count
    directions = pointer_at(batch.more, batch.x)
    first = at(directions, count * f.classes * f.d)
    every = _repeated(f, count, directions, first, f.spare)
    for low in range(batch.start, batch.stop, f.block):
        b = min(f.block, batch.stop - low)
        block, step = locate_block(f, batch, low, b)
        block_slopes(f, batch, block, step, low, b)
        predict_block(every, block, step, b, 0)
        _write_products(f, batch, low, b, every.eta, at(first, count * f.classes))


@njit(**FAST)
def _write_products(f, batch, low, b, lines, added):
    """Write a block's products: slopes times what directions make of the features, summed over classes."""
    for k in range(batch.count):
        target, line = at(batch.result, low * batch.step0 + k * batch.step1), at(lines, k * f.classes * f.block)
        for i in range(b):
            total = get(added, k)
            for c in range(f.classes):
                total += get(f.eta, c * f.block + i) * get(line, c * f.block + i)
            put(target, i * batch.step0, total)
