"""Messages between a supervisor and its workers: frozen dataclasses, one line of JSON each.

A kernel may write into the pipe that its process reports through. So a line is a message only if it has the fields
of its class, each of the type that is declared there: numbers, texts (also a StrEnum), tuples, dicts by name, other
dataclasses, and unions of these.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, is_dataclass
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

_NAME = "message"
M = TypeVar("M")


@dataclass(frozen=True)
class Finished:
    """The worker has done all that it had to do."""


@dataclass(frozen=True)
class Unusable:
    """Nothing more can be done in the worker; see `WorkerUnusable`."""

    status: str
    reason: str


def encode(message: Any) -> bytes:
    """Return a message as one line of JSON, with the name of its class."""
    return json.dumps({_NAME: type(message).__name__, **asdict(message)}).encode() + b"\n"


def decode(line: bytes, kinds: tuple[type[M], ...]) -> M:
    """Return the message that `encode` made a line of.

    Args:
        line: What was read.
        kinds: The classes that it may be of.

    Raises:
        ValueError: It is none of them, or a field is missing, unknown or of another type.
    """
    try:
        fields: dict[str, Any] = json.loads(line)
        kind = {each.__name__: each for each in kinds}[fields.pop(_NAME)]
        message: M = _as(kind, fields)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError(f"no message: {error}") from error
    return message


@cache
def _types(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _as(kind: Any, value: Any) -> Any:
    """Return `value`, as JSON has it, as an instance of a declared type."""
    if kind is Any:
        return value
    if get_origin(kind) in (Union, UnionType):
        return _as_one_of(get_args(kind), value)
    if get_origin(kind) is tuple:
        return _as_tuple(get_args(kind), value)
    if get_origin(kind) is dict:
        return {_as(str, name): _as(get_args(kind)[1], each) for name, each in value.items()}
    if is_dataclass(kind):
        return _as_fields(kind, value)
    if issubclass(kind, Enum):
        return kind(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _as_fields(kind: Any, values: dict[str, Any]) -> Any:
    types = _types(kind)
    return kind(**{name: _as(types[name], value) for name, value in values.items()})


def _as_one_of(kinds: tuple[Any, ...], value: Any) -> Any:
    for kind in kinds:
        try:
            return _as(kind, value)
        except (ValueError, TypeError, LookupError, AttributeError):
            continue
    raise TypeError(f"{value!r} is none of {kinds}")


def _as_tuple(kinds: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    if kinds[1:] == (...,):
        kinds = (kinds[0],) * len(value)
    return tuple(_as(kind, each) for kind, each in zip(kinds, value, strict=True))
