"""From rows to marks: the value of every kernel on every case, for each kind of picture.

A mark lies where the tables have it: at the median over the passes in which the kernel took turns. Its interval is
that of the median by order statistics (Thompson 1936), which supposes nothing of the distribution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from gradkernels.bench.report.pictures.content import Mark, PictureKind
from gradkernels.bench.results.table import ResultsTable, distinct, groups
from gradkernels.bench.results.turns import rows_in_turns
from gradkernels.bench.run.ranking import CaseRanking, RankedKernel, rankings
from gradkernels.bench.stats.estimates import Floats, Ints, middle
from gradkernels.bench.stats.verdict import lead
from gradkernels.coordinates import Coordinates
from gradkernels.key import Key

MISS_PROBABILITY = 0.05
"""Probability that an interval misses the median, half of it on each side."""

FEWEST = 6
"""With fewer passes their whole range is no interval at that level."""

_EXACT = 200
"""Up to so many passes probabilities are summed; beyond, by the normal distribution."""


@dataclass(frozen=True)
class TimedCase:
    """A case as the tables rank it, and what was measured of it.

    Attributes:
        ranking: Who wins.
        table: Every row.
        rows: Those of each kernel, timed in turns.
    """

    ranking: CaseRanking
    table: ResultsTable
    rows: Mapping[str, Ints]

    def passes(self, kernel: str) -> int:
        """Return in how many passes a kernel has a time."""
        return len(np.unique(self.table.process[self.rows[kernel]]))

    def of(self, kernel: str, column: str) -> Floats:
        """Return the numbers of a kernel in a column, those that it has."""
        values = self.table.numbers[column][self.rows[kernel]]
        known: Floats = values[~np.isnan(values)]
        return known

    def seconds_of_both(self, one: str, other: str) -> tuple[Floats, Floats]:
        """Return the times of two kernels in the processes that timed both, pair by pair."""
        rows, process = (self.rows[one], self.rows[other]), self.table.process
        _, first, second = np.intersect1d(process[rows[0]], process[rows[1]], return_indices=True)
        return self.table.seconds[rows[0][first]], self.table.seconds[rows[1][second]]


def timed_cases(table: ResultsTable) -> list[TimedCase]:
    """Return every case of the table in the order of its rankings."""
    table = table[table.where("kernel", lambda kernel: Key.parse(kernel).competes)]
    timed = np.flatnonzero(table.timed)
    (machines, cases), place = distinct(table.machine[timed], table.case[timed])
    found = {
        (table.machines[machine], table.cases[case]): _by_kernel(table, rows_in_turns(table, timed[own]))
        for machine, case, own in zip(machines, cases, groups(place), strict=True)
    }
    return [TimedCase(one, table, found.get((one.machine, one.case), {})) for one in rankings(table, growths=False)]


def _by_kernel(table: ResultsTable, rows: Ints) -> dict[str, Ints]:
    return {table.kernels[code]: rows[table.kernel[rows] == code] for code in np.unique(table.kernel[rows])}


def median_interval(values: Floats) -> tuple[float, float] | None:
    """Return the ends of the 95% interval of the median; of fewer than 6 values their range, of one None."""
    count = len(values)
    if count < 2:
        return None
    ordered, cut = np.sort(values), max(_cut(count), 1)
    return float(ordered[cut - 1]), float(ordered[count - cut])


def _cut(count: int) -> int:
    """Return which of so many ordered values is the lower end, from 1; 0 where not even the first is."""
    if count > _EXACT:
        return int((count - 1.96 * math.sqrt(count)) / 2)
    below, cut = 0.0, 0
    while (below := below + math.comb(count, cut) / 2**count) <= MISS_PROBABILITY / 2:
        cut += 1
    return cut


def _mark(n: int, values: Floats, sure: bool = True) -> Mark:
    low, high = median_interval(values) or (None, None)
    return Mark(n, middle(values), low, high, sure)


def _time(case: TimedCase, kernel: RankedKernel, _: str) -> Mark | None:
    low, high = median_interval(case.of(kernel.kernel, "seconds_median")) or (None, None)
    return Mark(case.ranking.case.n, kernel.seconds, low, high)


def _memory(case: TimedCase, kernel: RankedKernel, _: str) -> Mark | None:
    peaks = case.of(kernel.kernel, "peak_bytes")
    # Of less than a page nothing is seen, and a logarithmic axis has no zero.
    if not len(peaks) or not middle(peaks) > 0 or middle(peaks) < least_result_bytes(case.ranking.case):
        return None
    return Mark(case.ranking.case.n, middle(peaks))


def least_result_bytes(case: Coordinates) -> int:
    """Return how many bytes the result of a regression has at least; 0 where that is not known from the coordinates.

    A smaller rise says that the result went into memory that the process had before, as a library's pool may have.
    """
    numbers = {"per_sample": case.n * case.features, "norms": case.n}.get(case.quantity, 0)
    return 0 if case.problem.startswith(("module:", "function:")) else numbers * np.dtype(case.dtype).itemsize


def _limit(case: TimedCase, kernel: RankedKernel, _: str) -> Mark | None:
    rows = case.rows[kernel.kernel]
    shares = case.table.numbers["limit_seconds"][rows] / case.table.seconds[rows]
    known = shares[~np.isnan(shares)]
    return _mark(case.ranking.case.n, known) if len(known) else None


def _speed(case: TimedCase, kernel: RankedKernel, baseline: str) -> Mark | None:
    if baseline not in case.rows or kernel.kernel == baseline:
        return None
    own, base = case.seconds_of_both(kernel.kernel, baseline)
    if not len(own):
        return None
    ahead = lead(own, base)
    return _mark(case.ranking.case.n, base / own, sure=not ahead.low <= 1 <= ahead.high)


def _break_even(case: TimedCase, kernel: RankedKernel, baseline: str) -> Mark | None:
    """Return N with first + N seconds equal for both: what `fastest --calls N` weighs."""
    if baseline not in case.rows or kernel.kernel == baseline:
        return None
    own, base = case.seconds_of_both(kernel.kernel, baseline)
    first, other = (case.of(one, "seconds_first") for one in (kernel.kernel, baseline))
    if not (len(own) and len(first) and len(other)) or middle(own) >= middle(base):
        return None
    calls = math.ceil((middle(first) - middle(other)) / (middle(base) - middle(own)))
    return Mark(case.ranking.case.n, max(1, calls), sure=lead(own, base).low > 1)


MARK_BY_KIND: dict[PictureKind, Callable[[TimedCase, RankedKernel, str], Mark | None]] = {
    PictureKind.time: _time,
    PictureKind.speed: _speed,
    PictureKind.memory: _memory,
    PictureKind.limit: _limit,
    PictureKind.break_even: _break_even,
}
"""The mark of a kernel on a case, with the kernel that it is compared with, if there is something to show."""
