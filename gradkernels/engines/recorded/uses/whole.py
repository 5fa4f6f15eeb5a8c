"""One operation for what a recording keeps whole: a method of a use, run by the hooks' own code on the real tensors.

Some rules choose the fastest of several ways by timing them, run over a few samples at a time, or count what the data
hold. Recorded, such a choice would be one of a moment without data. So the use is taken apart into its tensors, which
are arguments, and the rest, which is looked up by a name, and put together again when the operation runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, is_dataclass
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from torch.library import Library

from gradkernels.backend import Array
from gradkernels.engines.hooks.parameter_use import ALL_SAMPLES, ParameterUse

_LIBRARY = Library("gradkernels", "DEF")  # type: ignore[no-untyped-call]
_LIBRARY.define("whole(Tensor(a!) out, str method, Tensor[] tensors) -> ()")  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Method:
    """What of a use an operation runs.

    Attributes:
        name: Of the method: `write`, `add_by_group`, or one that gives a tensor.
        target: Key of the target.
        use: It, with marks for its tensors.
    """

    name: str
    target: Any
    use: Any

    def __call__(self, out: Array, tensors: list[Array]) -> None:
        """Run it on tensors: those of the use, then what the method takes."""
        given = iter(tensors)
        use = _filled(self.use, given)
        if self.name == "write":
            use.write(self.target, *given, out, ALL_SAMPLES, add=False)
        elif self.name == "add_by_group":
            use.add_by_group(self.target, *given, out)
        else:
            out.copy_(getattr(use, self.name)(self.target, *given))


_METHODS: WeakValueDictionary[str, Method] = WeakValueDictionary()
_NAMES: WeakKeyDictionary[Method, str] = WeakKeyDictionary()
"""Names of methods: no numbers, which could be taken for what depends on the number of samples."""

_numbers = count()
_keepers: list[list[Method]] = []


@contextmanager
def keeping_methods() -> Iterator[list[Method]]:
    """Collect the methods whose operations are recorded within the context: they are known while the list is kept.

    Of all threads, since those of autograd run operations too.
    """
    kept: list[Method] = []
    _keepers.append(kept)
    try:
        yield kept
    finally:
        _keepers[:] = [one for one in _keepers if one is not kept]


def run_whole(use: ParameterUse, name: str, target: Any, out: Array, *given: Array) -> None:
    """Write what a use's method gives to `out`, by one operation.

    Args:
        use: The use; nothing but tensors and what can be hashed is in it.
        name: `write`, `add_by_group`, or a method that gives a tensor.
        target: Key of the target.
        out: Memory of the result.
        given: What the method takes besides: the gradient of the use's output, and what comes after it.
    """
    tensors: list[Array] = []
    method = Method(name, target, _emptied(use, tensors))
    called = _NAMES.setdefault(method, f"{type(use).__name__}.{name} {next(_numbers)}")
    method = _METHODS.setdefault(called, method)
    for kept in _keepers:
        kept.append(method)
    torch.ops.gradkernels.whole(out, called, [*tensors, *given])


def _run(out: Array, method: str, tensors: list[Array]) -> None:
    _METHODS[method](out, tensors)


def _run_on_nothing(out: Array, method: str, tensors: list[Array]) -> None:
    """Write to a tensor without data."""


_LIBRARY.impl("whole", _run, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
_LIBRARY.impl("whole", _run_on_nothing, "Meta")  # type: ignore[no-untyped-call]

_TENSOR = object()
Emptied = Any
"""The mark of a tensor, or a kind and what is in it: parts by name or in order, or the thing itself."""


def _emptied(value: Any, tensors: list[Array]) -> Emptied:
    """Return a value with marks for the tensors in it, which are added to the list; hashable."""
    if isinstance(value, torch.Tensor):
        tensors.append(value.detach())
        return _TENSOR
    if isinstance(value, tuple | list):
        return type(value), tuple(_emptied(one, tensors) for one in value)
    if isinstance(value, dict | ParameterUse) or is_dataclass(value):
        parts = value if isinstance(value, dict) else vars(value)
        return type(value), tuple((name, _emptied(one, tensors)) for name, one in parts.items())
    return None, value


def _filled(emptied: Emptied, tensors: Iterator[Array]) -> Any:
    """Return a value with tensors in the places of the marks."""
    if emptied is _TENSOR:
        return next(tensors)
    kind, parts = emptied
    if kind is None:
        return parts
    if kind in (tuple, list):
        return kind(_filled(one, tensors) for one in parts)
    named = {name: _filled(one, tensors) for name, one in parts}
    if kind is dict:
        return named
    value = object.__new__(kind)
    vars(value).update(named)
    return value
