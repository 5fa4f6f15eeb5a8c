"""What arrives of each sample at a matrix that is made of parameters, as outer products of factors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from gradkernels.backend import Array


class OuterRows(NamedTuple):
    """Of each sample the sum over steps t of the outer products of its factors.

    Attributes:
        rows: `(n, t, o)`.
        columns: `(n, t, i)`.
    """

    rows: Array
    columns: Array

    def formed(self) -> Array:
        """Return the matrices, `(n, o, i)`."""
        return self.rows.mT @ self.columns


def joined(terms: Sequence[OuterRows]) -> OuterRows:
    """Return a sum of outer products as one, which has the steps of all."""
    return terms[0] if len(terms) == 1 else OuterRows(*(torch.cat(one, 1) for one in zip(*terms, strict=True)))


def scaled(one: OuterRows, factor: Array, axis: int | None) -> OuterRows:
    """Multiply by one number, or a number for each row or column.

    Args:
        one: Outer products.
        factor: The numbers, of any shape.
        axis: 0 for one of each row, 1 for one of each column; None for one of all.
    """
    if axis == 1:
        return OuterRows(one.rows, one.columns * factor.reshape(-1))
    return OuterRows(one.rows * (factor.reshape(()) if axis is None else factor.reshape(-1)), one.columns)


def contracted(one: OuterRows, factor: Array, axis: int | None) -> Array:
    """Multiply by a matrix entry by entry, and sum over all but one axis.

    Args:
        one: Outer products of `(o, i)`.
        factor: Broadcast to `(o, i)`.
        axis: That is left; None for the sum of all entries.

    Returns:
        `(n, o)`, `(n, i)` or `(n,)`.
    """
    rows, columns = one
    full = factor.expand(rows.shape[2], columns.shape[2])
    if axis == 1:
        return (columns * (rows @ full)).sum(1)
    products = rows * (columns @ full.mT)
    return products.sum(1) if axis == 0 else products.sum((1, 2))


def spread(one: Array, shape: Sequence[int], axis: int | None) -> OuterRows:
    """Return matrices that repeat what there is of each row, each column or all of it.

    Args:
        one: `(n, ...)`, with as many entries of a sample as the axis.
        shape: `(o, i)`.
        axis: Along which the entries are; None for one of all.
    """
    given, ones = one.reshape(len(one), 1, -1), one.new_ones(())
    rows, columns = (given, ones) if axis != 1 else (ones, given)
    return OuterRows(rows.expand(len(one), 1, shape[0]), columns.expand(len(one), 1, shape[1]))
