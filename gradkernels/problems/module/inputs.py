"""What people pass to a model, as trees: constants beside the samples, containers of any kind, data without targets.

`prepare` makes the trees that all kernels work on, of which samples can be taken; `unfolded` makes of those, for a
batch of any size, what the model and the loss are called with.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

import numpy as np

from gradkernels.tree import Constant, Folded, Tree, each, leaves

SharedPlaces = Sequence[str | int]
"""Names of dict entries, or positions in a tuple, that are the same for all samples."""


def prepare(x: Tree, y: Tree, shared: SharedPlaces = ()) -> tuple[Tree, Tree]:
    """Make x and y trees whose arrays all have the samples first; return the same where they are like that already.

    None, flags, numbers, strings and lists of them, and what `shared` names, are constants; a `PackedSequence` becomes
    its padded sequences and their lengths. Tensors are taken out of the graphs that they come from. Where y has no
    arrays, it gets one without entries, so that it can be counted.

    Args:
        x: Inputs as the caller has them.
        y: Targets as the caller has them.
        shared: What of x is the same for all samples.

    Raises:
        ValueError: `shared` names what x does not have.
    """
    if _is_plain(x) and _is_plain(y) and not shared:
        return x, y
    _register()
    x = _shared(x, shared) if shared else x
    x, y = (each(_detached, _top(one)) for one in (x, y))
    arrays = leaves(x)
    if not leaves(y) and arrays and hasattr(arrays[0], "new_empty") and arrays[0].ndim:
        y = Folded((arrays[0].new_empty((len(arrays[0]), 0)),), ("",), _Without(y))
    return x, y


def _is_plain(tree: Tree) -> bool:
    """Tell whether a tree is a tensor, or a dict or tuple of them, that comes from no graph."""
    import torch

    if type(tree) is torch.Tensor:
        return not tree.requires_grad
    if type(tree) is dict:
        return bool(tree) and all(type(one) is torch.Tensor and not one.requires_grad for one in tree.values())
    return (
        type(tree) is tuple and bool(tree) and all(type(one) is torch.Tensor and not one.requires_grad for one in tree)
    )


def _detached(leaf: Any) -> Any:
    return leaf.detach() if getattr(leaf, "requires_grad", False) else leaf


def unfolded(tree: Tree) -> Any:
    """Restore what the caller gave, of the samples that the tree has."""
    if isinstance(tree, Constant):
        return tree.value
    if isinstance(tree, Folded):
        return tree.restore(tuple(unfolded(part) for part in tree.parts))
    if isinstance(tree, dict):
        return {name: unfolded(part) for name, part in tree.items()}
    if isinstance(tree, tuple):
        parts = [unfolded(part) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree


def call_model(model: Any, x: Tree) -> Any:
    """Call the model with x, *x or **x."""
    from gradkernels.problems.module import differentiable

    given = unfolded(x)
    with differentiable.parts_of(model):
        if isinstance(x, dict):
            return model(**given)
        return model(*given) if isinstance(x, tuple) else model(given)


def _shared(x: Tree, shared: SharedPlaces) -> Tree:
    """Make constants of the arguments of x that `shared` names."""
    if isinstance(x, Mapping):
        given: dict[Any, Any] = dict(x)
    elif isinstance(x, tuple):
        given = dict(enumerate(x))
    else:
        raise ValueError(f"shared={list(shared)!r}, but x is one {type(x).__name__}; make it a tuple or a dict")
    if unknown := [name for name in shared if name not in given]:
        raise ValueError(f"shared names {unknown[0]!r}, which x does not have; it has {list(given)}")
    marked = {name: constant(part) if name in shared else part for name, part in given.items()}
    return marked if isinstance(x, Mapping) else tuple(marked.values())


def constant(value: Any) -> Constant:
    """Mark a value as the same for all samples."""
    if isinstance(value, Constant):
        return value
    kind: Hashable = (type(value), *(getattr(value, name, None) for name in ("shape", "dtype", "device")))
    # A number may be another one at each step, as a temperature is; kernels read it, like the entries of tensors.
    if not hasattr(value, "dtype") and type(value) not in (int, float):
        try:
            hash(value)
            kind = (type(value), value)
        except TypeError:
            kind = (type(value), repr(value))
    return Constant(value, kind)


def _top(tree: Any) -> Tree:
    """Make a tree of x or y, whose mappings are dicts: the model is called with their entries by name.

    What has nothing but constants in it is no data: it is left to be refused, but for None.
    """
    if isinstance(tree, Mapping) and not isinstance(tree, dict):
        tree = dict(tree)
    folded = _folded(tree)
    return tree if isinstance(folded, Constant) and tree is not None else folded


def _folded(tree: Any) -> Tree:
    """Make a tree of anything, and return what is no tree as it is."""
    import torch
    from torch.nn.utils.rnn import PackedSequence

    if isinstance(tree, torch.Tensor | Constant | Folded):
        return tree
    if tree is None or isinstance(tree, _values()):
        return constant(tree)
    if isinstance(tree, PackedSequence):
        return _padded(tree)
    if isinstance(tree, dict | tuple | list) and not _made_known(type(tree)):
        return _of_parts(tree)
    if isinstance(tree, Mapping):
        names = tuple(tree)
        restore = _Named(type(tree), names)
        return Folded(tuple(map(_folded, tree.values())), tuple(f"[{name!r}]" for name in names), restore)
    return _of_node(tree) if _made_known(type(tree)) else tree


def _of_parts(tree: Any) -> Tree:
    """Make trees of what is in a dict, tuple or list, or one constant where nothing else is in it."""
    values = tree.values() if isinstance(tree, dict) else tree
    parts = [_folded(part) for part in values]
    if all(isinstance(part, Constant) for part in parts):
        return constant(tree)
    if isinstance(tree, dict):
        return dict(zip(tree, parts, strict=True))
    if isinstance(tree, tuple):
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return Folded(tuple(parts), tuple(f"[{i}]" for i in range(len(parts))), list)


def _of_node(tree: Any) -> Folded:
    """Take a container apart that torch knows how to take apart."""
    from torch.utils import _pytree as pytree

    parts, spec = pytree.tree_flatten(tree, is_leaf=lambda one: one is not tree)
    return Folded(tuple(map(_folded, parts)), tuple(f"[{i}]" for i in range(len(parts))), _Node(type(tree), spec))


def _made_known(kind: type) -> bool:
    """Tell whether a class of containers was made known to torch, besides Python's own."""
    from torch.utils import _pytree as pytree

    return kind.__module__ not in ("builtins", "collections") and kind in pytree.SUPPORTED_NODES


