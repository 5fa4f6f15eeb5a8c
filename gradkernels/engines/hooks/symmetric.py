"""Products of rows with each other: R R^T, whose blocks off the diagonal are computed once."""

from __future__ import annotations

import torch

from gradkernels.backend import Array

SIDE = 48
"""Rows of a block that is computed whole: products of fewer take longer than they save."""


def products_of_rows(rows: Array) -> Array:
    """Return R R^T, `(n, n)`, of rows `(n, m)`."""
    if len(rows) < 2 * SIDE:
        return rows @ rows.mT
    out = rows.new_empty((len(rows), len(rows)))
    _fill(rows, out)
    return out


def _fill(rows: Array, out: Array) -> None:
    """Write R R^T to memory: the block above the diagonal, its transpose below it, and the two on it likewise."""
    if len(rows) < 2 * SIDE:
        torch.mm(rows, rows.mT, out=out)
        return
    half = len(rows) // 2
    torch.mm(rows[:half], rows[half:].mT, out=out[:half, half:])
    out[half:, :half] = out[:half, half:].mT
    _fill(rows[:half], out[:half, :half])
    _fill(rows[half:], out[half:, half:])
