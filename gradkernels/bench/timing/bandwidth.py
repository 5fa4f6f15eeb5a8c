"""What memory alone costs: the traffic that no kernel can do without, and how long this machine takes over it.

The limit is measured, not modelled. In every case yardsticks take turns with the kernels that do nothing but move
the bytes of the case: they read theta, x and y once, and write as many bytes as the result has. So they meet the
same caches, the same neighbours and the same page faults:

- `bandwidth.read` reads the inputs;
- `bandwidth.write` fills warm memory of the result's size;
- `bandwidth.copy` reads the inputs and writes the result into given, warm memory: it copies as many bytes as both
  have, reads what is left of the inputs and fills what is left of the result;
- `bandwidth.fresh` does the same with fresh memory from numpy, page faults included. Only results of more than 32 MiB
  are sure to be fresh: glibc may keep less for the next call.

A limit is the first quartile of its yardstick's slices: of `bandwidth.copy` for `@out` and what glibc may keep, of
`bandwidth.fresh` for larger results. Not the median, since a simple copy is no more than about as fast as the
fastest kernel: where memory is the limit, kernels that write more evenly were seen to need up to 10% less.

A result of less than 256 KiB stays in a cache. It is counted as if it were read, so that the limit is
`least_bytes` at the speed of reading, and only `bandwidth.read` is timed. Inputs of less than 256 KiB are read
through a buffer of 256 KiB, since a call on less would measure the call.

What reads and copies is what `gradkernels.bench.timing.memory_movers` finds the fastest, tried out for every case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from gradkernels.bench.timing import memory_movers as movers
from gradkernels.bench.timing.memory_movers import Call, Flat
from gradkernels.bench.timing.traffic import traffic
from gradkernels.case import Case
from gradkernels.key import BANDWIDTH, Key
from gradkernels.tree import Tree, leaves

READ, WRITE, COPY, FRESH = (BANDWIDTH + what for what in ("read", "write", "copy", "fresh"))
IN_CACHE_BYTES = 2**18
ALLOCATOR_KEPT_BYTES = 2**25
"""The largest block that glibc keeps: DEFAULT_MMAP_THRESHOLD_MAX, mallopt(3)."""

ELEMENTS_APART = 64


class Yardstick(NamedTuple):
    """What is timed beside the kernels: its key, its call, and the bytes that a call moves."""

    name: str
    call: Call
    least_bytes: int


class Bandwidth:
    """The yardsticks of one case.

    Args:
        case: What the kernels compute.
        inputs: Theta, x and y as numpy arrays; the very ones that the kernels read, or what is in a cache for one
            would not be for the other.
    """

    def __init__(self, case: Case, inputs: Tree) -> None:
        self.case = case
        self.traffic = traffic(case)
        # The largest first: it starts where the result does, and not a few entries behind theta.
        self._sources = sorted((_as_floats(array, case.dtype) for array in leaves(inputs)), key=len, reverse=True)
        self._in_cache = self.traffic.written < IN_CACHE_BYTES
        self._fresh = self.traffic.written > ALLOCATOR_KEPT_BYTES

    def yardsticks(self) -> Iterator[Yardstick]:
        """Yield what to time; nothing on CUDA, where the limits are unknown."""
        if self.case.device != "cpu":
            return
        itemsize = np.dtype(self.case.dtype).itemsize
        read, libraries = self._sources, list(movers.operations(self.case.dtype, self.case.threads))
        if self.traffic.read < IN_CACHE_BYTES:
            read = [np.ones(IN_CACHE_BYTES // itemsize, self.case.dtype)]
        readers = {library.read: movers.reader(library, read) for library in libraries}
        yield Yardstick(READ, movers.fastest_call(list(readers.values())), sum(array.nbytes for array in read))
        if not self._in_cache:
            # Elsewhere in its page than the inputs, or stores would keep loads of the same offset waiting.
            out = np.empty(self.traffic.written // itemsize + ELEMENTS_APART, self.case.dtype)[ELEMENTS_APART:]
            ways = [movers.writers(library, self._sources, out) for library in libraries]
            best = movers.fastest_call([copy for _, copy, _ in ways])
            fill, copy, fresh = next(one for one in ways if one[1] is best)
            yield Yardstick(WRITE, fill, self.traffic.written)
            yield Yardstick(COPY, copy, self.traffic.least)
            if self._fresh:
                yield Yardstick(FRESH, fresh, self.traffic.least)

    def limit(self, kernel: str, seconds: Mapping[str, float]) -> float | None:
        """Return the seconds that the least traffic takes: the column `limit_seconds`.

        Args:
            kernel: Key, with `@out` if the result goes into given memory.
            seconds: Per call of each yardstick, the first quartile of its slices, by name.

        Returns:
            None where the yardstick was not timed.
        """
        if not self._in_cache:
            return seconds.get(FRESH if self._fresh and not Key.parse(kernel).out else COPY)
        if READ not in seconds:
            return None
        return seconds[READ] * self.traffic.least / max(self.traffic.read, IN_CACHE_BYTES)


def _as_floats(array: Flat, dtype: str) -> Flat:
    """Return `array` as one line of floats in memory order; as many bytes of ones for what is no float."""
    if str(array.dtype) == dtype:
        return array.ravel(order="K")
    return np.ones(max(1, array.nbytes // np.dtype(dtype).itemsize), dtype)
