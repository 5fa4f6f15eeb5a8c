"""Arrays that take long to make and are the same in each call, such as random matrices, kept while memory is free.

What is kept follows the memory that is free at the time, looked at again as it is used: what others have come to need
is given back. Of more than there is room for, some stays and the rest is made anew in each round, where dropping what
was used the longest time ago would drop each array just before its turn.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import cache
from threading import Lock
from typing import Any, TypeVar, cast

from gradkernels.memory.free import free_bytes

LEAST_BYTES = 1 << 26
"""What may always be kept, of all arrays together."""

SHARE_OF_FREE = 8
"""The part of the memory that is free, or would be if nothing were kept, that may be kept: one eighth."""

SECONDS_BETWEEN_LOOKS = 0.5
MOST_NOTED = 4096
"""Arrays that are not kept of which it is noted when they were last asked for."""

T = TypeVar("T")


class KeptArrays:
    """Arrays by key, kept between calls in one place.

    Args:
        free: Gives the bytes that are free there; None where that cannot be known.
    """

    def __init__(self, free: Callable[[], int | None]) -> None:
        self._free = free
        self._start_empty()

    def _start_empty(self) -> None:
        self._lock = Lock()
        self._arrays: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()  # used last at the end
        self._used: dict[Hashable, int] = {}
        self._missed: dict[Hashable, int] = {}
        self._bytes, self._ticks, self._looked, self._most = 0, 0, float("-inf"), LEAST_BYTES

    @property
    def nbytes(self) -> int:
        """Bytes that are kept."""
        return self._bytes

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is kept of a key, or make it, and keep it where there is room.

        Args:
            key: What the array follows from.
            make: Returns it, with `nbytes`; nobody may write to it.
        """
        with self._lock:
            self._ticks += 1
            self._look()
            if key in self._arrays:
                self._arrays.move_to_end(key)
                self._used[key] = self._ticks
                found: T = self._arrays[key][0]
                return found
            before = self._missed.get(key, 0)
            if len(self._missed) >= MOST_NOTED:
                self._missed.clear()
            self._missed[key] = self._ticks
        made: Any = make()
        with self._lock:
            self._admit(key, made, before)
        return cast(T, made)

    def release(self) -> int:
        """Drop all that is kept, and return its bytes."""
        with self._lock:
            given = self._bytes
            self._arrays.clear()
            self._used.clear()
            self._bytes = 0
            return given

    def forget(self) -> None:
        """Have nothing in a forked process, whose parent may have been at work."""
        self._start_empty()

    def _admit(self, key: Hashable, made: Any, before: int) -> None:
        """Keep an array; what was not used since it was last asked for makes room."""
        size = made.nbytes
        if key in self._arrays or size > self._most:
            return
        while self._bytes + size > self._most:
            oldest = next(iter(self._arrays))
            if self._used[oldest] > before:
                return
            self._drop(oldest)
        self._arrays[key], self._used[key] = (made, size), self._ticks
        self._missed.pop(key, None)
        self._bytes += size

    def _drop(self, key: Hashable) -> None:
        self._bytes -= self._arrays.pop(key)[1]
        del self._used[key]

    def _look(self) -> None:
        """Look, once in a while, at what is free, and drop what exceeds the share of it."""
        if (now := time.monotonic()) - self._looked < SECONDS_BETWEEN_LOOKS:
            return
        free, self._looked = self._free(), now
        self._most = max(LEAST_BYTES, ((free or 0) + self._bytes) // SHARE_OF_FREE)
        while self._bytes > self._most:
            self._drop(next(iter(self._arrays)))


@cache
def kept_on(device: str) -> KeptArrays:
    """Return what is kept on a device.

    Args:
        device: Its name for torch; `cpu` for the memory of the machine.
    """
    kept = KeptArrays(lambda: free_bytes(device))
    _PLACES.append(kept)
    return kept


_PLACES: list[KeptArrays] = []


def release_kept() -> int:
    """Drop what is kept on all devices, and return its bytes."""
    return sum(kept.release() for kept in _PLACES)


def forget_kept() -> None:
    """Have nothing kept in a forked process."""
    for kept in _PLACES:
        kept.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_kept)
