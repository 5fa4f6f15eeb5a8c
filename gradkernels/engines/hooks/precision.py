"""Squares and their sums in at least float32: in half precision a square leaves the range from 256 on.

Autocast computes in half precision with parameters of another dtype; gradients are taken in the parameters' own.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch

from gradkernels.backend import Array

Use = TypeVar("Use")

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


def times_weights(one: Array, weights: Array) -> Array:
    """Return what is there of each sample `(n, ...)` times its weight `(n,)`, in its own dtype."""
    return (one * weights.view(-1, *[1] * (one.ndim - 1))).to(one.dtype)


def spread_nan(sums: dict[str, Array], weights: Array) -> dict[str, Array]:
    """Return weighted sums, all NaN where a weight is: NaN times the zeros of a row is NaN, formed or not.

    Args:
        sums: By name, with an axis of k in front for several weightings.
        weights: `(n,)`, or `(n, k)`.
    """
    if weights.sum().isfinite() or not (odd := weights.isnan().any(0)).any():
        return sums
    return {
        name: one.masked_fill(odd.view(-1, *[1] * (one.ndim - 1)) if odd.ndim else odd, torch.nan)
        for name, one in sums.items()
    }


def weighted_rows(rows: Array, weights: Array) -> Array:
    """Return the sums of rows `(n, ...)` by weights `(n, k)`, `(k, ...)`, in the dtype that sums are taken in."""
    wide = row_matrix(rows)
    return (weights.to(wide.dtype).mT @ wide).view(weights.shape[1], *rows.shape[1:])


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which tensors on a device are computed with in their own dtypes."""
    return torch.autocast(device.type, enabled=False) if torch.is_autocast_enabled(device.type) else nullcontext()


def in_parameters_dtype(use: Use, g: Array) -> tuple[Use, Array]:
    """Return a use of parameters, and the gradient of its output, in the parameters' dtype if g is of half precision.

    Args:
        use: With its `targets`, and what it keeps of its call.
        g: Gradient of the output.
    """
    if g.dtype not in HALF_DTYPES:
        return use, g
    targets: Mapping[Any, Any] = vars(use)["targets"]
    dtypes = {one.tensor.dtype for one in targets.values()}
    if g.dtype in dtypes or len(dtypes) != 1:
        return use, g
    (dtype,) = dtypes
    return _cast(use, dtype), g.to(dtype)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """Return what a use keeps with half precision in another dtype; tensors with a graph stay as they are."""
    if isinstance(value, torch.Tensor):
        return value.to(dtype) if value.dtype in HALF_DTYPES and not value.requires_grad else value
    if type(value) in (list, tuple):
        return type(value)(_cast(one, dtype) for one in value)
    if type(value) is dict:
        return {key: _cast(one, dtype) for key, one in value.items()}
    if hasattr(value, "targets"):
        made = copy.copy(value)
        vars(made).update({name: _cast(one, dtype) for name, one in vars(value).items() if name != "targets"})
        return made
    return value
