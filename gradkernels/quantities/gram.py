"""Inner products of the gradients of each two samples: the empirical neural tangent kernel."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradkernels.backend import Array
from gradkernels.quantities.shared.definitions import flat_rows, in_own_dtype
from gradkernels.quantity import Draw, Option, Quantity, Truth, flat
from gradkernels.row_norms import wide
from gradkernels.tree import Tree, count, take


def _shape(n: int, theta: Tree, other: Any = None) -> tuple[int, ...]:
    return (n, n if other is None else count(other))


def _of(xp: Any, g: Tree, other: Tree | None = None) -> Array:
    total: Any = 0
    for one, two in zip(flat_rows(g), flat_rows(g if other is None else other), strict=True):
        total = total + wide(one) @ wide(two).T
    return in_own_dtype(total, g)


def _expect(truth: Truth, other: Any = None) -> tuple[Any, Any]:
    second = truth if other is None else truth.of_batch(other)
    value = np.einsum("ip,jp->ij", flat(truth.rows, 1), flat(second.rows, 1))
    return value, 2 * np.outer(truth.norm_scale, second.norm_scale)


def _batch(value: Any, n: int, theta: Tree) -> Any:
    if not isinstance(value, tuple) or len(value) != 2:
        raise TypeError(f"other is a {type(value).__name__}; it must be (x, y), samples like those of the call")
    return value


def _settings(draw: Draw) -> Any:
    if draw.batch is not None:
        yield " with other samples", {"other": take(draw.batch, slice(None, None, 2))}


GRAM = Quantity(
    "gram",
    _shape,
    _of,
    _expect,
    options=(Option("other", _batch, batch=True),),
    per_parameter=False,
    squares=True,
    by_sample=True,
    pairs=True,
    settings=_settings,
    rank=9,
)
