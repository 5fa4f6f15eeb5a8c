"""One row for each case and kernel: what its passes come to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradkernels.bench.compare.matching import KernelRows, is_yardstick
from gradkernels.bench.compare.places import places
from gradkernels.bench.results.table import ResultsTable, groups
from gradkernels.bench.results.turns import rows_in_turns
from gradkernels.bench.stats.estimates import Ints, bounds, middle, trimmed_mean
from gradkernels.coordinates import ALL_SIZES, Coordinates
from gradkernels.record import derived

ALPHA = 0.025
"""Probability that the mean over passes lies beyond one end of an interval."""


@dataclass(frozen=True)
class KernelSummary:
    """What one kernel did on one case, on one machine.

    Attributes:
        machine: Where.
        case: What was computed.
        kernel: The key.
        passes: How many have a row.
        status: What they come to: wrong or failed if any is, else ok if any is.
        seconds: Median over passes of the median call; None without a time.
        low: Lower end of the interval at 95% for the mean over passes on the log scale; None from a single pass.
        high: Its upper end.
        seconds_first: Median over passes of building and the first call.
        of_limit: Median over passes of the machine's limit over the time: 1 is the speed of memory.
        reason: Why the status is not ok, or what a reader of the times should know.
    """

    machine: str
    case: Coordinates
    kernel: str
    passes: int
    status: str
    seconds: float | None
    low: float | None
    high: float | None
    seconds_first: float | None
    of_limit: float | None
    reason: str

    def columns(self) -> dict[str, object]:
        """Return all values by name, the coordinates of the case and what is in the key among them, in order."""
        values = dict(vars(self))
        return {
            "machine": values.pop("machine"),
            **vars(values.pop("case")),
            "kernel": values.pop("kernel"),
            **derived(self.kernel),
            **values,
        }


def summarised(table: ResultsTable) -> list[KernelSummary]:
    """Return a row for each machine, case and kernel: cases that differ in n alone together, the fastest first."""
    found, place = places(table)
    apart = _apart(table)
    rows = [_summary(table, own, apart, *one) for one, own in zip(found, groups(place), strict=True)]
    return sorted(rows, key=_order)


def _order(row: KernelSummary) -> tuple[object, ...]:
    is_kernel = derived(row.kernel)["role"] == "kernel"
    seconds = math.inf if row.seconds is None else row.seconds
    return row.case.at(ALL_SIZES), row.machine, row.case.n, not is_kernel, seconds, row.kernel


def _apart(table: ResultsTable) -> Ints:
    """Return the rows of kernels whose times were taken apart from the others of their pass, where there are others."""
    timed = np.flatnonzero(table.timed & ~table.where("kernel", is_yardstick))
    cases = [timed[one] for one in _by(table.machine[timed], table.case[timed])]
    kept = [rows_in_turns(table, one) for one in cases]
    return np.setdiff1d(timed, np.concatenate(kept)) if kept else timed


def _by(machine: Ints, case: Ints) -> Sequence[Ints]:
    _, place = np.unique(np.stack([machine, case]), axis=1, return_inverse=True)
    return groups(place.reshape(-1))


def _summary(
    table: ResultsTable, rows: Ints, apart: Ints, machine: str, case: Coordinates, kernel: str
) -> KernelSummary:
    told = KernelRows(table, rows)
    _, pass_ = table.pass_ids
    timed = told.timed[~np.isin(told.timed, apart)]
    seconds, limits, first = (
        table.numbers[name][timed] for name in ("seconds_median", "limit_seconds", "seconds_first")
    )
    low, high = _interval(seconds) if len(timed) else (None, None)
    return KernelSummary(
        machine,
        case,
        kernel,
        passes=len(np.unique(pass_[rows])),
        status=told.status,
        seconds=_median(seconds),
        low=low,
        high=high,
        seconds_first=_median(first),
        of_limit=_median(limits / seconds),
        reason=told.reason,
    )


def _median(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return middle(known) if len(known) else None


def _interval(seconds: np.ndarray) -> tuple[float | None, float | None]:
    """Return the ends of the interval, between which the median lies too; None where one pass tells nothing."""
    found = bounds(trimmed_mean(np.log(seconds)), ALPHA)
    if not (found.low > 0 and math.isfinite(found.high)):
        return None, None
    typical = middle(seconds)
    return min(found.low, typical), max(found.high, typical)
