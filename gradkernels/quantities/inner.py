"""The inner product of each sample's gradient with a direction, or with several: influence, Fisher-vector products."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradkernels.backend import Array
from gradkernels.quantities.shared.arguments import structured
from gradkernels.quantities.shared.definitions import flat_rows, in_own_dtype, matrix_of
from gradkernels.quantity import Draw, Option, Options, Quantity, Truth, flat
from gradkernels.row_norms import wide
from gradkernels.tree import Tree, leaves


def _leading(v: Tree, theta: Tree) -> int:
    return int(leaves(v)[0].ndim - leaves(theta)[0].ndim)


def _shape(n: int, theta: Tree, v: Tree) -> tuple[int, ...]:
    return (n, *leaves(v)[0].shape[: _leading(v, theta)])


def _of(xp: Any, g: Tree, v: Tree) -> Array:
    total: Any = 0
    for rows, own, direction in zip(flat_rows(g), leaves(g), leaves(v), strict=True):
        matrix = wide(matrix_of(direction, own.ndim - 1))
        total = total + wide(rows) @ (matrix if matrix.ndim == 1 else matrix.T)
    return in_own_dtype(total, g)


def _expect(truth: Truth, v: Tree) -> tuple[Any, Any]:
    directions = flat(v, _leading(v, truth.theta))
    value = np.einsum("ip,...p->i...", flat(truth.rows, 1), directions)
    return value, truth.scale_along(directions)


def _needs(draw: Draw) -> Options:
    return {"v": draw.like_theta()}


def _settings(draw: Draw) -> Any:
    yield " with three directions", {"v": draw.like_theta(3)}


INNER = Quantity(
    "inner",
    _shape,
    _of,
    _expect,
    options=(Option("v", structured("v"), required=True),),
    per_parameter=False,
    by_sample=True,
    needs=_needs,
    settings=_settings,
    rank=8,
)
