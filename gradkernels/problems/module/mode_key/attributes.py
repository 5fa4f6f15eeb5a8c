"""An attribute of a module as a part of a key: plain values by value, other objects by who they are."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import count, islice
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

MAX_DEPTH = 3
MAX_MEMBERS = 64
_PLAIN = frozenset((bool, int, str, bytes, type(None), type))
_CODE = (FunctionType, MethodType, BuiltinFunctionType, partial)
_OTHERS = (*_CODE, float, type, dict, list, tuple, set, ModuleType)
_TORCHS = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")
_WEIGHTS = ("_flat_weights", "_flat_weights_names", "_flat_weight_refs", "_all_weights")
"""Attributes of recurrent layers that hold their parameters and their names once more."""

_SMALL = 256
"""The largest number of which Python has one object alone."""

_numbers = count()
_TOKENS: dict[int, tuple[weakref.ref[Any], int]] = {}


def token(thing: Any) -> int | str:
    """Return a number that no other object has, or had; the name of the type where an object can have none."""
    found = _TOKENS.get(id(thing))
    if found is not None and found[0]() is thing:
        return found[1]
    place = id(thing)
    try:
        known = weakref.ref(thing, lambda gone: _forget(place, gone))
    except TypeError:
        return type(thing).__qualname__
    number = next(_numbers)
    _TOKENS[place] = known, number
    return number


def _forget(place: int, gone: weakref.ref[Any]) -> None:
    found = _TOKENS.get(place)
    if found is not None and found[0] is gone:
        del _TOKENS[place]


Path = tuple[Any, ...]
"""Name of an attribute, and the keys or places that lead to a part of it."""

AttributePart = tuple[Path, Any, Any]
"""A part of an attribute: where it is, what it is, and who it is; all hashable, equal for parts that are alike, or the
very same."""


def attribute_parts(name: str, attributes: dict[str, Any]) -> Iterator[AttributePart]:
    """Take an attribute of a module apart into what may change one by one; what leads to a part comes before it.

    Args:
        name: Of the attribute; `_parameters`, `_modules` and hooks are dicts among them.
        attributes: Of the module.
    """
    value = attributes[name]
    if isinstance(value, dict) and not value and name.startswith("_"):
        return
    if name in ("_parameters", "_buffers"):
        for one, tensor in value.items():
            who = token(tensor) if name == "_parameters" and tensor is not None else None
            yield (name, repr(one)), None if tensor is None else _form(name, tensor), who
    elif name == "_modules":
        yield (name,), tuple(value), tuple(map(token, value.values()))
    elif "_hooks" in name and isinstance(value, dict):
        # Their keys are numbers that no other hook had, so that the same hook would be another one each time.
        owner = attributes.get(name.removesuffix("_with_kwargs").removesuffix("_always_called"), value)
        places = {key: place for place, key in enumerate(owner)}
        kinds = tuple((places.get(key), _plain(one, MAX_DEPTH, False)) for key, one in value.items())
        yield (name,), kinds, _plain(value, MAX_DEPTH, True)
    else:
        yield from _parts((name,), value, MAX_DEPTH)


def _parts(path: Path, value: Any, deepest: int) -> Iterator[AttributePart]:
    if not deepest or not isinstance(value, dict | list | tuple):
        kind = _plain(value, deepest, False)
        yield path, kind, None if type(value) in _PLAIN or isinstance(value, float) else _plain(value, deepest, True)
        return
    if isinstance(value, dict):
        members = [(repr(key), one) for key, one in islice(value.items(), MAX_MEMBERS)]
        yield path, (type(value), len(value), tuple(key for key, _ in members)), None
    else:
        members = [(str(place), one) for place, one in enumerate(value[:MAX_MEMBERS])]
        yield path, (type(value), len(value)), None
    for key, one in members:
        yield from _parts((*path, key), one, deepest - 1)


def contents(values: Iterable[Any], deepest: int = MAX_DEPTH) -> list[Any]:
    """List what is in containers and in those in them, with lengths: the same objects while nothing changes."""
    found: list[Any] = []
    for value in values:
        if isinstance(value, dict | list | tuple | set):
            members = [*islice(value, MAX_MEMBERS)]
            if isinstance(value, dict):
                members += islice(value.values(), MAX_MEMBERS)
            found += [min(len(value), _SMALL), *members]
            if deepest > 1:
                found += contents(members, deepest - 1)
    return found


def is_mutable_container(name: str, value: Any, deepest: int = MAX_DEPTH) -> bool:
    """Tell whether an attribute is a container that can change and stay the same object, besides torch's own.

    Args:
        name: Of the attribute.
        value: What it holds.
        deepest: How many containers within containers are looked into.
    """
    if name in _TORCHS or name in _WEIGHTS or "_hooks" in name:
        return False
    if isinstance(value, tuple):
        return deepest > 1 and any(is_mutable_container("", one, deepest - 1) for one in value[:MAX_MEMBERS])
    return isinstance(value, dict | list | set)


def value_kind(value: Any) -> Any:
    """Return a value as a hashable part of a kind."""
    return _plain(value, MAX_DEPTH, False)


def description(value: Any) -> Any:
    """Return what a value is, and who: hashable, and another one where a container or a tensor was written to."""
    return value_kind(value), _plain(value, MAX_DEPTH, True)


def is_code(what: Any) -> bool:
    """Tell whether a part of a kind is that of a function: what is computed depends on it, however many there were."""
    return type(what) is int or (type(what) is tuple and what[:1] == (partial,))


def is_safe_to_hold(name: str, value: Any) -> bool:
    """Tell whether a reference to this attribute keeps no tensor alive that the module may let go."""
    return name in _TORCHS or not _has_tensor(value, MAX_DEPTH)


def has_plain_attributes(value: Any) -> bool:
    """Tell whether an object has plain attributes of its own, as a configuration has, and is none of torch's."""
    if type(value) in _PLAIN or isinstance(value, _OTHERS) or _is_torch(value):
        return False
    attributes = getattr(value, "__dict__", None)
    return type(attributes) is dict and bool(attributes)


