"""Outer products of factors `(n, [t,] o)` and `(n, [t,] i)`, summed over steps: written as rows, or added by group."""

from __future__ import annotations

import operator
from functools import reduce

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.precision import times_weights, widen
from gradkernels.engines.hooks.symmetric import products_of_rows

GROUP_SAMPLES = 4
"""Samples in a group, on average, from which on a product for each group takes less time than rows."""

ROW_BYTES = 1 << 23
"""Of parts of rows that are formed at a time."""

STEPS_OF_ROWS = 4
"""Steps less one times weightings less one, from which on rows are formed once instead of a product for each."""


def write_outer_rows(rows: Array, columns: Array, out: Array, add: bool) -> None:
    """Write the products of each sample, or add them to what is there.

    Args:
        rows: `(n, [t,] o)`.
        columns: `(n, [t,] i)`.
        out: Memory, `(n, o, i)`.
        add: Whether to add.
    """
    if rows.ndim == 3 and add:
        torch.baddbmm(out, rows.mT, columns, out=out)
    elif rows.ndim == 3:
        torch.bmm(rows.mT, columns, out=out)
    elif add:
        torch.addcmul(out, rows[:, :, None], columns[:, None, :], out=out)
    else:
        torch.mul(rows[:, :, None], columns[:, None, :], out=out)


def added_by_group(rows: Array, columns: Array, groups: Array, out: Array) -> bool:
    """Add one product of matrices for each group to its sum; return whether there are few enough groups for that.

    Args:
        rows: `(n, [t,] o)`.
        columns: `(n, [t,] i)`.
        groups: Number of each sample's group, `(n,)`.
        out: Sums, `(count, o, i)`.
    """
    present, sizes = torch.unique(groups, return_counts=True)
    if GROUP_SAMPLES * len(present) > len(groups):
        return False
    order = groups.argsort(stable=True)
    parts = [widen(factor)[order].split(sizes.tolist()) for factor in (rows, columns)]
    for group, of_rows, of_columns in zip(present.tolist(), *parts, strict=True):
        out[group] += of_rows.flatten(0, -2).mT @ of_columns.flatten(0, -2)
    return True


def gram_by_rows(rows: Array, columns: Array) -> Array:
    """Return the inner products of each two samples' rows, `(n, n)`, of which some outputs are formed at a time.

    Args:
        rows: `(n, t, o)`.
        columns: `(n, t, i)`.
    """
    size = max(1, ROW_BYTES // max(1, len(rows) * columns.shape[2] * rows.element_size()))
    parts = ((some.mT @ columns).flatten(1) for some in rows.split(size, 2))
    return reduce(operator.iadd, map(products_of_rows, parts))


def weighted_sums(factors: tuple[Array, Array], weights: Array) -> Array:
    """Return the sums of the products by each of several weightings, `(k, o, i)`.

    Args:
        factors: `(n, [t,] o)` and `(n, [t,] i)`.
        weights: `(n, k)`.
    """
    rows, columns = map(widen, factors)
    (n, k), o, i = weights.shape, rows.shape[-1], columns.shape[-1]
    weights, columns = weights.to(rows.dtype), columns.to(rows.dtype)
    if rows.ndim == 3 and (rows.shape[1] - 1) * (k - 1) > STEPS_OF_ROWS:
        out, size = rows.new_empty((k, o, i)), max(1, ROW_BYTES // max(1, n * i * rows.element_size()))
        for at in (slice(start, start + size) for start in range(0, o, size)):
            out[:, at] = (weights.mT @ (rows[:, :, at].mT @ columns).flatten(1)).view(k, -1, i)
        return out
    several = rows[..., None, :] * weights.view(n, *[1] * (rows.ndim - 2), k, 1)  # (n, [t,] k, o)
    return (several.flatten(0, -3).flatten(1).mT @ columns.flatten(0, -2)).view(k, o, i)


def weighted_sum(factors: tuple[Array, Array], weights: Array) -> Array:
    """Return the sum of the products, each times its sample's weight, `(o, i)`: the narrower factor is multiplied.

    Args:
        factors: `(n, [t,] o)` and `(n, [t,] i)`.
        weights: `(n,)`.
    """
    rows, columns = factors
    if rows.shape[-1] <= columns.shape[-1]:
        rows = times_weights(rows, weights)
    else:
        columns = times_weights(columns, weights)
    return rows.flatten(0, -2).mT @ columns.flatten(0, -2).to(rows.dtype)


def steps_of(tensor: Array) -> Array:
    """Merge all leading axes of a sample: `(n, features)`, or `(n, t, features)` with t > 1."""
    if tensor.ndim == 2:
        return tensor
    steps = tensor.flatten(1, -2)
    return steps[:, 0] if steps.shape[1] == 1 else steps


def sums_over_steps(g: Array) -> Array:
    """Return the rows of the bias, `(n, o)`: sums over steps."""
    return g if g.ndim == 2 else g.flatten(1, -2).sum(1)
