"""Select a winner by elimination: kernels that are surely slower drop out at fixed looks.

After 4, 8 and 16 passes a kernel leaves a case when the lower bound of its time over the current best's exceeds 1;
the looks share the error probability. A case is decided when one kernel is left, or when all that are left are
within 3% of each other: then fewer dependencies win. The winner is measured again in fresh passes, since the
fastest of several noisy times is too fast (the winner's curse).
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from gradkernels.bench.run.race_plan import plan_race
from gradkernels.bench.run.ranking import weighed
from gradkernels.bench.run.session import Schedule, Session, SessionProgress, open_session
from gradkernels.bench.stats.estimates import PassId, bounds, trimmed_mean
from gradkernels.dispatch import wisdom
from gradkernels.dispatch.bind import BoundKernel
from gradkernels.dispatch.bound_kernels import forget_choices
from gradkernels.dispatch.fastest_kernel import fastest
from gradkernels.dispatch.select import TIE
from gradkernels.key import Key
from gradkernels.problems import Problem
from gradkernels.quantity import Quantity, quantity
from gradkernels.record import Record, Status
from gradkernels.registry import kernel as kernel_by_key
from gradkernels.tree import Tree

ELIMINATION_LOOKS = ((4, 0.01), (8, 0.02), (16, 0.02))
"""Passes at which kernels drop out, and the one-sided error probability that each look spends."""

FRESH_PASSES = 3
Times = Mapping[str, Mapping[PassId, float]]


def race(
    problem: Problem,
    quantity: str | Quantity,
    *,
    like: tuple[Tree, Tree, Tree],
    budget: float = 60.0,
    calls: int | None = None,
) -> BoundKernel[Any]:
    """Measure here and now which kernel is fastest on these very arrays; saved as this machine's choice.

    Of kernels that compile for seconds, those for modules take part if half of the budget allows for that.

    Args:
        problem: What is differentiated.
        quantity: What is asked of the per-sample gradients.
        like: `(theta, x, y)`: sizes, dtype and data; for modules theta may be None.
        budget: Seconds for the measuring; the proofs and the start of processes come on top where it is short.
        calls: How often the winner will be called, to weigh what building it and its first call take; None for many.

    Returns:
        The winner, bound; its `why` gives the evidence.

    Raises:
        ValueError: Shapes that do not fit, no time to measure in, or nothing could be proven and timed.
        TypeError: Arrays of the wrong kind or dtype.
    """
    if not isinstance(budget, int | float) or not 0 < budget < math.inf:
        raise ValueError(f"budget is {budget!r}; it must be a positive number of seconds")
    with tempfile.TemporaryDirectory(prefix="gradkernels-") as folder:
        plan = plan_race(problem, _quantity(quantity), like, Path(folder), budget)
        schedule = Schedule(ELIMINATION_LOOKS[-1][0], budget, f"{budget:g}s")
        with open_session(plan, Path(folder) / "race.csv", schedule, _quietly) as session:
            records = unbiased_records(measure_by_elimination(session, calls))
    if not any(row.measurement.status == Status.ok and Key.parse(row.kernel).competes for row in records):
        missed = (row.measurement for row in records if row.measurement.status != Status.ok)
        reasons = {f"{one.kernel}: {one.status}: {one.reason}" for one in missed}
        raise ValueError(f"no kernel could be proven and timed: {'; '.join(sorted(reasons))}")
    wisdom.save(wisdom.learn(records))
    forget_choices()
    return fastest(problem, quantity, like=like, threads=1, calls=calls)


_quantity = quantity


def measure_by_elimination(session: Session, calls: int | None = None) -> list[Record]:
    """Drive a session by elimination instead of a fixed number of passes; returns every record of its file.

    Args:
        session: What to drive; open.
        calls: How often a winner will be called; None for so often that its first call does not count.
    """
    done = 0
    for look, alpha in ELIMINATION_LOOKS:
        for pass_ in range(done + 1, look + 1):
            session.measure(pass_, session.time_left / (ELIMINATION_LOOKS[-1][0] + FRESH_PASSES - pass_ + 1))
        done = look
        _settle(session, alpha, calls)
        if not _undecided(session) or session.time_left < 0:
            break
    _measure_winners(session, done, calls)
    return session.records


def unbiased_records(records: list[Record]) -> list[Record]:
    """Return the records to learn from: of a kernel that was measured in fresh passes, those only."""
    last = max((row.pass_ for row in records), default=0)
    late = (row for row in records if row.pass_ > last - FRESH_PASSES)
    fresh = {(row.kernel, row.case) for row in late if Key.parse(row.kernel).competes}
    return [row for row in records if (row.kernel, row.case) not in fresh or row.pass_ > last - FRESH_PASSES]


def _times(session: Session, index: int, calls: int | None = None) -> Times:
    """Return the seconds by pass of the kernels that are still in the race of a case."""
    times: dict[str, dict[PassId, float]] = {}
    for row in weighed(session.records_of(index), calls):
        seconds = row.measurement.seconds_median
        if seconds and Key.parse(row.kernel).competes and (index, row.kernel) not in session.settled:
            times.setdefault(row.kernel, {})[row.run, row.pass_] = seconds
    return times


def _best(times: Times) -> str:
    """Return the fastest; among those within 3% of it the one with fewer dependencies."""
    seconds = {kernel: median(passes.values()) for kernel, passes in times.items()}
    tied = [kernel for kernel in seconds if seconds[kernel] <= min(seconds.values()) * (1 + TIE)]
    return min(tied, key=lambda key: kernel_by_key(key).preference)


def _settle(session: Session, alpha: float, calls: int | None = None) -> None:
    """Drop what is surely slower than the best of its case, and everything where the case is decided."""
    for index, case in enumerate(session.plan.cases):
        times = _times(session, index, calls)
        measured = set(times)
        session.settle({(index, kernel.key) for kernel in session.plan.kernels_of(case) if kernel.key not in measured})
        if not times:
            continue
        best = _best(times)
        behind = {kernel: _behind(times[best], times[kernel], alpha) for kernel in measured - {best}}
        session.settle({(index, kernel) for kernel, (low, _) in behind.items() if low > 1})
        if all(low > 1 or high < 1 + TIE for low, high in behind.values()):
            session.settle({(index, kernel) for kernel in measured - {best}})


def _behind(best: Mapping[PassId, float], other: Mapping[PassId, float], alpha: float) -> tuple[float, float]:
    shared = best.keys() & other.keys()
    if not shared:
        return 0.0, math.inf
    ratio = bounds(trimmed_mean([math.log(other[one] / best[one]) for one in shared]), alpha)
    return ratio.low, ratio.high


def _undecided(session: Session) -> list[int]:
    return [index for index in range(len(session.plan.cases)) if len(_times(session, index)) > 1]


def _measure_winners(session: Session, done: int, calls: int | None = None) -> None:
    for index in range(len(session.plan.cases)):
        if times := _times(session, index, calls):
            session.settle({(index, kernel) for kernel in times.keys() - {_best(times)}})
    for pass_ in range(done + 1, done + 1 + FRESH_PASSES):
        session.measure(pass_, session.schedule.allowance)


def _quietly(at: SessionProgress) -> None:
    """Report no progress."""
