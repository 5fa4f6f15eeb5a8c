"""Inner products of the gradients of each two samples: the empirical neural tangent kernel, whole or by group."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradkernels.backend import Array
from gradkernels.quantities.shared.definitions import flat_rows, in_own_dtype
from gradkernels.quantities.shared.groups import PARAMETER, Groups, arrays_by_name, columns_of, groups_of, places_of
from gradkernels.quantity import Draw, Option, Options, Quantity, Truth, flat
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


def _shape_by(n: int, theta: Tree, by: Groups, other: Any = None) -> tuple[int, ...]:
    return _shape(n, theta, other)


def _structure(n: int, theta: Tree, by: Groups, other: Any = None) -> dict[str, Any]:
    return {group: np.broadcast_to(0.0, _shape(n, theta, other)) for group, _ in by}


def _of_groups(xp: Any, g: Tree, by: Groups, other: Tree | None = None) -> dict[str, Array]:
    ours, theirs = arrays_by_name(g), arrays_by_name(g if other is None else other)
    chosen = {group: [{name: of[name] for name in names} for of in (ours, theirs)] for group, names in by}
    return {group: _of(xp, *both) for group, both in chosen.items()}


def _expect_by(truth: Truth, by: Groups, other: Any = None) -> tuple[Any, Any]:
    second, places = truth if other is None else truth.of_batch(other), places_of(truth.theta)
    values, scales = list[Any](), list[Any]()
    for _, names in by:
        at = columns_of(names, places)
        values.append(np.einsum("ip,jp->ij", flat(truth.rows, 1)[:, at], flat(second.rows, 1)[:, at]))
        scales.append(2 * np.outer(truth.norms_over(at)[1], second.norms_over(at)[1]))
    return np.stack(values, 2), np.stack(scales, 2)


def _needs_groups(draw: Draw) -> Options:
    return {"by": groups_of(PARAMETER, draw.n, draw.theta)}


def _settings_by(draw: Draw) -> Any:
    names = tuple(arrays_by_name(draw.theta))
    groups = (("first", names[:1]), ("others", names[1:]))[: len(names)]  # each parameter is in one of them
    yield " with groups", {"by": groups}
    for says, options in _settings(draw):
        yield f"{says} and groups", options | {"by": groups}


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

GRAM_BY = Quantity(
    "gram_by",
    _shape_by,
    _of_groups,
    _expect_by,
    options=(Option("by", groups_of, required=True, fixed=True), Option("other", _batch, batch=True)),
    per_parameter=False,
    squares=True,
    by_sample=True,
    pairs=True,
    structure=_structure,
    needs=_needs_groups,
    settings=_settings_by,
    rank=14,
)
