"""What the code of a model and its loss reads besides attributes of modules, which may change between two calls.

Globals, variables of enclosing functions, attributes of classes, of objects that a method is bound to, or that a name
leads to. Only names that the code mentions are followed, and no code of installed packages.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from itertools import chain
from operator import is_
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from gradkernels.problems.module.mode_key.attributes import MAX_DEPTH, description

_LIBRARIES = frozenset((*sys.stdlib_module_names, "torch", "numpy", "gradkernels")) - {"__main__"}

MOST_LOOKED_UP = 512
"""Names that are looked up at each call; where there are more, code is followed no further."""

_CODE = (FunctionType, MethodType, partial, classmethod, staticmethod, property)
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
Attributes = Mapping[str, Any]
Names = frozenset[str]


class OuterValues:
    """The values that code reads from elsewhere.

    Args:
        objects: Attributes and class of each module, and of whatever else is known by its attributes.
        functions: That are none of these attributes, such as a loss.

    Attributes:
        description: Of all values, hashable.
    """

    def __init__(self, objects: Sequence[tuple[Attributes, type]], functions: Sequence[Any] = ()) -> None:
        self._seen = set[int]()
        self._places: dict[tuple[int, str], tuple[Attributes, str]] = {}
        self._cells: list[Any] = []
        self._attached = _attached([one for one, _ in objects])
        for attributes, kind in objects:
            self._follow_class(kind, attributes)
        for function in (*functions, *self._attached):
            self._follow(function)
        self._look(self._now())

    def same(self) -> bool:
        """Return whether nothing has changed."""
        now = self._now()
        return all(map(is_, now, self._values)) and [*map(description, self._mutable)] == self._inner

    def refresh(self, attributes: Sequence[Attributes]) -> bool:
        """Take in what has changed; return whether nothing leads elsewhere, so that all was to be found anew.

        Args:
            attributes: Of each object.
        """
        attached, now = _attached(attributes), self._now()
        changed = [both for both in zip(now, self._values, strict=True) if both[0] is not both[1]]
        if len(attached) != len(self._attached) or not all(map(is_, attached, self._attached)):
            return False
        if not all(isinstance(one, _PLAIN) for both in changed for one in both):
            return False
        self._look(now)
        return True

    def _look(self, now: list[Any]) -> None:
        self._values = now
        self._mutable = [one for one in now if isinstance(one, dict | list | tuple | set) or _is_tensor(one)]
        self._inner = [*map(description, self._mutable)]
        self.description = tuple(map(description, now))

    def _now(self) -> list[Any]:
        return [*(where.get(name) for where, name in self._places.values()), *map(_content, self._cells)]

    def _follow_class(self, kind: type, attributes: Attributes) -> None:
        """Follow the methods of a class that is no library's, as those of an object with these attributes."""
        bases = [vars(base) for base in kind.__mro__ if not _is_of_library(base)]
        self._places |= {(id(where), "forward"): (where, "forward") for where in bases}  # also where it has none as yet
        done, mentioned = set[str](), {"forward", "__call__"}
        while bases and (more := mentioned - done):
            done |= more
            for where in bases:
                for value in (where[name] for name in more & where.keys()):
                    if isinstance(value, _CODE):
                        self._follow(value, (where, attributes))
                        mentioned |= _names(inner.__code__) if (inner := _inner_function(value)) else set()

    def _follow(self, function: Any, more: Sequence[Attributes] = ()) -> None:
        """Follow what a function reads.

        Args:
            function: Whatever is called.
            more: Attributes that its code may mention besides.
        """
        if isinstance(function, partial):
            for one in (function.func, *function.args, *function.keywords.values()):
                self._follow(one)
            return
        owner, inner = getattr(function, "__self__", None), _inner_function(function)
        if inner is None:
            self._reach_into(function, frozenset(), MAX_DEPTH)
        elif not _is_of_library(inner):
            names = _names(inner.__code__)
            self._reach_into(owner, names, MAX_DEPTH)
            for where in more:
                self._reach(where, names, MAX_DEPTH)
            if id(inner) not in self._seen:
                self._seen.add(id(inner))
                self._follow_bound(inner, names)

    def _follow_bound(self, function: FunctionType, names: Names) -> None:
        """Follow what names of a function were bound to where it was made."""
        self._reach(function.__globals__, names, MAX_DEPTH)
        for cell in function.__closure__ or ():
            self._cells.append(cell)
            self._reach_into(_content(cell), names, MAX_DEPTH)

    def _reach(self, where: Attributes, names: Names, deepest: int) -> None:
        """Note the values that some names have, and what these lead to."""
        for name in names & where.keys() if deepest and len(self._places) < MOST_LOOKED_UP else ():
            value = where[name]
            if not isinstance(value, ModuleType | type) and not (callable(value) and _is_of_library(value)):
                self._places[id(where), name] = where, name
            self._reach_into(value, names, deepest - 1)

    def _reach_into(self, value: Any, names: Names, deepest: int) -> None:
        """Follow a function, or the attributes of a module of Python, a class or an object that names mention."""
        if isinstance(value, _CODE):
            self._follow(value)
        elif isinstance(getattr(value, "__dict__", None), Mapping) and not hasattr(value, "_parameters"):
            if isinstance(value, ModuleType | type) and _is_of_library(value):
                return
            self._reach(vars(value), names, deepest)
            if callable(value) and not isinstance(value, type) and id(value) not in self._seen:
                self._seen.add(id(value))
                self._follow(value.__call__)


def _attached(attributes: Sequence[Attributes]) -> list[Any]:
    """Return the functions among attributes and hooks."""
    values = [*chain.from_iterable(one.values() for one in attributes)]
    # Torch's own are dicts; a model may have a flag of such a name.
    among = ((name, one) for many in attributes for name, one in many.items())
    hooks = [one.values() for name, one in among if "_hooks" in name and isinstance(one, Mapping)]
    return [one for one in chain(values, *hooks) if isinstance(one, _CODE)]


def _inner_function(function: Any) -> FunctionType | None:
    for name in ("__func__", "fget"):
        function = getattr(function, name, function)
    return function if isinstance(function, FunctionType) else None


@lru_cache(maxsize=1024)
def _names(code: CodeType) -> Names:
    """Return the names that code mentions, and the functions in it."""
    return frozenset(code.co_names).union(*(_names(one) for one in code.co_consts if isinstance(one, CodeType)))


def _is_of_library(value: Any) -> bool:
    """Return whether a function, class or module of Python is of a library that does not change as a program runs."""
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return isinstance(name, str) and _is_installed(name.partition(".")[0])


@lru_cache(maxsize=1024)
def _is_installed(package: str) -> bool:
    """Return whether a package is one of Python's own or an installed one."""
    where = str(getattr(sys.modules.get(package), "__file__", None) or "")
    return package in _LIBRARIES or not {"site-packages", "dist-packages"}.isdisjoint(Path(where).parts)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "element_size")


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty as yet
        return None
