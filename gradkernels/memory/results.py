"""Blocks of memory that results are written to, handed out again once nothing refers to the earlier result.

A result is an ordinary array whose base is a lease of its block. Whatever shares its memory (a view, a tensor, DLPack,
a buffer) refers to the lease, so that its end is the end of all of them; it puts the block among those that are free.
"""

from __future__ import annotations

import os
from bisect import bisect_left, insort
from collections import deque
from math import prod
from threading import Lock
from typing import Any

import numpy as np

from gradkernels.memory.installed import installed_bytes
from gradkernels.memory.kept_arrays import release_kept

BYTE = np.dtype(np.uint8)
SMALLEST = 64 * 2**10
"""Bytes from which on arrays are in blocks that are results of one call together, as those of a module's parameters."""

OWN_MEMORY_BYTES = 4 * 2**20
"""Bytes from which on an array is that is the only result of a call: glibc hands a smaller one out again without page
faults, and in less time, unless many are freed at once."""

FEWEST_ENTRIES = OWN_MEMORY_BYTES // 16
"""Entries that are less than that, whatever their dtype."""

SLACK = 2
"""Times as large as what was asked for a block may be: batches of other sizes fit in the same one."""

MOST_TIMES_IN_USE = 1.125
"""Times as much as was in use at once all blocks may take, so that a small result does not cost a large block."""

OLD = 2048
"""Results, each counted when it begins and when it ends, after which a block that none of them needed is given back."""

SHARE_OF_MEMORY = 8
"""The part of the memory there is, one eighth, that free blocks may take."""


class _Block(np.ndarray[Any, Any]):
    """Bytes that results are written to, one after the other.

    A class of its own: numpy makes what a view is a view of its base where that has the class of the view.
    """

    __slots__ = ()


class _Lease(np.ndarray[Any, Any]):
    """A block while something is in it; at its end the block is free."""

    __slots__ = ("memory",)
    memory: ResultMemory

    def __del__(self) -> None:
        # A view of a lease is one too, but not its end. At the exit of Python there is no _Block any more.
        if type(self.base) is _Block:
            self.memory.take_back(self.base)


class ResultMemory:
    """Memory for results, kept between calls: an eighth more than was in use at once, at most.

    It does not wait: who finds another thread in it, or itself, since an array can end anywhere, gets fresh memory.

    Args:
        most_kept: Bytes that free blocks may take; None for any number.
    """

    def __init__(self, most_kept: int | None = None) -> None:
        self._most_kept = most_kept
        self._in_use = self._kept = self._most = self._ticks = self._looked = 0
        self._start_empty()

    def _start_empty(self) -> None:
        """Have no free blocks, whatever was going on: where a process is forked another thread may be at work."""
        self._lock = Lock()
        self._returned: deque[_Block] = deque()
        self._free: list[tuple[int, int, _Block]] = []  # by size, those of the same size that were used last first
        self._kept = 0

    @property
    def kept_bytes(self) -> int:
        """Bytes of free blocks."""
        return self._kept

    @property
    def used_bytes(self) -> int:
        """Bytes of blocks that results are in."""
        return self._in_use

    def empty(self, shape: tuple[int, ...], dtype: Any, smallest: int = SMALLEST) -> np.ndarray[Any, Any]:
        """Return an uninitialised array, in huge pages if it is large.

        Args:
            shape: Length of each axis.
            dtype: Of numpy, without objects.
            smallest: Bytes from which on it is in a block.
        """
        dtype = np.dtype(dtype)
        size = prod(shape) * dtype.itemsize
        if size < smallest or not self._lock.acquire(blocking=False):
            return np.empty(shape, dtype)
        try:
            lease = self._lease(size)
        finally:
            self._lock.release()
        return np.ndarray(shape, dtype, lease)

    def take_back(self, block: _Block) -> None:
        """Note that a block is free; called at the end of a result, in any thread and in the midst of anything.

        Args:
            block: That was handed out.
        """
        self._returned.append(block)
        if self._lock.acquire(blocking=False):  # or who has it collects, or the next who asks for memory
            try:
                self._collect()
            finally:
                self._lock.release()

    def release(self) -> int:
        """Give free blocks back to the system; results stay what they are.

        Returns:
            How many bytes that were.
        """
        if not self._lock.acquire(timeout=1):  # from within an array's end, say
            return 0
        try:
            self._collect()
            return self._give_back()
        finally:
            self._lock.release()

    def forget(self) -> None:
        """Have no free blocks in a forked process: writing to those of its parent would copy them."""
        self._start_empty()

    def _lease(self, size: int) -> _Lease:
        self._collect()
        self._ticks += 1
        if self._ticks - self._looked >= OLD:
            self._give_back_old()
        place = bisect_left(self._free, (size,))
        if place < len(self._free) and self._free[place][0] <= size * SLACK:
            block = self._free.pop(place)[2]
            self._kept -= block.nbytes
        else:
            block = self._fresh(size, place)
        lease: _Lease = np.ndarray.__new__(_Lease, (size,), BYTE, block)
        lease.memory = self
        self._in_use += block.nbytes
        return lease

    def _fresh(self, size: int, place: int) -> _Block:
        """Allocate a block; the free ones next to its place in the order of sizes make room for it."""
        self._most = max(self._most, self._in_use + size)
        while self._free and self._in_use + self._kept + size > self._most * MOST_TIMES_IN_USE:
            place = max(place - 1, 0)
            self._kept -= self._free.pop(place)[0]
        try:
            return _Block((size,), BYTE)
        except MemoryError:
            self._give_back()
            return _Block((size,), BYTE)

    def _collect(self) -> None:
        """Put the blocks of results that have ended among the free ones, as many as may be kept."""
        while self._returned:
            block = self._returned.popleft()
            size = block.nbytes
            self._in_use -= size
            if self._most_kept is None or self._kept + size <= self._most_kept:
                self._ticks += 1
                insort(self._free, (size, -self._ticks, block))
                self._kept += size

    def _give_back(self) -> int:
        given, self._kept = self._kept, 0
        self._free.clear()
        self._most = self._in_use
        return given

    def _give_back_old(self) -> None:
        """Give back the blocks that stayed free for long: what was in use at once before no longer counts."""
        self._looked, before = self._ticks, len(self._free)
        self._free = [entry for entry in self._free if -entry[1] > self._ticks - OLD]
        if len(self._free) < before:
            self._kept = sum(entry[0] for entry in self._free)
            self._most = self._in_use + self._kept


RESULTS = ResultMemory((installed_bytes() or 0) // SHARE_OF_MEMORY or None)
"""The memory for results of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=RESULTS.forget)


def empty_numpy(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """Return an uninitialised array for the only result of a call; a large one where an earlier one has been.

    Args:
        shape: Length of each axis.
        dtype: Of numpy.
    """
    return np.empty(shape, dtype) if prod(shape) < FEWEST_ENTRIES else RESULTS.empty(shape, dtype, OWN_MEMORY_BYTES)


def release() -> int:
    """Give memory that is kept between calls back, for results and of random matrices; results in use stay as they are.

    Returns:
        How many bytes that were.
    """
    return RESULTS.release() + release_kept()
