"""Sums and inner products of a regression's rows by matrix products, a block of rows at a time, for numpy and torch.

- weighted_sum: (sum of w slopes, x^T (w slopes)) + (sum of w) c, for several weightings at once;
- inner: slope_i . (v_0 + x_i v) + c . v;
- outer: g^T g of the rows g of a block; where these are to be summed by group first, s^T s of their sums s.

Sums of blocks are added in float64, and so are, for float32, those of `GROUP` samples within a block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gradkernels.backend import Array, arrays_of, backend_of
from gradkernels.engines.closed.blocks import ClosedForms, cross_product
from gradkernels.tree import Tree


def weighted_sum(blocks: ClosedForms, theta: Array, x: Array, y: Tree, *, weights: Array) -> Array:
    """Return the weighted sum of the rows, of theta's shape; or several, of theta's shape with one axis in front.

    Args:
        blocks: The closed forms.
        theta: Parameters, `(p,)` or `(p, K)`.
        x: Features, `(n, d)` or `(n,)`.
        y: Targets, and weights of the problem, samples first.
        weights: `(n,)`, or `(n, k)` for k sums.
    """
    several, first = weights if weights.ndim == 2 else weights[:, None], int(blocks.problem.fit_intercept)
    total = _zeros(blocks, theta, several.shape[1], *theta.shape)
    for part, slope, columns in blocks.parts(theta, x, y):
        factors = several[part].reshape(*several[part].shape, *[1] * (slope.ndim - 1)) * slope[:, None]
        total[:, :first] += factors.sum(0, dtype=total.dtype)[:, None]
        flat = factors.reshape(len(factors), math.prod(factors.shape[1:]))
        products = cross_product(blocks.xp, columns, flat).reshape(columns.shape[1], *factors.shape[1:])
        total[:, first:] += blocks.xp.moveaxis(products, 0, 1)
    if blocks.problem.l2:
        kept = several.sum(0, dtype=total.dtype).reshape(-1, *[1] * theta.ndim)
        total[:, first:] += kept * (blocks.problem.l2 * theta[first:])
    found = blocks.xp.asarray(total, dtype=theta.dtype)
    return found if weights.ndim == 2 else found[0]


def inner(blocks: ClosedForms, theta: Array, x: Array, y: Tree, *, v: Array) -> Array:
    """Return the inner products of the rows with a direction, `(n,)`, or with several, `(n, k)`.

    Args:
        blocks: The closed forms.
        theta: Parameters, `(p,)` or `(p, K)`.
        x: Features, `(n, d)` or `(n,)`.
        y: Targets, and weights of the problem, samples first.
        v: Of theta's shape, or with an axis of k directions in front.
    """
    count, first = len(v) if v.ndim > theta.ndim else 1, int(blocks.problem.fit_intercept)
    several = v.reshape(count, len(theta), math.prod(theta.shape[1:]))
    found = blocks.xp.empty((len(x), count), dtype=theta.dtype, device=theta.device)
    for part, slope, columns in blocks.parts(theta, x, y):
        along = blocks.xp.tensordot(columns, several[:, first:], ([1], [1]))  # (b, k, K)
        if first:
            along += several[:, 0]
        found[part] = (along * slope.reshape(len(slope), 1, along.shape[2])).sum(2)
    if blocks.problem.l2:
        found += (several[:, first:] * blocks.problem.l2 * theta.reshape(several.shape[1:])[first:]).sum((1, 2))
    return found if v.ndim > theta.ndim else found[:, 0]


def outer(blocks: ClosedForms, theta: Array, x: Array, y: Tree, *, groups: Any = None) -> Array:
    """Return the sum of the rows' outer products, `(P, P)`, or of those of their sums by group.

    Args:
        blocks: The closed forms.
        theta: Parameters, `(p,)` or `(p, K)`.
        x: Features, `(n, d)` or `(n,)`.
        y: Targets, and weights of the problem, samples first.
        groups: Number of each sample's group, numpy's `(n,)`.
    """
    size = math.prod(theta.shape)
    if groups is not None:
        sums = _sums_by(blocks, (theta, x, y), groups, int(groups.max()) + 1 if len(groups) else 0)
        return blocks.xp.asarray(sums.T @ sums, dtype=theta.dtype)
    total = _zeros(blocks, theta, size, size)
    for _, rows in _row_blocks(blocks, theta, x, y):
        total += cross_product(blocks.xp, rows, rows)
    return blocks.xp.asarray(total, dtype=theta.dtype)


def group_sums(blocks: ClosedForms, theta: Array, x: Array, y: Tree, *, groups: Any, count: int) -> Array:
    """Return the sums of the rows by group, of theta's shape with an axis of groups in front.

    Args:
        blocks: The closed forms.
        theta: Parameters, `(p,)` or `(p, K)`.
        x: Features, `(n, d)` or `(n,)`.
        y: Targets, and weights of the problem, samples first.
        groups: Number of each sample's group, numpy's `(n,)`.
        count: Number of groups.
    """
    sums = _sums_by(blocks, (theta, x, y), groups, count)
    return blocks.xp.asarray(sums, dtype=theta.dtype).reshape(count, *theta.shape)


def _sums_by(blocks: ClosedForms, arrays: tuple[Array, Array, Tree], groups: Any, count: int) -> Array:
    """Return the sums of the rows by group, `(count, P)`, float64; of a block's groups those that are in it."""
    host = backend_of(groups)
    groups = groups if host is None else host.get(groups)
    total = _zeros(blocks, arrays[0], count, math.prod(arrays[0].shape))
    for part, rows in _row_blocks(blocks, *arrays):
        present, numbers = np.unique(groups[part], return_inverse=True)
        library = arrays_of(rows)
        total[present] += library.sum_by(library.cast(rows, "float64"), numbers, len(present))
    return total


def _row_blocks(blocks: ClosedForms, theta: Array, x: Array, y: Tree) -> Iterator[tuple[slice, Array]]:
    """Yield rows `(b, P)` of each block, in memory that is used again."""
    scratch = blocks.scratch(theta, x)
    for part, slope, columns in blocks.parts(theta, x, y):
        rows = scratch[: len(slope)]
        blocks.write_rows(theta, slope, columns, rows)
        yield part, rows.reshape(len(rows), math.prod(theta.shape))


def _zeros(blocks: ClosedForms, theta: Array, *shape: int) -> Array:
    return blocks.xp.zeros(shape, dtype=blocks.xp.float64, device=theta.device)
