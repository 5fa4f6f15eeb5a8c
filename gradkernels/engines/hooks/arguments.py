"""The arguments of a call of a torch function, found again by their path: an index or a name, then those inside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from gradkernels.backend import Array

ArgPath = tuple[Any, ...]
"""Keys that lead to an argument: an index or a name, then further ones inside lists, tuples and dicts."""


def walk_arguments(arguments: Any, place: ArgPath = ()) -> Iterator[tuple[ArgPath, Any]]:
    """Yield everything in `arguments` that is no list, tuple or dict, with its path."""
    if isinstance(arguments, dict):
        for name, value in arguments.items():
            yield from walk_arguments(value, (*place, name))
    elif isinstance(arguments, list | tuple):
        for index, value in enumerate(arguments):
            yield from walk_arguments(value, (*place, index))
    else:
        yield place, arguments


def replace_arguments(arguments: Any, values: Mapping[ArgPath, Any], place: ArgPath = ()) -> Any:
    """Return `arguments` with other values at some paths.

    Args:
        arguments: Lists, tuples and dicts, one in the other.
        values: What comes instead, by path.
        place: Path of `arguments` itself.
    """
    if isinstance(arguments, dict):
        return {name: replace_arguments(value, values, (*place, name)) for name, value in arguments.items()}
    if isinstance(arguments, list | tuple):
        parts = [replace_arguments(value, values, (*place, index)) for index, value in enumerate(arguments)]
        return parts if isinstance(arguments, list) else tuple(parts)
    return values.get(place, arguments)


def bind_by_name(names: tuple[str, ...], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name.

    Args:
        names: Of the parameters by position.
        args: Arguments by position.
        kwargs: Arguments by name.
    """
    return {**dict(zip(names, args, strict=False)), **kwargs}


_ARGS = tuple(("args", at) for at in range(8))


def tensor_arguments(args: Any, kwargs: Any) -> list[tuple[ArgPath, Array]]:
    """Return the tensors among arguments, with their paths."""
    found: list[tuple[ArgPath, Array]] = []
    for at, value in enumerate(args):
        if isinstance(value, torch.Tensor):
            found.append((_ARGS[at] if at < len(_ARGS) else ("args", at), value))
        elif isinstance(value, list | tuple | dict):
            found += _inside(("args", at), value)
    for name, value in kwargs.items() if kwargs else ():
        if isinstance(value, torch.Tensor):
            found.append((("kwargs", name), value))
        elif isinstance(value, list | tuple | dict):
            found += _inside(("kwargs", name), value)
    return found


def _inside(place: ArgPath, value: Any) -> list[tuple[ArgPath, Array]]:
    return [(at, one) for at, one in walk_arguments(value, place) if isinstance(one, torch.Tensor)]


def argument_at(args: tuple[Any, ...], kwargs: Mapping[str, Any], place: ArgPath) -> Any:
    """Return the argument at a path.

    Args:
        args: Arguments by position.
        kwargs: Arguments by name.
        place: The path.
    """
    found: Any = args if place[0] == "args" else kwargs
    for key in place[1:]:
        found = found[key]
    return found


TorchFunction = Callable[..., Any]

_IN_PLACE = ("__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__imatmul__", "__ipow__")


def writes_in_place(function: TorchFunction) -> bool:
    """Return whether a torch function writes to its first argument."""
    name = str(getattr(function, "__name__", ""))
    return name in _IN_PLACE or (name.endswith("_") and not name.endswith("__"))


def function_name(function: TorchFunction) -> str:
    """Return a torch function's name; of an attribute such as x.shape, the attribute's."""
    name = getattr(function, "__name__", "")
    return str(getattr(function.__self__, "__name__", "") if name == "__get__" else name)  # type: ignore[attr-defined]


def name_of(place: ArgPath, names: Sequence[str]) -> str:
    """Return the name of an argument, from its path and the names of all in their order."""
    return names[place[1]] if place[0] == "args" else str(place[1])
