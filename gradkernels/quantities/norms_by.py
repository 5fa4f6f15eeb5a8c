"""The norm of each sample's gradient over each parameter, or over each group of parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradkernels.backend import Array
from gradkernels.quantities.shared.definitions import in_own_dtype, row_lengths
from gradkernels.quantities.shared.groups import PARAMETER, Groups, arrays_by_name, columns_of, groups_of, places_of
from gradkernels.quantity import Draw, Option, Options, Quantity, Truth
from gradkernels.tree import Tree


def _shape(n: int, theta: Tree, by: Groups) -> tuple[int, ...]:
    return (n,)


def _structure(n: int, theta: Tree, by: Groups) -> dict[str, Any]:
    return {group: np.broadcast_to(0.0, (n,)) for group, _ in by}


def _of(xp: Any, g: Tree, by: Groups) -> dict[str, Array]:
    parts = arrays_by_name(g)
    chosen = {group: {name: parts[name] for name in names} for group, names in by}
    return {group: in_own_dtype(row_lengths(xp, of_group), of_group) for group, of_group in chosen.items()}


def _expect(truth: Truth, by: Groups) -> tuple[Any, Any]:
    places = places_of(truth.theta)
    found = [truth.norms_over(columns_of(names, places)) for _, names in by]
    value, scale = (np.stack(parts, 1) for parts in zip(*found, strict=True))
    return value, scale


def _needs(draw: Draw) -> Options:
    return {"by": groups_of(PARAMETER, draw.n, draw.theta)}


def _settings(draw: Draw) -> Any:
    names = list(arrays_by_name(draw.theta))
    groups = (("first", tuple(names[:1])), ("others", tuple(names[1:])))[: len(names)]  # a parameter is in one of them
    yield " with groups", {"by": groups}


NORMS_BY = Quantity(
    "norms_by",
    _shape,
    _of,
    _expect,
    options=(Option("by", groups_of, required=True, fixed=True),),
    per_parameter=False,
    by_sample=True,
    structure=_structure,
    needs=_needs,
    settings=_settings,
    rank=12,
)
