"""Which of several ways of doing the same is fastest for a shape: measured once, when it is first needed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter
from typing import Any

import torch

TRIES = 3

_CHOSEN: dict[Hashable, str] = {}
_measuring = ContextVar("measuring", default=True)


@contextmanager
def unmeasured() -> Iterator[None]:
    """A context in which the first way is taken, where a call is only recorded and times mean nothing."""
    token = _measuring.set(False)
    try:
        yield
    finally:
        _measuring.reset(token)


def fastest_of(key: Hashable, ways: Mapping[str, Callable[[], Any]]) -> Any:
    """The result of the fastest way.

    Args:
        key: What the choice depends on: the operation, shapes, dtype, device; threads are added.
        ways: Functions without arguments by name, all with the same result, which may be called again and again; the
            first is what suits most.
    """
    if len(ways) == 1 or not _measuring.get():
        return next(iter(ways.values()))()
    key = (key, torch.get_num_threads())
    if key not in _CHOSEN:
        seconds = {name: min(_seconds(way) for _ in range(TRIES)) for name, way in ways.items()}
        _CHOSEN[key] = min(seconds, key=lambda name: seconds[name])
    return ways[_CHOSEN[key]]()


def _seconds(way: Callable[[], Any]) -> float:
    _wait()
    started = perf_counter()
    way()
    _wait()
    return perf_counter() - started


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
