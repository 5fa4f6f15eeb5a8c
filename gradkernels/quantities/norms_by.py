"""The norm of each sample's gradient over each parameter, or over each group of parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from gradkernels.backend import Array
from gradkernels.quantities.shared.definitions import in_own_dtype, row_lengths
from gradkernels.quantity import Draw, Option, Options, Quantity, Truth
from gradkernels.tree import Tree

PARAMETER = "parameter"
ONE_ARRAY = "theta"
"""What a theta of one array is called."""

Groups = tuple[tuple[str, tuple[str, ...]], ...]
"""Names of parameters by group."""


def named(tree: Tree) -> dict[str, Any]:
    """Return the arrays of a tree of theta's structure by name."""
    return tree if isinstance(tree, dict) else {ONE_ARRAY: tree}


def groups_of(by: Any, n: int, theta: Tree) -> Groups:
    """Return the names of each group's parameters.

    Args:
        by: `"parameter"`, for each its own; or lists of globs by group.
        n: Number of samples.
        theta: Parameters.

    Raises:
        TypeError: It is something else.
        ValueError: A glob names nothing, or a parameter is in two groups.
    """
    names = list(named(theta))
    if by == PARAMETER:
        return tuple((name, (name,)) for name in names)
    if isinstance(by, tuple) and by and all(isinstance(one, tuple) and len(one) == 2 for one in by):
        return by  # groups as this function returns them
    if not isinstance(by, Mapping):
        raise TypeError(f"by is {by!r}; it must be 'parameter', or lists of globs by group: {{'head': ['head.*']}}")
    found = {str(group): _matching(group, _globs(group, globs), names) for group, globs in by.items()}
    taken = [name for of_group in found.values() for name in of_group]
    if twice := {name for name in taken if taken.count(name) > 1}:
        raise ValueError(f"by has {', '.join(sorted(twice)[:4])} in two groups; put each parameter into one")
    if not found:
        raise ValueError("by has no group; name at least one")
    return tuple(found.items())


def _globs(group: Any, globs: Any) -> list[str]:
    """Return the globs of a group, at least one."""
    found = [globs] if isinstance(globs, str) else globs
    if not isinstance(found, list | tuple) or not found or not all(isinstance(glob, str) for glob in found):
        raise TypeError(f"by[{group!r}] is {globs!r}; it must be a glob or a list of them, such as ['head.*']")
    return list(found)


def _matching(group: Any, globs: list[str], names: list[str]) -> tuple[str, ...]:
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in names):
            raise ValueError(f"by[{group!r}] has {glob!r}, which names no parameter; there are {', '.join(names[:6])}")
    return tuple(name for name in names if any(fnmatchcase(name, glob) for glob in globs))


def _shape(n: int, theta: Tree, by: Groups) -> tuple[int, ...]:
    return (n,)


def _structure(n: int, theta: Tree, by: Groups) -> dict[str, Any]:
    return {group: np.broadcast_to(0.0, (n,)) for group, _ in by}


def _of(xp: Any, g: Tree, by: Groups) -> dict[str, Array]:
    parts = named(g)
    chosen = {group: {name: parts[name] for name in names} for group, names in by}
    return {group: in_own_dtype(row_lengths(xp, of_group), of_group) for group, of_group in chosen.items()}


def _expect(truth: Truth, by: Groups) -> tuple[Any, Any]:
    theta = named(truth.theta)
    ends = np.cumsum([math.prod(part.shape) for part in theta.values()])
    places = dict(zip(theta, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))
    found = [truth.norms_over(np.concatenate([places[name] for name in names])) for _, names in by]
    value, scale = (np.stack(parts, 1) for parts in zip(*found, strict=True))
    return value, scale


def _needs(draw: Draw) -> Options:
    return {"by": groups_of(PARAMETER, draw.n, draw.theta)}


def _settings(draw: Draw) -> Any:
    names = list(named(draw.theta))
    yield " with groups", {"by": (("first", tuple(names[:1])), ("others", tuple(names[1:]) or tuple(names)))}


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
