"""What a model holds besides its submodules: modules and objects with attributes, in lists, tuples and dicts too.

`self.blocks = [nn.Linear(4, 4)]` hides a module from `modules()`, but not from the forward pass.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from gradkernels.problems.module.mode_key.attributes import MAX_DEPTH, MAX_MEMBERS, has_plain_attributes, token

MOST_MODULES = 1024
"""Members of a container among which modules are looked for; other objects are among the first `MAX_MEMBERS`."""

_CONTAINERS = (dict, list, tuple, set, frozenset)
_OTHERWISE = ("_modules", "_parameters", "_buffers")
"""Attributes of modules in which nothing else is looked for."""


class HeldObject(NamedTuple):
    """A module or an object whose attributes count.

    Attributes:
        it: The module or object.
        name: What no other is called; an object's is that of its place, so that one that is new at each step is known.
        leads: Whether objects that it holds count too, and not modules alone: objects of objects lead anywhere.
    """

    it: Any
    name: Hashable
    leads: bool


def all_held(roots: Collection[Any]) -> list[HeldObject]:
    """List the roots, their submodules, and whatever these hold, each once."""
    found: dict[int, HeldObject] = {}
    waiting = deque(HeldObject(one, token(one), True) for one in _with_submodules(*roots))
    while waiting:
        owner = waiting.popleft()
        if id(owner.it) not in found:
            found[id(owner.it)] = owner
            for place, one in enumerate(held_by(vars(owner.it), owner.leads)):
                if is_module(one):
                    waiting += (HeldObject(module, token(module), True) for module in one.modules())
                else:
                    waiting.append(HeldObject(one, (owner.name, place), False))
    return [*found.values()]


def held_by(attributes: dict[str, Any], leads: bool) -> Iterator[Any]:
    """Yield the modules among some attributes, and in containers among them; neither submodules as such nor hooks.

    Args:
        attributes: Of a module or an object.
        leads: Whether objects with attributes of their own, such as a configuration, are yielded too.
    """
    for name, value in attributes.items():
        if name not in _OTHERWISE and not ("_hooks" in name and isinstance(value, dict)):
            yield from _held_in(value, leads, MAX_DEPTH)


def is_module(value: Any) -> bool:
    """Tell whether a value is one of torch's modules, and not a function with the attributes of one that it wraps."""
    return hasattr(type(value), "named_modules") and hasattr(value, "_modules")


def _held_in(value: Any, leads: bool, deepest: int) -> Iterator[Any]:
    if isinstance(value, _CONTAINERS):
        members = value.values() if isinstance(value, dict) else value
        for place, one in enumerate(islice(members, MOST_MODULES) if deepest else ()):
            yield from _held_in(one, leads and place < MAX_MEMBERS, deepest - 1)
    elif is_module(value) or (leads and has_plain_attributes(value)):
        yield value


def _with_submodules(*values: Any) -> Iterator[Any]:
    for value in values:
        yield from value.modules() if is_module(value) else (value,)
