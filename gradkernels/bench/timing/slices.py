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


@dataclass
class Entrant:
    """One kernel in the race of one case.

    Attributes:
        name: Its key.
        call: Computes the quantity on the block's inputs and has the result ready when it returns.
        iterations: Calls in a slice: as many as fit about 100 microseconds.
        slices: Seconds per call, one number per slice.
        note: What a reader of the times should know.
    """

    name: str
    call: Callable[[], object]
    iterations: int = 1
    slices: list[float] = field(default_factory=list)
    note: str = ""


def time_slice(call: Callable[[], object], iterations: int) -> float:
    """Mean seconds per call over `iterations` calls."""
    repeat = range(iterations)
    start = perf_counter_ns()
    for _ in repeat:
        call()
    return (perf_counter_ns() - start) * 1e-9 / iterations


@contextmanager
def no_collection() -> Iterator[None]:
    """Garbage collection off, as it would hit whoever happens to run."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def warm_up(entrant: Entrant, seconds: float) -> None:
    """Call until three slices agree within 5% or a cap is reached; set the calls per slice on the way."""
    deadline = perf_counter_ns() + seconds * 1e9
    recent: list[float] = []
    for _ in range(MOST_WARM_SLICES):
        recent = [*recent, time_slice(entrant.call, entrant.iterations)][-WARM_SLICES:]
        entrant.iterations = max(1, round(SLICE_SECONDS / min(recent)))
        if len(recent) == WARM_SLICES and max(recent) <= min(recent) * (1 + WARM_WITHIN):
            return
        if perf_counter_ns() > deadline:
            break
    entrant.note = f"not steady within {WARM_WITHIN:.0%} after warm-up"


def race(entrants: Sequence[Entrant], seconds: float, renew: Callable[[], object], rng: np.random.Generator) -> None:
    """Fill every entrant's slices, block by block in random balanced order, for about `seconds`.

    A kernel whose slices are long takes part in the first blocks only, at least three.

    Args:
        entrants: Warm, with calibrated slices.
        seconds: For all blocks together.
        renew: Called before each block; lays the inputs down afresh.
        rng: Draws the orders.
    """
    with no_collection():
        shares = [_rounds(entrant, seconds / len(entrants)) for entrant in entrants]
        order = orders(len(entrants), rng)
        deadline = perf_counter_ns() + seconds * 1e9
        for block in range(max(shares)):
            if block >= FEWEST_ROUNDS and perf_counter_ns() > deadline:
                break
            renew()
            for position in next(order):
                if block < shares[position]:
                    entrant = entrants[position]
                    entrant.slices.append(time_slice(entrant.call, entrant.iterations))


def _rounds(entrant: Entrant, seconds: float) -> int:
    slice_seconds = time_slice(entrant.call, entrant.iterations) * entrant.iterations
    return min(MOST_ROUNDS, max(FEWEST_ROUNDS, int(seconds / slice_seconds)))


def orders(entrants: int, rng: np.random.Generator) -> Iterator[list[int]]:
    """Orders of 0..entrants-1 without end: the rows of one random Latin square after another.

    In every `entrants` orders each entrant takes each position once. For two that is AB and BA in pairs of random
    order: ABBA or BAAB.
    """
    while True:
        names, start = rng.permutation(entrants), rng.permutation(entrants)
        for first in start:
            yield [int(name) for name in np.roll(names, first)]