def _is_torch(value: Any) -> bool:
    import torch

    return isinstance(value, torch.nn.Module | torch.Tensor | torch.Generator)


def _has_tensor(value: Any, deepest: int) -> bool:
    if type(value) in _PLAIN:
        return False
    import torch

    if isinstance(value, torch.Tensor):
        return not isinstance(value, torch.nn.Parameter)
    if deepest and isinstance(value, dict | list | tuple | set):
        parts = value.values() if isinstance(value, dict) else value
        return any(_has_tensor(one, deepest - 1) for one in islice(parts, MAX_MEMBERS))
    return False


def _form(name: str, tensor: Any) -> tuple[Any, ...]:
    """Return the shape of a parameter; of a buffer the rank, as it may grow."""
    if name == "_parameters":
        return tensor.dtype, tensor.requires_grad, tuple(tensor.shape), tensor.device
    return tensor.dtype, tensor.ndim, tensor.device


def _plain(value: Any, deepest: int, who: bool) -> Any:
    """Return a value as a hashable part of the kind, or where `who` of the identities."""
    if type(value) in _PLAIN:
        return (type(value), value)
    if isinstance(value, float | complex):
        return repr(value)
    if isinstance(value, dict | list | tuple | set | frozenset):
        return type(value), len(value), _members(value, deepest - 1, who) if deepest else ()
    if isinstance(value, _CODE):
        return token(value) if who else _code(value)
    import torch

    if isinstance(value, torch.Tensor):
        return _tensor(value, who)
    if who:
        return token(value)
    return value if type(value).__module__ == "torch" and _hashable(value) else type(value)


def _members(value: Any, deepest: int, who: bool) -> Any:
    if isinstance(value, dict):
        some = list(value.items())[:MAX_MEMBERS]
        return tuple((repr(name), _plain(one, deepest, who)) for name, one in some)
    if isinstance(value, set | frozenset):
        return tuple(sorted(repr(_plain(one, deepest, who)) for one in value))
    return tuple(_plain(one, deepest, who) for one in value[:MAX_MEMBERS])


def _code(function: Callable[..., Any]) -> Any:
    """Return what a function computes by: two closures of the same lines are of one kind."""
    if isinstance(function, partial):
        more = [repr(one) for one in (*function.args, *function.keywords.items())]
        return partial, _code(function.func) if isinstance(function.func, _CODE) else token(function.func), tuple(more)
    inner = getattr(function, "__func__", function)
    return token(getattr(inner, "__code__", inner))


def _tensor(value: Any, who: bool) -> Any:
    """Return what is known of one that is neither parameter nor buffer: its identity only where it is a constant."""
    if not who or value.grad_fn is not None:
        return value.dtype, value.ndim
    return token(value), -1 if value.is_inference() else value._version


def _hashable(value: Any) -> bool:
    return type(value).__hash__ is not None
