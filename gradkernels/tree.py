"""Inputs and results that are one array, or several: tuples, named tuples and dicts of arrays.

Samples are the first axis of every array of x and y. What is the same for all samples is a `Constant`, which has no
arrays; a container of another kind is `Folded`. Both are made by `gradkernels.problems.module.inputs`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

Tree = Any
"""An array, or a tuple, named tuple or dict of trees, a `Constant` or a `Folded`."""


class ArrayProtocol(Protocol):
    """What arrays of numpy, torch and JAX have in common, as the type checker of a caller sees them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""

    @property
    def dtype(self) -> Any:
        """Kind of its numbers."""

    @property
    def ndim(self) -> int:
        """Number of axes."""

    def __len__(self) -> int: ...


class FrameProtocol(Protocol):
    """What DataFrames and Series of pandas and polars have in common, as the type checker of a caller sees them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""

    def to_numpy(self) -> Any:
        """Return the numpy array of what is in it."""


class LazyArrayProtocol(ArrayProtocol, Protocol):
    """What a dask array has besides, as the type checker of a caller sees it: its results are lazy too."""

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Length of each block, by axis."""

    def compute(self) -> Any:
        """Return the array of its numbers."""


@dataclass(frozen=True, eq=False)
class Constant:
    """What is the same for all samples: it is passed on as it is.

    Attributes:
        value: A flag, a number, None, or a tensor without samples.
        kind: What tells one from another where something is kept for a kind of input: of a tensor not its entries.
    """

    value: Any
    kind: Hashable

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self.kind == other.kind

    def __hash__(self) -> int:
        return hash(self.kind)


@dataclass(frozen=True)
class Folded:
    """A container that is neither tuple nor dict, taken apart.

    Attributes:
        parts: The trees in it.
        places: What follows its name in the name of each of them, such as `[0]`.
        restore: `restore(parts)`, the container of these.
    """

    parts: tuple[Tree, ...]
    places: tuple[str, ...]
    restore: Callable[[tuple[Any, ...]], Any]


def leaves(tree: Tree) -> list[Any]:
    """Return the arrays of a tree, in order."""
    parts = _parts(tree)
    return [tree] if parts is None else [leaf for part in parts for leaf in leaves(part)]


def _parts(tree: Tree) -> tuple[Tree, ...] | None:
    """Return the trees that a tree is made of; None for an array."""
    if isinstance(tree, tuple):
        return tree
    if isinstance(tree, dict):
        return tuple(tree.values())
    if isinstance(tree, Folded):
        return tree.parts
    return () if isinstance(tree, Constant) else None


def constants(tree: Tree) -> list[Any]:
    """Return the values of a tree's constants, in order."""
    if isinstance(tree, Constant):
        return [tree.value]
    return [value for part in _parts(tree) or () for value in constants(part)]


def each(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """Return the tree of `function(leaf, ...)` for every array.

    Args:
        function: Of one array of each tree.
        tree: The first tree.
        others: Trees of the same structure.
    """
    if isinstance(tree, dict):
        return {name: each(function, part, *(other[name] for other in others)) for name, part in tree.items()}
    if isinstance(tree, tuple):
        parts = [each(function, *part) for part in zip(tree, *others, strict=True)]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    if isinstance(tree, Folded):
        return Folded(each(function, tree.parts, *(other.parts for other in others)), tree.places, tree.restore)
    return tree if isinstance(tree, Constant) else function(tree, *others)


def structure(tree: Tree) -> Any:
    """Return what is left of a tree without its arrays: kinds, names, nesting and constants; hashable."""
    if isinstance(tree, dict):
        return tuple((name, structure(part)) for name, part in tree.items())
    if isinstance(tree, tuple):
        return (type(tree), *map(structure, tree))
    if isinstance(tree, Folded):
        return (tree.restore, *map(structure, tree.parts))
    return tree.kind if isinstance(tree, Constant) else None


def named(name: str, tree: Tree) -> Iterator[tuple[str, Any]]:
    """Yield the arrays of a tree, each with a name that tells its place: `y`, `y.target`, `x[0]`."""
    parts = _parts(tree)
    if parts is None:
        yield name, tree
        return
    for place, part in zip(_places(tree), parts, strict=True):
        yield from named(f"{name}{place}", part)


def _places(tree: Tree) -> list[str]:
    if isinstance(tree, dict):
        return [f"[{key!r}]" for key in tree]
    if isinstance(tree, Folded):
        return list(tree.places)
    fields = getattr(tree, "_fields", None)
    return [f".{field}" for field in fields] if fields else [f"[{i}]" for i in range(len(_parts(tree) or ()))]


def count(tree: Tree) -> int:
    """Return the number of samples."""
    return len(leaves(tree)[0])


def take(tree: Tree, rows: Any) -> Tree:
    """Return the samples that `rows` selects: an index, a slice or an array of indices."""
    return each(lambda array: array[rows], tree)


def with_constants(function: Callable[[Any], Any], tree: Tree) -> Tree:
    """Return the tree with `function(value)` for the value of every constant."""
    if isinstance(tree, dict):
        return {name: with_constants(function, part) for name, part in tree.items()}
    if isinstance(tree, tuple):
        parts = [with_constants(function, part) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    if isinstance(tree, Folded):
        return Folded(with_constants(function, tree.parts), tree.places, tree.restore)
    return Constant(function(tree.value), tree.kind) if isinstance(tree, Constant) else tree
