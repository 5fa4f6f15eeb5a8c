"""Who wins where, by how much, and why not the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

from gradkernels.bench.entrants import OUT
from gradkernels.bench.statistics import Pass, Ratio
from gradkernels.bench.verdict import lead
from gradkernels.record import CASE, Record
from gradkernels.wisdom import CONVERT, YARDSTICKS, Entry, Table

NAMED_WAYS = {
    "loop": "torch.loop",
    "vmap": "torch.vmap",
    "broadcast": "numpy.broadcast",
    "autograd": "torch.autograd",
}
"""The four ways that everything started from."""


@dataclass(frozen=True)
class Place:
    """One kernel's time on a case, and how far the winner is ahead of it.

    Attributes:
        kernel: Its key.
        seconds: Median over passes of the median call.
        behind: Its seconds over the winner's, with bounds over passes; None for the winner itself.
    """

    kernel: str
    seconds: float
    behind: Ratio | None


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


def standings(records: Iterable[Record]) -> list[Standing]:
    """The ranking of every case in `records`, quantities together and ascending in n.

    The control, the canary, the conversions and kernels that write into given memory do not compete.
    """
    cases: dict[tuple[object, ...], list[Record]] = {}
    for row in records:
        if competes(row.kernel):
            cases.setdefault((row.machine, *row.case), []).append(row)
    ordered = sorted(cases.values(), key=lambda rows: (rows[0].problem, rows[0].quantity, rows[0].n))
    return [_standing(rows) for rows in ordered]


def competes(kernel: str) -> bool:
    """Whether a row is a kernel that a caller could have chosen."""
    return kernel not in YARDSTICKS and not kernel.startswith(CONVERT) and not kernel.endswith(OUT)


def _standing(rows: list[Record]) -> Standing:
    times: dict[str, dict[Pass, float]] = {}
    for row in rows:
        if row.seconds_median is not None:
            times.setdefault(row.kernel, {})[row.run, row.pass_] = row.seconds_median
    ranked = sorted(times, key=lambda kernel: median(times[kernel].values()))
    places = tuple(
        Place(kernel, median(times[kernel].values()), _behind(times[ranked[0]], times[kernel]) if position else None)
        for position, kernel in enumerate(ranked)
    )
    absent = {row.kernel: f"{row.status}: {row.reason}" for row in rows if row.kernel not in times}
    return Standing(_where(rows[0]), places, absent)


def _where(row: Record) -> Where:
    return Where(*row.case)  # type: ignore[arg-type]


def _behind(winner: Mapping[Pass, float], other: Mapping[Pass, float]) -> Ratio | None:
    return lead(winner, other) if winner.keys() & other.keys() else None


def known(table: Table) -> list[Standing]:
    """The ranking in a table of wisdom, which has no passes and therefore no bounds."""
    return [_recalled(entry, n) for entry in table for n in _sizes(entry)]


def _sizes(entry: Entry) -> list[int]:
    return sorted({point.n for kernel, points in entry.curves.items() if competes(kernel) for point in points})


def _recalled(entry: Entry, n: int) -> Standing:
    times = {
        kernel: point.seconds
        for kernel, points in entry.curves.items()
        for point in points
        if competes(kernel) and point.n == n
    }
    where = Where(n=n, **{name: getattr(entry, name) for name in CASE if name != "n"})
    return Standing(
        where, tuple(Place(kernel, times[kernel], None) for kernel in sorted(times, key=times.__getitem__)), {}
    )
