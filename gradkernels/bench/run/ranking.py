"""Who wins where, by how much, and why not the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import median

from gradkernels.bench.stats.estimates import PassId, Ratio
from gradkernels.bench.stats.scaling import Growth, growth
from gradkernels.bench.stats.verdict import lead
from gradkernels.coordinates import ALL_SIZES, Coordinates
from gradkernels.dispatch.wisdom import Wisdom, WisdomEntry
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
    """

    kernel: str
    seconds: float
    behind: Ratio | None
    limit_seconds: float | None = None
    of_limit: float | None = None
    growth: Growth | None = None


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


def rankings(records: Iterable[Record]) -> list[CaseRanking]:
    """Rank the kernels of every case in `records`, cases that differ in n alone together and ascending.

    The yardsticks, the conversions and kernels that write into given memory do not compete.
    """
    cases: dict[tuple[str, Coordinates], list[Record]] = {}
    curves: dict[tuple[object, ...], Curve] = {}
    for row in records:
        if Key.parse(row.kernel).competes:
            cases.setdefault((row.machine, row.case), []).append(row)
            if row.measurement.seconds_median is not None:
                curve = curves.setdefault(_line(row), {})
                curve.setdefault((row.run, row.pass_), {})[row.case.n] = row.measurement.seconds_median
    grown = {line: growth(curve) for line, curve in curves.items()}
    ordered = sorted(cases.values(), key=lambda rows: _order(rows[0]))
    return [_ranking(rows, grown) for rows in ordered]


def _order(row: Record) -> tuple[object, ...]:
    """Return a key that sorts the cases of one table together, ascending in n."""
    return row.case.at(ALL_SIZES), row.machine, row.case.n


def _line(row: Record) -> tuple[object, ...]:
    """Return what the points of one curve over n share."""
    return row.machine, row.kernel, row.case.at(ALL_SIZES)


def _ranking(rows: list[Record], grown: Mapping[tuple[object, ...], Growth | None]) -> CaseRanking:
    timed: dict[str, dict[PassId, Record]] = {}
    for row in rows:
        if row.measurement.seconds_median is not None:
            timed.setdefault(row.kernel, {})[row.run, row.pass_] = row
    ranked = sorted(timed, key=lambda kernel: median(_seconds(timed[kernel]).values()))
    kernels = tuple(_ranked(timed[kernel], timed[ranked[0]], grown) for kernel in ranked)
    left = (row.measurement for row in rows if row.kernel not in timed)
    absent = {one.kernel: f"{one.status}: {one.reason}" for one in left}
    return CaseRanking(rows[0].case, kernels, absent, rows[0].machine)


def _seconds(rows: Mapping[PassId, Record]) -> dict[PassId, float]:
    return {one: seconds for one, row in rows.items() if (seconds := row.measurement.seconds_median) is not None}


def _ranked(
    rows: Mapping[PassId, Record], winner: Mapping[PassId, Record], grown: Mapping[tuple[object, ...], Growth | None]
) -> RankedKernel:
    row, seconds = next(iter(rows.values())), _seconds(rows)
    limits = {one: limit for one, row in rows.items() if (limit := row.measurement.limit_seconds) is not None}
    return RankedKernel(
        row.kernel,
        median(seconds.values()),
        _behind(_seconds(winner), seconds) if rows is not winner else None,
        median(limits.values()) if limits else None,
        median(limit / seconds[one] for one, limit in limits.items()) if limits else None,
        grown[_line(row)],
    )


def _behind(winner: Mapping[PassId, float], other: Mapping[PassId, float]) -> Ratio | None:
    return lead(winner, other) if winner.keys() & other.keys() else None


def known(table: Wisdom, calls: int | None = None) -> list[CaseRanking]:
    """Rank the kernels in a table of wisdom, which has no passes and therefore no bounds.

    Args:
        table: What was learned from records.
        calls: As for `weighed`.
    """
    return [_recalled(entry, n, calls) for entry in table for n in _sizes(entry)]


def _sizes(entry: WisdomEntry) -> list[int]:
    return sorted({point.n for key, points in entry.curves.items() if Key.parse(key).competes for point in points})


def _recalled(entry: WisdomEntry, n: int, calls: int | None) -> CaseRanking:
    times = {
        kernel: point.seconds + (point.first / calls if calls else 0.0)
        for kernel, points in entry.curves.items()
        for point in points
        if Key.parse(kernel).competes and point.n == n
    }
    ranked = sorted(times, key=times.__getitem__)
    kernels = (RankedKernel(key, times[key], None, growth=_recalled_growth(entry, key)) for key in ranked)
    return CaseRanking(entry.case.at(n), tuple(kernels), {}, entry.machine)


def _recalled_growth(entry: WisdomEntry, kernel: str) -> Growth | None:
    return growth({("", 0): {point.n: point.seconds for point in entry.curves[kernel]}})
