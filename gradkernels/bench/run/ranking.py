"""Who wins where, by how much, and why not the others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from gradkernels.bench.results.table import STATUSES, Flags, ResultsTable, distinct, groups, positions, tabulate
from gradkernels.bench.results.turns import RaceRows, in_main_blocks, race_rows, rows_in_turns
from gradkernels.bench.stats.estimates import Ints, PassId, Ratio, middle
from gradkernels.bench.stats.scaling import Growth, growth
from gradkernels.bench.stats.verdict import lead
from gradkernels.coordinates import ALL_SIZES, Coordinates
from gradkernels.key import Key
from gradkernels.record import Measurement, Record

NAMED_WAYS = {
    "loop": "torch.loop",
    "vmap": "torch.vmap",
    "broadcast": "numpy.broadcast",
    "autograd": "torch.autograd",
}
"""The four ways that everything started from."""


Curve = dict[PassId, dict[int, float]]
"""Seconds per call of one kernel, by pass and n."""


@dataclass(frozen=True)
class RankedKernel:
    """One kernel's time on a case, and how far the winner is ahead of it.

    Attributes:
        kernel: The key.
        seconds: Median over passes of the median call.
        behind: Its seconds over the winner's, with bounds over passes; None for the winner itself.
        limit_seconds: What moving the least bytes took in the same passes; None where that was not measured.
        of_limit: The limit over its seconds, the median over passes: 1 is the speed of memory.
        growth: How its cost grows with n over the sizes beside this one.
        in_turns: Whether it was timed in turns with the winner; without, their times were taken at other moments.
    """

    kernel: str
    seconds: float
    behind: Ratio | None
    limit_seconds: float | None = None
    of_limit: float | None = None
    growth: Growth | None = None
    in_turns: bool = True


@dataclass(frozen=True)
class CaseRanking:
    """The ranking of one case.

    Attributes:
        case: What was computed.
        kernels: Fastest first; empty when nothing could be proven and timed.
        absent: Why the others have no time: kernel to `status: reason`.
        machine: Where it was measured.
    """

    case: Coordinates
    kernels: tuple[RankedKernel, ...]
    absent: Mapping[str, str]
    machine: str

    def of_way(self, way: str) -> RankedKernel | None:
        """Return the kernel of a way, written by hand or composed for this quantity."""
        return next((ranked for ranked in self.kernels if Key.parse(ranked.kernel).plain_way == way), None)


def weighed(records: Iterable[Record], calls: int | None) -> list[Record]:
    """Return the records with the share of building and the first call in the time, for kernels called `calls` times.

    Args:
        records: As measured.
        calls: How often a kernel is called; None for so often that its first call does not count.
    """
    return [replace(row, measurement=_weighed(row.measurement, calls)) if calls else row for row in records]


def _weighed(measurement: Measurement, calls: int) -> Measurement:
    if not (measurement.seconds_median and measurement.seconds_first):
        return measurement
    return replace(measurement, seconds_median=measurement.seconds_median + measurement.seconds_first / calls)


def with_first_calls(table: ResultsTable, calls: int | None) -> ResultsTable:
    """Return the rows with the share of building and the first call in the time, as `weighed` does for records."""
    if not calls:
        return table
    share = np.nan_to_num(table.numbers["seconds_first"]) / calls
    return replace(table, numbers={**table.numbers, "seconds_median": table.seconds + share})


def rankings(rows: Iterable[Record] | ResultsTable, growths: bool = True) -> list[CaseRanking]:
    """Rank the kernels of every case in `rows`, cases that differ in n alone together and ascending.

    The yardsticks, the conversions and kernels that write into given memory do not compete. The winner of a race is
    held against the others by the passes that they ran together, and has the time of those when it was measured again.

    Args:
        rows: As measured.
        growths: Whether to say of every kernel how its cost grows with n; else of the winners only.
    """
    table = tabulate(rows)
    table = table[table.where("kernel", lambda kernel: Key.parse(kernel).competes)]
    (machines, cases), place = distinct(table.machine, table.case)
    found = zip(machines, cases, groups(place), strict=True)
    named = [(table.machines[machine], table.cases[case], own) for machine, case, own in found]
    ordered = sorted(named, key=lambda one: _order(*one[:2]))
    race = race_rows(table)
    ranked = [_Case(table, race, machine, case, own) for machine, case, own in ordered]
    wanted = {line for one in ranked for line in (one.lines if growths else one.lines[:1])}
    grown = _grown(table, wanted)
    return [one.ranking(grown) for one in ranked]


def _order(machine: str, case: Coordinates) -> tuple[object, ...]:
    """Return a key that sorts the cases of one table together, ascending in n."""
    return case.at(ALL_SIZES), machine, case.n


KernelLine = tuple[str, str, Coordinates]
"""What the points of one curve over n share: machine, kernel, and the case at all sizes."""


def _grown(table: ResultsTable, wanted: Collection[KernelLine]) -> dict[KernelLine, Growth | None]:
    """Return how the costs of the lines that are wanted grow."""
    at_all_sizes = [case.at(ALL_SIZES) for case in table.cases]
    shared = list(dict.fromkeys(at_all_sizes))
    of_case, sizes = positions(at_all_sizes, shared), np.array([case.n for case in table.cases], np.int64)
    timed = np.flatnonzero(table.timed)
    codes, place = distinct(table.machine[timed], table.kernel[timed], of_case[table.case[timed]])
    grown: dict[KernelLine, Growth | None] = {}
    for machine, kernel, case, own in zip(*codes, groups(place), strict=True):
        if (line := (table.machines[machine], table.kernels[kernel], shared[case])) in wanted:
            grown[line] = growth(_curve(table, sizes, timed[own]))
    return grown


def _curve(table: ResultsTable, sizes: Ints, rows: Ints) -> Curve:
    """Return the times of some rows by pass and n, of which each case has the size at its position in `sizes`."""
    ids, pass_ = table.pass_ids
    curve: Curve = {}
    columns = (column.tolist() for column in (pass_[rows], sizes[table.case[rows]], table.seconds[rows]))
    for one, n, seconds in zip(*columns, strict=True):
        curve.setdefault(ids[one], {})[n] = seconds
    return curve


class _Case:
    """The rows of one case, ranked.

    Args:
        table: Every row.
        race: Which of them count in which way, where there was a race.
        machine: Where the case was measured.
        case: What was computed.
        rows: Which of the rows are of the case.
    """

    def __init__(self, table: ResultsTable, race: RaceRows, machine: str, case: Coordinates, rows: Ints) -> None:
        self._table, self._rows = table, rows
        self.machine, self.case = machine, case
        timed = rows_in_turns(table, rows[table.timed[rows]])
        main = in_main_blocks(table, timed)
        first, place = np.unique(table.kernel[timed], return_index=True, return_inverse=True)[1:]
        owns = groups(place)
        kernels = [timed[own] for own in owns]
        # Whoever took no turns with most of the others comes last: it was not compared with them.
        apart = [not main[own].any() for own in owns]
        # Of equally fast kernels the one comes first that was timed first.
        placed = [middle(table.seconds[_among(own, race.placing)]) for own in kernels]
        order = sorted(range(len(kernels)), key=lambda one: (apart[one], placed[one], first[one]))
        self._kernels = [kernels[one] for one in order]
        # The passes that chose the winner of a race are too fast: its time is that of the passes after.
        self._counted = [_among(own, race.timing) for own in self._kernels]
        names = [table.kernels[table.kernel[own[0]]] for own in self._kernels]
        self.lines = [(machine, name, case.at(ALL_SIZES)) for name in names]

    def ranking(self, grown: Mapping[KernelLine, Growth | None]) -> CaseRanking:
        """Return the ranking; `grown` says how the cost of kernels grows."""
        kernels = tuple(self._ranked(place, grown.get(line)) for place, line in enumerate(self.lines))
        return CaseRanking(self.case, kernels, self._absent(), self.machine)

    def _ranked(self, place: int, grown: Growth | None) -> RankedKernel:
        table, own = self._table, self._counted[place]
        limits = table.numbers["limit_seconds"][own]
        known = ~np.isnan(limits)
        behind = _behind(table, self._kernels[0], self._kernels[place]) if place else None
        return RankedKernel(
            self.lines[place][1],
            middle(table.seconds[own]),
            behind,
            middle(limits[known]) if known.any() else None,
            middle(limits[known] / table.seconds[own[known]]) if known.any() else None,
            grown,
            in_turns=not place or behind is not None,
        )

    def _absent(self) -> dict[str, str]:
        """Return why kernels have no time, as the last row of each says."""
        table, timed = self._table, {self._table.kernel[own[0]] for own in self._kernels}
        codes = table.kernel[self._rows]
        left = self._rows[~np.isin(codes, list(timed))]
        whys = zip(table.kernel[left].tolist(), table.status[left].tolist(), table.reason[left].tolist(), strict=True)
        return {
            table.kernels[kernel]: f"{STATUSES[status]}: {table.reasons[reason]}" for kernel, status, reason in whys
        }


def _behind(table: ResultsTable, winner: Ints, other: Ints) -> Ratio | None:
    """Return how far a kernel is behind the winner in the processes that timed both."""
    process = table.process
    _, one, two = np.intersect1d(process[winner], process[other], return_indices=True)
    return lead(table.seconds[winner[one]], table.seconds[other[two]]) if len(one) else None


def _among(rows: Ints, wanted: Flags) -> Ints:
    """Return those rows that are wanted; all of them if none is."""
    chosen = rows[wanted[rows]]
    return chosen if len(chosen) else rows
