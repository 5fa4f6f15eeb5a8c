"""What a loss is, however often it is made anew: the class and settings of a module, the code of a function.

Two losses with the same identity compute the same. An object of unknown kind is itself alone, and is not kept alive.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable
from functools import lru_cache, partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

MOST_ENTRIES = 4096
"""Largest number of entries by which a tensor is known, such as class weights."""

MOST_PARTS = 64
"""Longest list, tuple or dict that is known by what is in it."""

MAX_NESTING = 8
"""Deepest nesting that is looked into: a function may be bound to itself."""

_VALUES = frozenset((bool, int, float, complex, str, bytes, type(None)))


def identity(value: Any, depth: int = 0) -> Hashable:
    """Return what tells a loss, or a setting of one, from another."""
    kind = type(value)
    if kind in _VALUES:
        return kind, value
    if depth > MAX_NESTING:
        return _Same(value)
    if kind is FunctionType:
        return _of_function(value, depth + 1)
    if kind is MethodType:
        return "method", _of_function(value.__func__, depth + 1), identity(value.__self__, depth + 1)
    if isinstance(value, partial):
        parts = (value.func, value.args, value.keywords)
        return "partial", *(identity(one, depth + 1) for one in parts)
    if isinstance(value, tuple | list | dict):
        return _of_container(value, depth + 1)
    if isinstance(value, type | BuiltinFunctionType):
        return value
    if hasattr(value, "_parameters") and hasattr(value, "_modules"):
        return _of_module(value, depth + 1)
    return _of_tensor(value) if hasattr(value, "element_size") else _Same(value)


def _of_function(function: Any, depth: int) -> Hashable:
    """Return a function's code, with everything that was bound to it when it was made."""
    if not isinstance(function, FunctionType):
        return _Same(function)
    cells = tuple(_of_cell(cell, depth) for cell in function.__closure__ or ())
    defaults = identity(function.__defaults__, depth), identity(function.__kwdefaults__, depth)
    own = _Same(function) if vars(function) else None
    return "function", function.__code__, id(function.__globals__), cells, defaults, own


def _of_cell(cell: Any, depth: int) -> Hashable:
    try:
        return identity(cell.cell_contents, depth)
    except ValueError:  # it is empty as yet
        return _Same(cell)


def _of_container(value: Any, depth: int) -> Hashable:
    if len(value) > MOST_PARTS:
        return _Same(value)
    parts = value.items() if isinstance(value, dict) else value
    return (type(value), *(identity(part, depth) for part in parts))


def _of_module(module: Any, depth: int) -> Hashable:
    """Return a module's class, mode and attributes, and of what every module has, what is not empty.

    A model that a loss makes use of, such as a teacher, is itself alone.
    """
    if depth > 1 and next(module.parameters(), None) is not None:
        return _Same(module)
    usual, found = _usual(), [type(module), module.training]
    for name, one in vars(module).items():
        if name not in usual or (one and name != "training"):
            found += (name, identity(one, depth))
    return tuple(found)


@lru_cache
def _usual() -> frozenset[str]:
    from torch import nn

    return frozenset(vars(nn.Module()))


def _of_tensor(tensor: Any) -> Hashable:
    kind = tensor.dtype, tuple(tensor.shape), tensor.device
    if (
        tensor.requires_grad
        or tensor.numel() > MOST_ENTRIES
        or tensor.device.type != "cpu"
        or str(tensor.layout) != "torch.strided"
    ):
        return *kind, -1 if tensor.is_inference() else tensor._version, _Same(tensor)
    try:
        return *kind, tuple(tensor.detach().flatten().tolist())
    except RuntimeError:  # while a computation is recorded it has no entries
        return *kind, _Same(tensor)


class _Same:
    """An object that is equal to nothing but itself, held weakly where it can be."""

    __slots__ = ("_held", "_key")

    def __init__(self, value: Any) -> None:
        self._key = id(value)
        try:
            self._held: Any = weakref.ref(value)
        except TypeError:
            self._held = partial(_itself, value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and (mine := self._held()) is not None and mine is other._held()

    def __hash__(self) -> int:
        return self._key


def _itself(value: Any) -> Any:
    return value
