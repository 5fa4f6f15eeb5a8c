"""The simplest and fastest ways to read, copy and fill memory that a few libraries have, and which is best here.

BLAS asum reads; dot, and numpy's and torch's sums and maxima, are nowhere faster by more than the noise. numpy copies,
by memmove or by a vectorised product, and fills. With more threads torch, which shares the work out, does it too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from gradkernels.backend import BACKENDS
from gradkernels.bench.timing.slices import time_slice

FEWEST_TRIES, MOST_TRIES = 5, 25
TRYING_SECONDS = 0.1

Flat = np.ndarray[Any, Any]
Call = Callable[[], object]


@dataclass(frozen=True)
class MemoryOperations:
    """One library's simplest ways to read, copy and fill.

    Attributes:
        view: A flat numpy array as the library takes it.
        read: Reads all of an array.
        copy: `copy(to, source)`.
        fill: `fill(to, number)`.
    """

    view: Callable[[Flat], Any]
    read: Callable[[Any], object]
    copy: Callable[[Any, Any], object]
    fill: Callable[[Any, float], object]


def operations(dtype: str, threads: int) -> Iterator[MemoryOperations]:
    """Yield what may be the fastest: BLAS, numpy, and torch where there are threads to share the work."""
    from scipy.linalg.blas import dasum, sasum

    read = dasum if dtype == "float64" else sasum
    yield MemoryOperations(lambda array: array, read, np.copyto, np.ndarray.fill)
    yield MemoryOperations(lambda array: array, read, _scaled, np.ndarray.fill)
    if threads > 1:
        torch = BACKENDS["torch"].xp
        yield MemoryOperations(BACKENDS["torch"].put, torch.sum, torch.Tensor.copy_, torch.Tensor.fill_)


def _scaled(to: Flat, source: Flat) -> None:
    """Copy by a vectorised loop, which beats the system's memmove on some processors where memory is the limit."""
    np.multiply(source, 1, out=to)


def reader(library: MemoryOperations, sources: Sequence[Flat]) -> Call:
    """Return a call that reads all of `sources`."""
    views, read = [library.view(source) for source in sources], library.read

    def call() -> None:
        for view in views:
            read(view)

    return call


def writers(library: MemoryOperations, sources: Sequence[Flat], out: Flat) -> tuple[Call, Call, Call]:
    """Return three calls: one fills `out`, one moves to `out`, one moves to fresh memory.

    Args:
        library: What reads, copies and fills.
        sources: What is read.
        out: Flat memory.
    """
    size, dtype, view = out.size, out.dtype, library.view
    move, given = mover(library, sources, size), view(out)
    return partial(library.fill, given, 0.0), partial(move, given), lambda: move(view(np.empty(size, dtype)))


def mover(library: MemoryOperations, sources: Sequence[Flat], size: int) -> Callable[[Any], None]:
    """Return a function that reads all of `sources` and writes all `size` entries of what it is given, once each.

    Entries are copied as far as both reach; what is left of the sources is read, what is left to write is filled
    with zeros.

    Args:
        library: What reads, copies and fills.
        sources: Flat arrays.
        size: Number of entries that are written.
    """
    copies, reads, start = [], [], 0
    for source in sources:
        part = min(size - start, source.size)
        if part:
            copies.append((start, start + part, library.view(source[:part])))
        if part < source.size:
            reads.append(library.view(source[part:]))
        start += part

    def move(out: Any) -> None:
        for first, last, source in copies:
            library.copy(out[first:last], source)
        if start < size:
            library.fill(out[start:], 0.0)
        for source in reads:
            library.read(source)

    return move


def fastest_call(calls: Sequence[Call]) -> Call:
    """Return the call whose slices have the smallest median; they take turns."""
    if len(calls) == 1:
        return calls[0]
    slices: list[list[float]] = []
    deadline = perf_counter() + TRYING_SECONDS
    while len(slices) < FEWEST_TRIES or (len(slices) < MOST_TRIES and perf_counter() < deadline):
        slices.append([time_slice(call, 1) for call in calls])
    medians = [median(times) for times in zip(*slices, strict=True)]
    return calls[medians.index(min(medians))]
