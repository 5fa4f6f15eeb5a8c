"""An attribute of a module as a part of a key: plain values by value, other objects by who they are."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import count
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

DEEPEST = 3
LONGEST = 64
_PLAIN = frozenset((bool, int, str, bytes, type(None), type))
_CODE = (FunctionType, MethodType, BuiltinFunctionType, partial)
_OTHERS = (*_CODE, float, type, dict, list, tuple, set, ModuleType)
_numbers = count()
_TOKENS: dict[int, tuple[weakref.ref[Any], int]] = {}


def token(thing: Any) -> int | str:
    """A number that no other object has, or had; the name of the type where an object can have none."""
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


def described(name: str, value: Any, kind: list[Any], identities: list[Any]) -> None:
    """Add what an attribute of a module is to the kind, and who it is to the identities.

    Args:
        name: Of the attribute; `_parameters`, `_modules` and hooks are dicts among them.
        value: It.
        kind: Hashable parts that are equal for modules of one kind.
        identities: Hashable parts that are equal for the very same objects.
    """
    if isinstance(value, dict) and not value:
        return
    if name in ("_parameters", "_buffers"):
        for one, tensor in value.items():
            kind.append((name, one, None if tensor is None else _form(name, tensor)))
            if name == "_parameters":
                identities.append(None if tensor is None else token(tensor))
        return
    if name == "_modules":
        kind.append((name, tuple(value)))
        identities.append(tuple(map(token, value.values())))
        return
    kind.append((name, _plain(value, DEEPEST, False)))
    identities.append(_plain(value, DEEPEST, True))


def kind_of(value: Any) -> Any:
    """A value as a hashable part of a kind."""
    return _plain(value, DEEPEST, False)


def holdable(name: str, value: Any) -> bool:
    """Whether a reference to this attribute keeps no tensor alive that the module may let go."""
    return name in ("_parameters", "_buffers", "_modules") or not _has_tensor(value, DEEPEST)


def things(values: Iterable[Any]) -> Iterator[Any]:
    """Objects with plain attributes of their own among some values, such as a configuration."""
    for value in values:
        if type(value) in _PLAIN or isinstance(value, _OTHERS) or _is_torch(value):
            continue
        attributes = getattr(value, "__dict__", None)
        if type(attributes) is dict and attributes:
            yield value


def _is_torch(value: Any) -> bool:
    import torch

    return isinstance(value, torch.nn.Module | torch.Tensor | torch.Generator)


def _has_tensor(value: Any, deepest: int) -> bool:
    if type(value) in _PLAIN:
        return False
    import torch

    if isinstance(value, torch.Tensor):
        return not isinstance(value, torch.nn.Parameter)
    if deepest and isinstance(value, dict | list | tuple) and len(value) <= LONGEST:
        parts = value.values() if isinstance(value, dict) else value
        return any(_has_tensor(one, deepest - 1) for one in parts)
    return False


def _form(name: str, tensor: Any) -> tuple[Any, ...]:
    """Shapes of parameters; of buffers the rank, as they may grow."""
    if name == "_parameters":
        return tensor.dtype, tensor.requires_grad, tuple(tensor.shape), tensor.device
    return tensor.dtype, tensor.ndim, tensor.device


def _plain(value: Any, deepest: int, who: bool) -> Any:
    """A value as a hashable part of the kind, or where `who` of the identities."""
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
        some = list(value.items())[:LONGEST]
        return tuple((repr(name), _plain(one, deepest, who)) for name, one in some)
    if isinstance(value, set | frozenset):
        return tuple(sorted(repr(_plain(one, deepest, who)) for one in value))
    return tuple(_plain(one, deepest, who) for one in value[:LONGEST])


def _code(function: Callable[..., Any]) -> Any:
    """What a function computes by: two closures of the same lines are of one kind."""
    if isinstance(function, partial):
        more = [repr(one) for one in (*function.args, *function.keywords.items())]
        return partial, _code(function.func) if isinstance(function.func, _CODE) else token(function.func), tuple(more)
    inner = getattr(function, "__func__", function)
    return token(getattr(inner, "__code__", inner))


def _tensor(value: Any, who: bool) -> Any:
    """One that is neither parameter nor buffer: a result that is kept tells nothing, a constant who it is."""
    if not who or value.grad_fn is not None:
        return value.dtype, value.ndim
    return token(value), -1 if value.is_inference() else value._version


def _hashable(value: Any) -> bool:
    return type(value).__hash__ is not None
