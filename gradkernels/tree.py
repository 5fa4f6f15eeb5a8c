"""Inputs and results that are one array, or several: tuples, named tuples and dicts of arrays.

Samples are the first axis of every array of x and y.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Tree = Any
"""An array, or a tuple, named tuple or dict of trees."""


def leaves(tree: Tree) -> list[Any]:
    """The arrays of a tree, in order."""
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    return [leaf for part in tree for leaf in leaves(part)] if isinstance(tree, tuple) else [tree]


def each(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """The tree of `function(leaf, ...)` for every array; `others` have the same structure."""
    if isinstance(tree, dict):
        return {name: each(function, part, *(other[name] for other in others)) for name, part in tree.items()}
    if isinstance(tree, tuple):
        parts = [each(function, *part) for part in zip(tree, *others, strict=True)]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return function(tree, *others)


def structure(tree: Tree) -> Any:
    """What is left of a tree without its arrays: kinds, names and nesting; hashable."""
    if isinstance(tree, dict):
        return tuple((name, structure(part)) for name, part in tree.items())
    return (type(tree), *map(structure, tree)) if isinstance(tree, tuple) else None


def named(name: str, tree: Tree) -> Iterator[tuple[str, Any]]:
    """The arrays of a tree, each with a name that tells its place: `y`, `y.target`, `x[0]`."""
    if isinstance(tree, dict):
        parts = [(f"{name}[{key!r}]", part) for key, part in tree.items()]
    elif isinstance(tree, tuple):
        fields = getattr(tree, "_fields", None)
        places = [f".{field}" for field in fields] if fields else [f"[{i}]" for i in range(len(tree))]
        parts = [(f"{name}{place}", part) for place, part in zip(places, tree, strict=True)]
    else:
        yield name, tree
        return
    for place, part in parts:
        yield from named(place, part)


def count(tree: Tree) -> int:
    """Number of samples."""
    return len(leaves(tree)[0])


def take(tree: Tree, rows: Any) -> Tree:
    """The samples that `rows` selects: an index, a slice or an array of indices."""
    return each(lambda array: array[rows], tree)
