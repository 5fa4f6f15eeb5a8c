"""The driver of per-sample gradients: every row written once."""

from __future__ import annotations

from numba import njit

from gradkernels.engines.fused.codegen.options import FAST, ORDERED
from gradkernels.engines.fused.codegen.pointers import address, at, get, put
from gradkernels.engines.fused.codegen.simd import BYTES, fence, lanes, load_vector, stream
from gradkernels.engines.fused.drivers import columns, rows
from gradkernels.engines.fused.drivers.workspace import (
    BY_ROWS,
    INTERCEPT,
    block_slopes,
    lay_out,
    locate_block,
    workspace_size,
)

STREAM = 2**20  # bytes of a chunk's rows, of which a large result has many: they would push out what is in the caches


@njit(**FAST)
def write_block(f, x, step, b, out, out_step):
    """Write the block's rows.

    Args:
        f: The workspace, with the block's slopes.
        x: First entry of the block.
        step: Elements between its rows or columns.
        b: Rows.
        out: Memory for them.
        out_step: Elements between the rows there.
    """
    if f.classes > 1:
        _write_classes(f, x, step, b, out, out_step)
        return
    line = f.eta
    if f.mode != BY_ROWS and f.d == 1 and f.intercept and out_step == 2:
        columns.write_pairs(x, b, line, get(f.penalty, 0), out)
        return
    if f.intercept:
        for i in range(b):
            put(out, i * out_step, get(line, i))
    if f.mode == BY_ROWS:
        rows.write(x, step, b, f.d, line, f.penalty, at(out, f.intercept), out_step)
    else:
        columns.write(x, step, b, f.d, line, f.penalty, at(out, f.intercept), out_step)


@njit(**FAST)
def _write_classes(f, x, step, b, out, out_step):
    row, column = (step, 1) if f.mode == BY_ROWS else (1, step)
    for i in range(b):
        target = at(out, i * out_step)
        if f.intercept:
            for k in range(f.classes):
                put(target, k, get(f.eta, k * f.block + i))
        target = at(target, f.intercept * f.classes)
        for j in range(f.d):
            entry = get(x, i * row + j * column)
            for k in range(f.classes):
                value = get(f.eta, k * f.block + i) * entry + get(f.penalty, k * f.d + j)
                put(target, j * f.classes + k, value)


@njit(**ORDERED)
def _stream(target, found, count):
    """Copy past the caches, which saves reading the lines that are about to be overwritten."""
    width = lanes(target)
    size, i = BYTES // width, count
    if address(target) % size == 0:
        i = min(count, (-address(target) % BYTES) // size)
    for j in range(i):
        put(target, j, get(found, j))
    while i + width <= count:
        stream(target, i, load_vector(found, i))
        i += width
    for j in range(i, count):
        put(target, j, get(found, j))


@njit(**ORDERED)
def _scatter(f, batch, low, b, found):
    """Copy into memory with gaps."""
    width = f.d + f.intercept
    for i in range(b):
        for j in range(width):
            for k in range(f.classes):
                place = (low + i) * batch.step0 + j * batch.step1 + k * batch.step2
                put(batch.result, place, get(found, (i * width + j) * f.classes + k))


@njit(**ORDERED)
def _dense(batch, width):
    """Return whether the rows lie side by side, in C order."""
    inner = batch.step1 == batch.classes and (batch.classes == 1 or batch.step2 == 1)
    return batch.step0 == width and inner


@njit(**ORDERED)
def _large(batch, width):
    return (batch.stop - batch.start) * width * (BYTES // lanes(batch.x)) >= STREAM


def rows_workspace(batch):
    """Return how many float64 numbers of memory `write_rows` takes: with a block's rows, unless written in place."""
    width = (batch.d + (batch.flags & INTERCEPT)) * batch.classes
    in_place = _dense(batch, width) and not _large(batch, width)
    return workspace_size(batch, 0 if in_place else width, 0)


def write_rows(batch, memory):
    """Write the rows to the result."""
    width = (batch.d + (batch.flags & INTERCEPT)) * batch.classes
    f = lay_out(batch, memory)
    dense = _dense(batch, width)
    large = dense and _large(batch, width)
    for low in range(batch.start, batch.stop, f.block):
        b = min(f.block, batch.stop - low)
        block, step = locate_block(f, batch, low, b)
        block_slopes(f, batch, block, step, low, b)
        target = at(batch.result, low * width)
        write_block(f, block, step, b, target if dense and not large else f.spare, width)
        if large:
            _stream(target, f.spare, b * width)
        elif not dense:
            _scatter(f, batch, low, b, f.spare)
    if large:
        fence()
