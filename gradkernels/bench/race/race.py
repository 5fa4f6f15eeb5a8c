"""Which kernel is fastest here and now, on a caller's own arrays: measured, saved and handed out."""

from __future__ import annotations

import math
import tempfile
import warnings
from pathlib import Path
from typing import Any

from gradkernels.bench.isolation.limits import ProcessLimits
from gradkernels.bench.race import elimination
from gradkernels.bench.race.plan import plan_race
from gradkernels.bench.race.progress import line_shown
from gradkernels.bench.run.session import Schedule, Session, open_session
from gradkernels.dispatch import wisdom
from gradkernels.dispatch.bind import BoundKernel
from gradkernels.dispatch.bound_kernels import forget_choices
from gradkernels.dispatch.fastest_kernel import fastest
from gradkernels.dispatch.keywords import with_names
from gradkernels.dispatch.request import NameGlobs
from gradkernels.key import Key
from gradkernels.problems import Problem
from gradkernels.quantity import Quantity
from gradkernels.quantity import quantity as quantity_of
from gradkernels.record import Record, Status
from gradkernels.tree import Tree

LEAST_PATIENCE = 15.0
"""Seconds that a kernel may keep a race waiting, whatever the budget."""


def race(
    problem: Problem,
    quantity: str | Quantity,
    *,
    like: tuple[Tree, Tree, Tree],
    budget: float = 60.0,
    calls: int | None = None,
    parameters: NameGlobs = None,
) -> BoundKernel[Any]:
    """Measure here and now which kernel is fastest on these very arrays; saved as this machine's choice.

    For modules, kernels of other packages than torch take part from 30 seconds on, and those that compile if half of
    the budget allows for that. Ctrl-C ends it early, with the winner of what is measured.

    Args:
        problem: What is differentiated.
        quantity: What is asked of the per-sample gradients.
        like: `(theta, x, y)`: sizes, dtype and data; for modules theta may be None.
        budget: Seconds that it takes, or as long as it takes to prove and time each kernel once.
        calls: How often the winner will be called, to weigh what building it and its first call take; None for many.
        parameters: Names or globs of the only parameters that are asked about; see `gk.gradient`.

    Returns:
        The winner, bound; its `why` gives the evidence.

    Raises:
        ValueError: Shapes that do not fit, no time to measure in, or nothing could be proven and timed.
        TypeError: Arrays of the wrong kind or dtype.
    """
    _require_time(budget)
    asked, problem = quantity_of(quantity), with_names(problem, parameters)
    with tempfile.TemporaryDirectory(prefix="gradkernels-") as folder:
        plan = plan_race(problem, asked, like, Path(folder), budget)
        schedule = Schedule(elimination.ELIMINATION_LOOKS[-1][0], budget, f"{budget:g}s")
        limits = ProcessLimits(timeout=max(budget, LEAST_PATIENCE))
        with line_shown() as tell, open_session(plan, Path(folder) / "race.csv", schedule, tell, limits) as session:
            records = _raced(session, calls)
    _require_winner(records)
    _save(wisdom.learn(records, "race"))
    return fastest(problem, asked, like=like, threads=1, calls=calls)


def _require_time(budget: Any) -> None:
    """Raise a ValueError unless it is a number of seconds."""
    if not isinstance(budget, int | float) or not 0 < budget < math.inf:
        raise ValueError(f"budget is {budget!r}; it must be a positive number of seconds")


def _save(table: wisdom.Wisdom) -> None:
    """Save what was measured and choose anew; for this process alone, with a warning, where that cannot be."""
    try:
        wisdom.save(table)
    except (OSError, ValueError) as fault:
        wisdom.remember(table)
        warnings.warn(f"the race counts for this process alone: {fault}", stacklevel=3)
    forget_choices()


def _raced(session: Session, calls: int | None) -> list[Record]:
    """Return what is to be learned from; after Ctrl-C what is measured, if there is a winner."""
    try:
        return elimination.measure_by_elimination(session, calls)
    except KeyboardInterrupt:
        if not _has_winner(session.records):
            raise
        return session.records


def _has_winner(records: list[Record]) -> bool:
    return any(row.measurement.status == Status.ok and Key.parse(row.kernel).competes for row in records)


def _require_winner(records: list[Record]) -> None:
    if not _has_winner(records):
        missed = (row.measurement for row in records if row.measurement.status != Status.ok)
        reasons = {f"{one.kernel}: {one.status}: {one.reason}" for one in missed}
        raise ValueError(f"no kernel could be proven and timed: {'; '.join(sorted(reasons))}")
