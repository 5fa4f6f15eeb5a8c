"""The sum of the outer products of the gradients, or of their sums by group: the meat of a sandwich covariance.

White 1980 (HC0), Liang & Zeger 1986 (clusters), Berndt, Hall, Hall & Hausman 1974 (BHHH).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gradkernels.backend import Array, arrays_of
from gradkernels.quantities.shared.arguments import entries_of, present_groups, require_room
from gradkernels.quantities.shared.definitions import flat_rows, in_own_dtype
from gradkernels.quantity import Draw, Option, Quantity, Truth, flat
from gradkernels.row_norms import wide
from gradkernels.tree import Tree, leaves


def _shape(n: int, theta: Tree, groups: Any = None) -> tuple[int, ...]:
    size = sum(int(np.prod(tuple(part.shape))) for part in leaves(theta))
    return (size, size)


def _of(xp: Any, g: Tree, groups: Any = None) -> Array:
    rows = xp.concatenate([wide(part) for part in flat_rows(g)], 1)
    if groups is not None:
        rows = arrays_of(rows).sum_by(rows, groups, len(rows))  # sums of groups that are not there are zero
    return in_own_dtype(rows.T @ rows, g)


def _expect(truth: Truth, groups: Any = None) -> tuple[Any, Any]:
    rows, scale = flat(truth.rows, 1), flat(truth.scale, 1)
    if groups is None:
        value = sum((np.outer(row, row) for row in rows), np.zeros(2 * rows.shape[1:]))
        return value, 2 * scale.T @ scale
    value = spread = np.zeros(2 * rows.shape[1:])
    for group in np.unique(groups):
        one, of_one = rows[groups == group].sum(0), scale[groups == group].sum(0)
        value, spread = value + np.outer(one, one), spread + np.outer(of_one, of_one)
    return value, 2 * spread


def _present(groups: Any, samples: Any) -> Any:
    """Return the groups of some samples, numbered from 0 on again: the definition has a sum for each number below n."""
    return present_groups(groups, len(groups), None)


def _room(theta: Tree) -> None:
    size = entries_of(theta)
    require_room(f"{size:,} parameters", size**2, theta)


def _settings(draw: Draw) -> Any:
    yield " with groups", {"groups": draw.rng.integers(0, min(3, draw.n), draw.n)}


OUTER = Quantity(
    "outer",
    _shape,
    _of,
    _expect,
    options=(Option("groups", present_groups, by_sample=True, of_some=_present),),
    per_parameter=False,
    squares=True,
    room=_room,
    settings=_settings,
    rank=11,
)
