"""Squares and their sums in at least float32: in half precision a square leaves the range from 256 on."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from gradkernels.backend import Array

HALF_DTYPES = (torch.float16, torch.bfloat16)


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that sums are taken in."""
    return torch.float32 if dtype in HALF_DTYPES else dtype


def widen(tensor: Array) -> Array:
    """Return the tensor in the dtype that sums are taken in."""
    return tensor.float() if tensor.dtype in HALF_DTYPES else tensor


def in_units(weights: Array | None, parameters: Iterable[Array]) -> tuple[Array | None, Array | None]:
    """Return weights in a unit of about their size, and the unit; as they are, and None, where none is needed.

    In half precision, what is multiplied by a weight of 1e-6 has no digits left.

    Args:
        weights: `(n,)`, or several `(n, k)`, of which each has a unit; None for ones.
        parameters: Whose rows they are of.
    """
    if weights is None or not any(one.dtype in HALF_DTYPES for one in parameters):
        return weights, None
    weights = weights.float()
    largest = weights.abs().amax(0) if len(weights) else weights.new_zeros(weights.shape[1:])
    unit = torch.where((largest > 0) & (largest < torch.inf), largest, 1.0).log2().ceil().exp2()  # a power of two
    return weights / unit, unit


def squared_row_norms(rows: Array) -> Array:
    """Return the squared norm of each row, `(n,)`, of rows `(n, ...)`."""
    return torch.linalg.vector_norm(rows.reshape(len(rows), -1), dim=1, dtype=sum_dtype(rows.dtype)).square_()


def sum_of_squares(rows: Array) -> Array:
    """Sum the squared entries over the rows."""
    return widen(rows).square().sum(0)


def row_matrix(rows: Array) -> Array:
    """Return rows `(n, ...)` as a matrix `(n, m)`, of a parameter without axes too, in the dtype of sums."""
    wide = widen(rows)
    return wide.flatten(1) if wide.ndim > 1 else wide[:, None]


def weighted_rows(rows: Array, weights: Array) -> Array:
    """Return the sums of rows `(n, ...)` by weights `(n, k)`, `(k, ...)`, in the dtype that sums are taken in."""
    wide = row_matrix(rows)
    return (weights.to(wide.dtype).mT @ wide).view(weights.shape[1], *rows.shape[1:])
