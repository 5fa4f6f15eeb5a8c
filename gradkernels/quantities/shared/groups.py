"""Groups of parameters: how a caller names them, and where their entries are in a flat row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from gradkernels.tree import Tree
from gradkernels.truth import Floats

PARAMETER = "parameter"
ONE_ARRAY = "theta"
"""What a theta of one array is called."""

WHOLE = "all"
"""What the group of all parameters is called."""

Groups = tuple[tuple[str, tuple[str, ...]], ...]
"""Names of parameters by group."""


def arrays_by_name(tree: Tree) -> dict[str, Any]:
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
    names = list(arrays_by_name(theta))
    if by == PARAMETER:
        return tuple((name, (name,)) for name in names)
    if _are_groups(by, names):
        return tuple(by)
    if not isinstance(by, Mapping):
        raise TypeError(f"by is {by!r}; it must be 'parameter', or lists of globs by group: {{'head': ['head.*']}}")
    found = {str(group): _matching(group, _globs(group, globs), names) for group, globs in by.items()}
    taken = [name for of_group in found.values() for name in of_group]
    if twice := {name for name in taken if taken.count(name) > 1}:
        raise ValueError(f"by has {', '.join(sorted(twice)[:4])} in two groups; put each parameter into one")
    if not found:
        raise ValueError("by has no group; name at least one")
    return tuple(found.items())


def _are_groups(by: Any, names: list[str]) -> bool:
    """Return whether these are groups as `groups_of` returns them: each name known, and in one of them."""
    if not isinstance(by, tuple) or not by:
        return False
    if not all(isinstance(one, tuple) and len(one) == 2 and isinstance(one[1], tuple) and one[1] for one in by):
        return False
    taken = [name for _, of_group in by for name in of_group]
    return len({*taken}) == len(taken) and {*taken} <= {*names} and len({group for group, _ in by}) == len(by)


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


def places_of(theta: Tree) -> dict[str, Floats]:
    """Return which entries of a flat row belong to each parameter, by name."""
    parts = arrays_by_name(theta)
    ends = np.cumsum([math.prod(part.shape) for part in parts.values()])
    return dict(zip(parts, np.split(np.arange(ends[-1]), ends[:-1]), strict=True))


def columns_of(names: tuple[str, ...], places: Mapping[str, Floats]) -> Floats:
    """Return which entries of a flat row belong to some parameters, in their order.

    Args:
        names: Of the parameters.
        places: By `places_of`.
    """
    return np.concatenate([places[name] for name in names])


def whole_or_groups(by: Groups | None, like: Tree) -> Groups:
    """Return groups of parameters, one of all of them where there are none.

    Args:
        by: Groups, or None.
        like: Of theta's structure.
    """
    return ((WHOLE, tuple(arrays_by_name(like))),) if by is None else by
