"""Select a winner by elimination: kernels that are surely slower drop out at fixed looks.

After 4, 8 and 16 passes a kernel leaves a case when the lower bound of its time over the current best's exceeds 1;
the looks share the error probability. A case is decided when one kernel is left, or when all that are left are
within 3% of each other: then fewer dependencies win. The winner is measured again in fresh passes, since the
fastest of several noisy times is too fast (the winner's curse).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from gradkernels.bench.run.messages import CaseKernel
from gradkernels.bench.run.ranking import weighed
from gradkernels.bench.run.session import Session
from gradkernels.bench.stats.estimates import BlockId, bounds, trimmed_mean
from gradkernels.dispatch.select import TIE
from gradkernels.kernel import Kernel
from gradkernels.key import Key
from gradkernels.record import MEASURED_AGAIN, Record

ELIMINATION_LOOKS = ((4, 0.01), (8, 0.02), (16, 0.02))
"""Passes at which kernels drop out, and the one-sided error probability that each look spends."""

FRESH_PASSES = 3

COMPILED_SHARE = 0.5
"""Of the time, for what compiles."""

Times = Mapping[str, Mapping[BlockId, float]]


def measure_by_elimination(session: Session, calls: int | None = None) -> list[Record]:
    """Drive a session by elimination instead of a fixed number of passes; returns every record of its file.

    What compiles is measured last, against the best of the others, in what is then left of the time. A pass is begun
    only if it can be over in time, as passes so far went.

    Args:
        session: What to drive; open.
        calls: How often a winner will be called; None for so often that its first call does not count.
    """
    race = Elimination(session, calls)
    compiled = {
        (index, kernel.key)
        for index, case in enumerate(session.plan.cases)
        for kernel in session.plan.kernels_of(case)
        if kernel.compiles
    }
    race.eliminate(compiled, session.time_left * (1 - COMPILED_SHARE) if compiled else 0.0)
    if compiled:
        race.eliminate(set(), 0.0)
    race.measure_winners()
    return session.records


@dataclass
class Elimination:
    """A race that goes on: how many passes were done, and what they took.

    Attributes:
        session: What is driven.
        calls: How often a winner will be called; None for so often that its first call does not count.
        done: Passes.
        seconds: What a kernel took in the last pass, with its share of the start.
    """

    session: Session
    calls: int | None
    done: int = 0
    seconds: float = 0.0

    def eliminate(self, without: set[CaseKernel], reserved: float) -> None:
        """Measure pass after pass until every case is decided or the time is up.

        Args:
            without: Cases and kernels that take no part yet.
            reserved: Seconds to leave for them.
        """
        before = self.done
        for look, alpha in ELIMINATION_LOOKS:
            while self.done - before < look and self._fits(without, reserved, first=self.done == before):
                self._measure(ELIMINATION_LOOKS[-1][0] + FRESH_PASSES - self.done + before, without, reserved)
            _settle(self.session, alpha, self.calls, without)
            if not _undecided(self.session, self.calls) or self.done - before < look:
                return

    def measure_winners(self) -> None:
        """Measure the best of each case again in fresh passes, as far as the time allows."""
        session = self.session
        for index in range(len(session.plan.cases)):
            if times := _times(session, index, self.calls):
                session.settle({(index, kernel) for kernel in times.keys() - {_best(times, session.plan.kernel)}})
        for _ in range(FRESH_PASSES):
            if self._fits(set(), 0.0):
                self._measure(FRESH_PASSES, set(), 0.0, MEASURED_AGAIN)

    def _measure(self, passes: int, without: set[CaseKernel], reserved: float, note: str = "") -> None:
        started, self.done = time.monotonic(), self.done + 1
        racing = self._racing(without)
        self.session.measure(self.done, max(0.0, self.session.time_left - reserved) / passes, without, note)
        self.seconds = (time.monotonic() - started) / max(len(racing), 1)

    def _fits(self, without: set[CaseKernel], reserved: float, first: bool = False) -> bool:
        """Return whether one more pass would be over in time; the first of a kind is always done."""
        return first or len(self._racing(without)) * self.seconds <= self.session.time_left - reserved

    def _racing(self, without: set[CaseKernel]) -> set[CaseKernel]:
        plan = self.session.plan
        every = {(i, kernel.key) for i, case in enumerate(plan.cases) for kernel in plan.kernels_of(case)}
        return every - self.session.settled - without


def _times(session: Session, index: int, calls: int | None = None) -> Times:
    """Return the seconds by process of the kernels that are still in the race of a case."""
    times: dict[str, dict[BlockId, float]] = {}
    for row in weighed(session.records_of(index), calls):
        seconds = row.measurement.seconds_median
        if seconds and Key.parse(row.kernel).competes and (index, row.kernel) not in session.settled:
            times.setdefault(row.kernel, {})[row.block_id] = seconds
    return times


def _best(times: Times, kernel_by_key: Callable[[str], Kernel]) -> str:
    """Return the fastest; among those within 3% of it the one with fewer dependencies."""
    seconds = {kernel: median(passes.values()) for kernel, passes in times.items()}
    tied = [kernel for kernel in seconds if seconds[kernel] <= min(seconds.values()) * (1 + TIE)]
    return min(tied, key=lambda key: kernel_by_key(key).preference)


def _settle(
    session: Session,
    alpha: float,
    calls: int | None = None,
    without: frozenset[CaseKernel] | set[CaseKernel] = frozenset(),
) -> None:
    """Drop what is surely slower than the best of its case, and everything where the case is decided.

    Args:
        session: Which drops it.
        alpha: The one-sided error probability of this look.
        calls: How often a winner will be called.
        without: Cases and kernels that take no part yet.
    """
    for index, case in enumerate(session.plan.cases):
        times = _times(session, index, calls)
        measured = set(times)
        session.settle(
            {(index, kernel.key) for kernel in session.plan.kernels_of(case) if kernel.key not in measured} - without
        )
        if not times:
            continue
        best = _best(times, session.plan.kernel)
        behind = {kernel: _behind(times[best], times[kernel], alpha) for kernel in measured - {best}}
        session.settle({(index, kernel) for kernel, (low, _) in behind.items() if low > 1})
        if all(low > 1 or high < 1 + TIE for low, high in behind.values()):
            session.settle({(index, kernel) for kernel in measured - {best}})


def _behind(best: Mapping[BlockId, float], other: Mapping[BlockId, float], alpha: float) -> tuple[float, float]:
    shared = best.keys() & other.keys()
    if not shared:
        return 0.0, math.inf
    ratio = bounds(trimmed_mean([math.log(other[one] / best[one]) for one in shared]), alpha)
    return ratio.low, ratio.high


def _undecided(session: Session, calls: int | None = None) -> list[int]:
    return [index for index in range(len(session.plan.cases)) if len(_times(session, index, calls)) > 1]
