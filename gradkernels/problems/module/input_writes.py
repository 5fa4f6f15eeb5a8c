"""Models and losses that write to what they are given: they get copies, so that the caller's inputs stay as they are.

Found out where a model is looked at on a few samples, on copies; known as long as the model lives.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gradkernels.problems.module.structure import Module
from gradkernels.tree import Tree, constants, each, leaves, named, with_constants

_WRITERS: weakref.WeakSet[Module] = weakref.WeakSet()

WROTE = (
    "the model or loss_fn wrote to {name}, which it had not done on the samples that it was looked at with, so that "
    "the caller's own tensor was changed; make it anew and call again: from now on the model is given copies"
)


def protected(model: Module, tree: Tree) -> Tree:
    """Return the tree, or for a model that writes to what it is given a copy."""
    return cloned(tree) if model in _WRITERS else tree


def cloned(tree: Tree) -> Tree:
    """Copy the tensors of a tree, and those among its constants."""
    return with_constants(lambda value: value.clone() if hasattr(value, "is_inference") else value, each(_copy, tree))


def _copy(tensor: Any) -> Any:
    return tensor.clone()


def write_counts(tree: Tree) -> list[int]:
    """Count how often each tensor of a tree was written to, its constants last; -1 where torch does not count."""
    return counts_of(tensors_in(tree))


def tensors_in(tree: Tree) -> list[Any]:
    """Return the tensors of a tree, its constants last."""
    if type(tree) is tuple and all(hasattr(part, "is_inference") for part in tree):
        return [*tree]
    return [one for one in (*leaves(tree), *constants(tree)) if hasattr(one, "is_inference")]


def counts_of(tensors: list[Any]) -> list[int]:
    """Count how often each tensor was written to; -1 where torch does not count."""
    return [-1 if one.is_inference() else one._version for one in tensors]


def require_unwritten(model: Module, before: list[int], x: Tree, y: Tree, given: Tree | None) -> None:
    """Raise a ValueError where a model has written to the caller's inputs; it gets copies from then on.

    Args:
        model: It.
        before: `write_counts((x, y))` before it was called.
        x: Inputs.
        y: Targets.
        given: Memory for the result, which may be counted together with an input where both are of one tensor.
    """
    mine = {leaf.untyped_storage().data_ptr() for leaf in leaves(given)} if given is not None else set()
    known = [(name, leaf.untyped_storage().data_ptr()) for name, leaf in (*named("x", x), *named("y", y))]
    known += [("a shared tensor", None)] * (len(before) - len(known))
    for (name, memory), was, now in zip(known, before, write_counts((x, y)), strict=True):
        if was != now and memory not in mine:
            _WRITERS.add(model)
            raise ValueError(WROTE.format(name=name))


def share_input_writes(model: Module, other: Module) -> None:
    """Give a copy or a part of a model copies where the model gets them."""
    if model in _WRITERS:
        _WRITERS.add(other)


@contextmanager
def recording_writes(model: Module, *data: Tree) -> Iterator[tuple[Tree, ...]]:
    """Lend copies of x and y; a model that has written to them gets copies from then on."""
    mine = tuple(map(cloned, data))
    before = write_counts(mine)
    try:
        yield mine
    finally:
        if write_counts(mine) != before:
            _WRITERS.add(model)
