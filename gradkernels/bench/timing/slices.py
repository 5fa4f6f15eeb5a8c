"""Timing that holds on a noisy machine: calibrated slices in blocks of random balanced order.

All kernels of a case take turns within a second or so, on the same inputs, so that a slow spell of the machine
meets them alike. The unit of replication is the pass (one start of the process), not the slice.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter_ns

import numpy as np

SLICE_SECONDS = 100e-6
MOST_ROUNDS = 250
FEWEST_ROUNDS = 3
WARM_SLICES = 3
WARM_WITHIN = 0.05
MOST_WARM_SLICES = 30


def time_slice(call: Callable[[], object], iterations: int) -> float:
    """Return the mean seconds per call over `iterations` calls."""
    repeat = range(iterations)
    start = perf_counter_ns()
    for _ in repeat:
        call()
    return (perf_counter_ns() - start) * 1e-9 / iterations


Clock = Callable[[Callable[[], object], int], float]
"""Mean seconds per call, from a call and how many of it make a slice."""


@dataclass
class TimedCall:
    """A call whose time is measured in slices.

    Attributes:
        name: Key of the kernel.
        call: Computes the quantity on the block's inputs and has the result ready when it returns.
        iterations: Calls in a slice: as many as fit about 100 microseconds.
        slices: Seconds per call, one number per slice.
        note: What a reader of the times should know.
        clock: Measures a slice; another one where work goes on when a call has returned.
    """

    name: str
    call: Callable[[], object]
    iterations: int = 1
    slices: list[float] = field(default_factory=list)
    note: str = ""
    clock: Clock = time_slice


BeforeSlice = Callable[[TimedCall], object]


def _ignore(timed: TimedCall) -> None:
    """Do nothing before a slice."""


@contextmanager
def no_collection() -> Iterator[None]:
    """Switch garbage collection off, as it would hit whoever happens to run."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def warm_up(timed: TimedCall, seconds: float, before_slice: BeforeSlice = _ignore) -> None:
    """Call until three slices agree within 5% or a cap is reached; set the calls per slice on the way.

    Args:
        timed: What to call; `iterations` and `note` are set.
        seconds: The cap.
        before_slice: Called with `timed` before the clock of each slice starts.
    """
    deadline = perf_counter_ns() + seconds * 1e9
    recent: list[float] = []
    for _ in range(MOST_WARM_SLICES):
        recent = [*recent, _slice(timed, before_slice)][-WARM_SLICES:]
        timed.iterations = max(1, round(SLICE_SECONDS / min(recent)))
        if len(recent) == WARM_SLICES and max(recent) <= min(recent) * (1 + WARM_WITHIN):
            return
        if perf_counter_ns() > deadline:
            break
    timed.note = f"not steady within {WARM_WITHIN:.0%} after warm-up"


def time_interleaved(
    calls: Sequence[TimedCall],
    seconds: float,
    renew: Callable[[], object],
    rng: np.random.Generator,
    before_slice: BeforeSlice = _ignore,
) -> None:
    """Fill the slices of all calls, block by block in random balanced order, for about `seconds`.

    A kernel whose slices are long takes part in the first blocks only, at least three.

    Args:
        calls: Warm, with calibrated slices.
        seconds: For all blocks together.
        renew: Called before each block; lays the inputs down afresh.
        rng: Draws the orders.
        before_slice: Called with the call whose slice comes next, before its clock starts.
    """
    with no_collection():
        shares = [_rounds(timed, seconds / len(calls), before_slice) for timed in calls]
        order = orders(len(calls), rng)
        deadline = perf_counter_ns() + seconds * 1e9
        for block in range(max(shares)):
            if block >= FEWEST_ROUNDS and perf_counter_ns() > deadline:
                break
            renew()
            for position in next(order):
                if block < shares[position]:
                    calls[position].slices.append(_slice(calls[position], before_slice))


def _slice(timed: TimedCall, before_slice: BeforeSlice) -> float:
    before_slice(timed)
    return timed.clock(timed.call, timed.iterations)


def _rounds(timed: TimedCall, seconds: float, before_slice: BeforeSlice) -> int:
    slice_seconds = _slice(timed, before_slice) * timed.iterations
    return min(MOST_ROUNDS, max(FEWEST_ROUNDS, int(seconds / slice_seconds)))


def orders(count: int, rng: np.random.Generator) -> Iterator[list[int]]:
    """Draw orders of 0..count-1 without end: the rows of one random Latin square after another.

    In every `count` orders each number takes each position once. For two that is AB and BA in pairs of random
    order: ABBA or BAAB.
    """
    while True:
        names, start = rng.permutation(count), rng.permutation(count)
        for first in start:
            yield [int(name) for name in np.roll(names, first)]
