"""A worker's slices in turns with those of the worker on the other revision: a token goes to and fro through pipes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gradkernels.bench.ab.messages import SlicesTimed, TimeSlices
from gradkernels.bench.timing.slices import TimedCall, no_collection

SLICES_PER_BLOCK = 4  # slices: ABBA or BAAB
WARM_UP_SECONDS = 0.05  # of calls, before the first slice
LONGEST_CALL = 2.0  # seconds; what takes longer is not timed in turns


@dataclass(frozen=True)
class Turns:
    """One end of the pipes.

    Attributes:
        wait_pipe: File descriptor from which the token of the other worker comes.
        give_pipe: File descriptor to which the token goes.
    """

    wait_pipe: int
    give_pipe: int

    def time(self, order: TimeSlices, timed: TimedCall, renew: Callable[[], object]) -> SlicesTimed:
        """Time each slice that is this worker's; none if the other worker goes away.

        Args:
            order: Which slices, and how many calls each has.
            timed: What is called.
            renew: Called before each block; lays the inputs down afresh.
        """
        with no_collection():
            try:
                self._give()  # both are ready when each has heard of the other
                self._wait()
                return SlicesTimed(tuple(self._slices(order, timed, renew)))
            except ConnectionError:
                return SlicesTimed(())

    def _slices(self, order: TimeSlices, timed: TimedCall, renew: Callable[[], object]) -> Iterator[float]:
        block, mine = -1, order.mine
        for position in (position for position, own in enumerate(mine) if own):
            if position and not mine[position - 1]:
                self._wait()
            if block != (block := position // SLICES_PER_BLOCK):
                renew()
            yield _slice(timed, order.calls)
            if position + 1 < len(mine) and not mine[position + 1]:
                self._give()

    def _give(self) -> None:
        """Give the token to the other worker, whose slice is next."""
        os.write(self.give_pipe, b".")

    def _wait(self) -> None:
        """Wait for the token from the other worker."""
        if not os.read(self.wait_pipe, 1):
            raise ConnectionError("the other worker is gone")


def _slice(timed: TimedCall, calls: int) -> float:
    if calls > 1:
        timed.clock(timed.call, 1)  # the other worker was in the caches
    return timed.clock(timed.call, calls) * calls
