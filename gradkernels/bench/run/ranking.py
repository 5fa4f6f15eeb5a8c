"""Who wins where, by how much, and why not the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import median

from gradkernels.bench.stats.estimates import Pass, Ratio
from gradkernels.bench.stats.scaling import Growth, growth
from gradkernels.bench.stats.verdict import lead
from gradkernels.dispatch.wisdom import Entry, Table
from gradkernels.key import Key
from gradkernels.record import CASE, Record

NAMED_WAYS = {
    "loop": "torch.loop",
    "vmap": "torch.vmap",
    "broadcast": "numpy.broadcast",
    "autograd": "torch.autograd",
}
"""The four ways that everything started from."""


Curve = dict[Pass, dict[int, float]]
"""Seconds per call of one kernel, by pass and n."""


@dataclass(frozen=True)
class Place:
    """One kernel's time on a case, and how far the winner is ahead of it.

    Attributes:
        kernel: Its key.
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
class Where:
    """The coordinates of a case, in the order of `record.CASE`."""

    problem: str
    quantity: str
    n: int
    features: int
    dtype: str
    layout: str
    device: str
    threads: int


@dataclass(frozen=True)
class Standing:
    """The ranking of one case.

    Attributes:
        where: The case.
        places: Fastest first; empty when nothing could be proven and timed.
        absent: Why the others have no time: kernel to `status: reason`.
    """

    where: Where
    places: tuple[Place, ...]
    absent: Mapping[str, str]

    def place(self, way: str) -> Place | None:
        """The place of a way, written by hand or composed for this quantity."""
        keys = (f"{way}.{self.where.quantity}", f"{way}+.{self.where.quantity}")
        return next((place for place in self.places if place.kernel in keys), None)


def weighed(records: Iterable[Record], calls: int | None) -> list[Record]:
    """`records` with the share of building and the first call, where a kernel is called `calls` times, in its time."""
    return [
        replace(row, seconds_median=row.seconds_median + row.seconds_first / calls)
        if calls and row.seconds_median and row.seconds_first
        else row
        for row in records
    ]


def standings(records: Iterable[Record]) -> list[Standing]:
    """The ranking of every case in `records`, those that differ in n alone together and ascending.

    The yardsticks, the conversions and kernels that write into given memory do not compete.
    """
    cases: dict[tuple[object, ...], list[Record]] = {}
    curves: dict[tuple[object, ...], Curve] = {}
    for row in records:
        if Key.parse(row.kernel).competes:
            cases.setdefault((row.machine, *row.case), []).append(row)
            if row.seconds_median is not None:
                curve = curves.setdefault(_line(row), {})
                curve.setdefault((row.run, row.pass_), {})[row.n] = row.seconds_median
    grown = {line: growth(curve) for line, curve in curves.items()}
    ordered = sorted(cases.values(), key=lambda rows: _order(rows[0]))
    return [_standing(rows, grown) for rows in ordered]


def _order(row: Record) -> tuple[object, ...]:
    """The cases of one table together, ascending in n."""
    return (*(getattr(row, name) for name in CASE if name != "n"), row.machine, row.n)


def _line(row: Record) -> tuple[object, ...]:
    """What the points of one curve over n share."""
    return (row.machine, row.kernel, *(getattr(row, name) for name in CASE if name != "n"))


def _standing(rows: list[Record], grown: Mapping[tuple[object, ...], Growth | None]) -> Standing:
    timed: dict[str, dict[Pass, Record]] = {}
    for row in rows:
        if row.seconds_median is not None:
            timed.setdefault(row.kernel, {})[row.run, row.pass_] = row
    ranked = sorted(timed, key=lambda kernel: median(_seconds(timed[kernel]).values()))
    places = tuple(_place(timed[kernel], timed[ranked[0]], grown) for kernel in ranked)
    absent = {row.kernel: f"{row.status}: {row.reason}" for row in rows if row.kernel not in timed}
    return Standing(_where(rows[0]), places, absent)


def _seconds(rows: Mapping[Pass, Record]) -> dict[Pass, float]:
    return {one: row.seconds_median for one, row in rows.items() if row.seconds_median is not None}


def _place(
    rows: Mapping[Pass, Record], winner: Mapping[Pass, Record], grown: Mapping[tuple[object, ...], Growth | None]
) -> Place:
    row, seconds = next(iter(rows.values())), _seconds(rows)
    limits = {one: row.limit_seconds for one, row in rows.items() if row.limit_seconds is not None}
    return Place(
        row.kernel,
        median(seconds.values()),
        _behind(_seconds(winner), seconds) if rows is not winner else None,
        median(limits.values()) if limits else None,
        median(limit / seconds[one] for one, limit in limits.items()) if limits else None,
        grown[_line(row)],
    )


def _where(row: Record) -> Where:
    return Where(*row.case)  # type: ignore[arg-type]


def _behind(winner: Mapping[Pass, float], other: Mapping[Pass, float]) -> Ratio | None:
    return lead(winner, other) if winner.keys() & other.keys() else None


def known(table: Table, calls: int | None = None) -> list[Standing]:
    """The ranking in a table of wisdom, which has no passes and therefore no bounds; `calls` as for `weighed`."""
    return [_recalled(entry, n, calls) for entry in table for n in _sizes(entry)]


def _sizes(entry: Entry) -> list[int]:
    return sorted({point.n for key, points in entry.curves.items() if Key.parse(key).competes for point in points})


def _recalled(entry: Entry, n: int, calls: int | None) -> Standing:
    times = {
        kernel: point.seconds + (point.first / calls if calls else 0.0)
        for kernel, points in entry.curves.items()
        for point in points
        if Key.parse(kernel).competes and point.n == n
    }
    where = Where(n=n, **{name: getattr(entry, name) for name in CASE if name != "n"})
    ranked = sorted(times, key=times.__getitem__)
    return Standing(
        where,
        tuple(Place(kernel, times[kernel], None, growth=_recalled_growth(entry, kernel)) for kernel in ranked),
        {},
    )


def _recalled_growth(entry: Entry, kernel: str) -> Growth | None:
    return growth({("", 0): {point.n: point.seconds for point in entry.curves[kernel]}})