def _padded(sequences: Any) -> Folded:
    """Make of a PackedSequence its sequences, padded, and their lengths."""
    from torch.nn.utils.rnn import pad_packed_sequence

    padded, lengths = pad_packed_sequence(sequences, batch_first=True)
    return Folded((padded, lengths.to(padded.device)), (" (padded)", " (lengths)"), _packed_again)


def _packed_again(parts: tuple[Any, ...]) -> Any:
    from torch.nn.utils.rnn import pack_padded_sequence

    padded, lengths = parts
    return pack_padded_sequence(padded, lengths.cpu(), batch_first=True, enforce_sorted=False)


@dataclass(frozen=True)
class _Named:
    """Restores a mapping of a class of its own, such as a BatchEncoding."""

    kind: type
    names: tuple[Any, ...]

    def __call__(self, parts: tuple[Any, ...]) -> Any:
        return self.kind(dict(zip(self.names, parts, strict=True)))


@dataclass(frozen=True, eq=False)
class _Node:
    """Restores a container that torch knows."""

    kind: type
    spec: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Node) and self.spec == other.spec

    def __hash__(self) -> int:
        return hash(self.kind)

    def __call__(self, parts: tuple[Any, ...]) -> Any:
        return self.spec.unflatten(parts)


@dataclass(frozen=True)
class _Without:
    """Restores what has no arrays, whatever was put there to count samples by."""

    tree: Tree

    def __call__(self, parts: tuple[Any, ...]) -> Any:
        return unfolded(self.tree)


@lru_cache
def _values() -> tuple[type, ...]:
    """Return the classes of what is the same for all samples."""
    import torch

    python = (bool, int, float, complex, str, bytes, type, range, slice, Enum, type(Ellipsis))
    return (*python, np.generic, torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format)


@lru_cache
def _register() -> None:
    """Tell torch how to take constants and folded containers apart, so that vmap goes through them."""
    from torch.utils import _pytree as pytree

    def split(tree: Folded) -> tuple[list[Tree], tuple[tuple[str, ...], Callable[..., Any]]]:
        return list(tree.parts), (tree.places, tree.restore)

    pytree.register_pytree_node(Constant, lambda one: ([], one), lambda _, one: one)
    pytree.register_pytree_node(Folded, split, lambda parts, rest: Folded(tuple(parts), *rest))
