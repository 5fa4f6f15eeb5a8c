"""The fastest of several ways of doing the same for shapes about as large: measured once, when first needed.

Numbers of samples and lengths change from batch to batch; those between two powers of two share what was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter
from typing import Any

import torch

TIMED_TRIES = 9
TRIAL_SECONDS = 0.05
"""From here on a third try is the last one: more of them are for noise, which has less part in long ones."""

HOPELESS = 4.0  # times as slow as the best so far
TRIAL_SAMPLES = 16
"""Samples by which ways are compared that may take minutes for all, as for many large images."""

_CHOSEN: dict[Hashable, str] = {}
_measuring = ContextVar("measuring", default=True)


@contextmanager
def without_timing() -> Iterator[None]:
    """Take the first way within the context, where a call is only recorded and times mean nothing."""
    token = _measuring.set(False)
    try:
        yield
    finally:
        _measuring.reset(token)


def is_recording() -> bool:
    """Return whether calls are only recorded: then nothing may depend on values."""
    return not _measuring.get()


def fastest_of(
    key: Hashable, ways: Mapping[str, Callable[..., Any]], arguments: Sequence[Any] = (), trial: Sequence[Any] = ()
) -> Any:
    """Return the result of the fastest way.

    Args:
        key: What the choice depends on: the operation, shapes, dtype, device; threads are added. Of shapes all but the
            last axis count by their size between powers of two.
        ways: Functions by name, all with the same result, which may be called again and again; the first is what
            suits most.
        arguments: What the chosen one is called with.
        trial: What each is called with to be timed, where less will do.
    """
    if len(ways) == 1 or not _measuring.get():
        return next(iter(ways.values()))(*arguments)
    key = (_about(key), torch.get_num_threads())
    if key not in _CHOSEN:
        _CHOSEN[key] = _fastest(ways, trial or arguments)
    return ways[_CHOSEN[key]](*arguments)


def _about(key: Hashable) -> Hashable:
    """Return the key, with shapes made coarse."""
    if isinstance(key, torch.Size):
        return (*(size.bit_length() for size in key[:-1]), *key[-1:])
    return tuple(map(_about, key)) if type(key) is tuple else key


def _fastest(ways: Mapping[str, Callable[..., Any]], arguments: Sequence[Any]) -> str:
    """Return the name of the fastest way; try what is far behind at first only once, all others in turns."""
    best = {name: _seconds(way, arguments) for name, way in ways.items()}
    contenders = [name for name, seconds in best.items() if seconds < HOPELESS * min(best.values())]
    spent, tries = 0.0, 0
    while len(contenders) > 1 and tries < TIMED_TRIES and (spent < TRIAL_SECONDS or tries < 2):
        for name in contenders:
            seconds = _seconds(ways[name], arguments)
            best[name], spent = min(best[name], seconds), spent + seconds
        tries += 1
    return min(contenders, key=lambda name: best[name])


def _seconds(way: Callable[..., Any], arguments: Sequence[Any]) -> float:
    _wait()
    started = perf_counter()
    way(*arguments)
    _wait()
    return perf_counter() - started


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
