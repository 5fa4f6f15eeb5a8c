"""What a function computes with besides its arguments: its code, and the values that it finds around it.

Numbers and strings count by value, numpy arrays by their entries (of long ones, some), lists, tuples and dicts by what
is in them; functions, partial functions and objects of the caller's own package by their parts; all else, JAX arrays
among it, by identity.
"""

from __future__ import annotations

import functools
import types
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

DEEPEST, MOST_ARRAY_ENTRIES = 8, 4096
"""How far parts of parts are looked at, and how many entries of an array."""

PLAIN_TYPES = (bool, int, str, bytes, type(None))


class Closure:
    """Marks of a function at one time; equal where nothing was seen to change.

    Args:
        function: Any callable.
        constants: What it is given that is the same in each call.
    """

    def __init__(self, function: Any, constants: tuple[Any, ...] = ()) -> None:
        self._package = _package_of(function)
        self._kept: list[Any] = []  # so that no other object gets their identity
        self._seen: set[int] = set()
        self._marks = *self._of(function, 0), *self._of(constants, 0)
        self._seen.clear()

    def __eq__(self, other: object) -> bool:
        """Tell whether the marks are the same."""
        return isinstance(other, Closure) and self._marks == other._marks

    def __hash__(self) -> int:
        return hash(self._marks)

    def _of(self, value: Any, depth: int) -> Iterator[Any]:
        if isinstance(value, PLAIN_TYPES):
            yield type(value), value
            return
        if isinstance(value, float | complex):
            yield repr(value)  # NaN is the same as before
            return
        yield len(value) if type(value) is tuple else id(value)  # a tuple may be made anew at each look
        self._kept.append(value)
        if isinstance(value, np.ndarray):
            yield _digest(value)
        elif depth < DEEPEST and id(value) not in self._seen:
            self._seen.add(id(value))
            for part in self._parts(value):
                yield from self._of(part, depth + 1)

    def _parts(self, value: Any) -> Iterator[Any]:
        """Yield what a value is made of; nothing of what is known by its identity."""
        if isinstance(value, tuple | list):
            yield from value
        elif isinstance(value, dict):
            yield from value.keys()
            yield from value.values()
        elif isinstance(value, functools.partial):
            yield from (value.func, value.args, value.keywords)
        elif isinstance(value, types.MethodType):
            yield from (value.__func__, value.__self__)
        elif _package_of(value) == self._package and not isinstance(value, type | types.ModuleType):
            if isinstance(value, types.FunctionType):
                yield from _parts_of_function(value)
            elif hasattr(value, "__dict__"):
                yield vars(value)


def _parts_of_function(function: types.FunctionType) -> Iterator[Any]:
    yield from (function.__code__, function.__defaults__, function.__kwdefaults__)
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not assigned yet
            yield None
    for name in sorted(_names(function.__code__)):
        yield function.__globals__.get(name)


def _names(code: types.CodeType) -> set[str]:
    """Return the names that a code and those within it look up."""
    found = set(code.co_names)
    for one in code.co_consts:
        if isinstance(one, types.CodeType):
            found |= _names(one)
    return found


def _package_of(value: Any) -> str:
    while isinstance(value, functools.partial):
        value = value.func
    module = getattr(value, "__module__", None) or type(value).__module__
    return str(module).partition(".")[0]


def _digest(array: Any) -> tuple[Any, ...]:
    step = max(1, array.size // MOST_ARRAY_ENTRIES)
    some = array.reshape(-1)[::step] if array.flags.c_contiguous else array.flat[:MOST_ARRAY_ENTRIES]
    return array.shape, array.dtype.str, zlib.crc32(np.ascontiguousarray(some).tobytes()) if array.size else 0


def code_text(code: Any) -> Any:
    """Return what a code object does, for a fingerprint: the same in every process."""
    if code is None:
        return None
    inner = [code_text(one) if hasattr(one, "co_code") else repr(one) for one in code.co_consts]
    return code.co_code, code.co_names, inner
