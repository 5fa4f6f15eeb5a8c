"""Models and losses that write to what they are given: they get copies, so that the caller's inputs stay as they are.

Found out where a model is looked at on a few samples, on copies; known as long as the model lives.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gradkernels.problems.structure import Module
from gradkernels.tree import Tree, constants, each, leaves, with_constants

_WRITERS: weakref.WeakSet[Module] = weakref.WeakSet()

WROTE = (
    "the model or loss_fn wrote to {name}, which it had not done on the samples that it was looked at with, so that "
    "the caller's own tensor was changed; make it anew and call again: from now on the model is given copies"
)


def spared(model: Module, tree: Tree) -> Tree:
    """The tree, or for a model that writes to what it is given a copy."""
    return copied(tree) if model in _WRITERS else tree


def copied(tree: Tree) -> Tree:
    """The tree with copies of its tensors, and of those among its constants."""
    return with_constants(lambda value: value.clone() if hasattr(value, "is_inference") else value, each(_copy, tree))


def _copy(tensor: Any) -> Any:
    return tensor.clone()


def versions(tree: Tree) -> list[int]:
    """How often each tensor of a tree was written to, its constants last; -1 where torch does not count."""
    tensors = [*leaves(tree), *constants(tree)]
    return [-1 if one.is_inference() else one._version for one in tensors if hasattr(one, "is_inference")]


def noted(model: Module) -> None:
    """Give the model copies from now on."""
    _WRITERS.add(model)


def as_for(model: Module, other: Module) -> None:
    """Give a copy or a part of a model copies where the model gets them."""
    if model in _WRITERS:
        _WRITERS.add(other)


@contextmanager
def looked_for(model: Module, *data: Tree) -> Iterator[tuple[Tree, ...]]:
    """A context with copies of x and y; a model that has written to them gets copies from then on."""
    mine = tuple(map(copied, data))
    before = versions(mine)
    try:
        yield mine
    finally:
        if versions(mine) != before:
            noted(model)
