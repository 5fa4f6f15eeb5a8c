"""From records to a table, and from two tables to one: point by point."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from statistics import median
from typing import Any

from gradkernels.coordinates import ALL_SIZES, Coordinates
from gradkernels.dispatch.wisdom.entry import (
    COORDINATES,
    MeasuredPoint,
    Origin,
    Wisdom,
    WisdomEntry,
    as_text,
    date_of,
    described,
    fault_of,
    is_date,
)
from gradkernels.dispatch.wisdom.warn import pass_over
from gradkernels.key import Key
from gradkernels.record import Record, Status, in_turns, unbiased

Curves = dict[str, tuple[MeasuredPoint, ...]]


def learn(records: Iterable[Record], sources: str | Mapping[str, str] = "") -> Wisdom:
    """Make the table that `records` support: rows with status `ok` only, medians over passes.

    Args:
        records: Rows of results files, or of a race.
        sources: What measured them, `race` or the name of a file; or that by run.

    Returns:
        The entries; one that no choice could be made by is left out with a warning.
    """
    proven = (row for row in unbiased(records) if row.measurement.status == Status.ok)
    rows = sorted(in_turns(row for row in proven if not Key.parse(row.kernel).is_yardstick), key=_coordinates)
    named = sources if isinstance(sources, Mapping) else dict.fromkeys((row.run for row in rows), sources)
    found = [_entry(key, list(group), named) for key, group in groupby(rows, key=_coordinates)]
    return tuple(entry for entry in found if _is_usable(entry, ", ".join(sorted({*named.values()}))))


def _is_usable(entry: WisdomEntry, source: str) -> bool:
    if fault := fault_of(entry):
        pass_over(f"{source or 'what was measured'}: the entry {described(entry)} is", fault)
    return not fault


def _coordinates(row: Record) -> tuple[Any, ...]:
    problem = row.case.problem.partition("/")[0]
    return (row.machine, *(getattr(replace(row.case, problem=problem), name) for name in COORDINATES))


def _entry(key: tuple[Any, ...], rows: list[Record], sources: Mapping[str, str]) -> WisdomEntry:
    curves: Curves = {}
    for kernel in sorted({row.kernel for row in rows}):
        of_kernel = [row for row in rows if row.kernel == kernel]
        sizes = sorted({row.case.n for row in of_kernel})
        curves[kernel] = tuple(_point(n, [row for row in of_kernel if row.case.n == n], sources) for n in sizes)
    machine, *coordinates = key
    case = Coordinates(n=ALL_SIZES, **dict(zip(COORDINATES, coordinates, strict=True)))
    return WisdomEntry(machine, case, curves)


def _point(n: int, rows: list[Record], sources: Mapping[str, str]) -> MeasuredPoint:
    peaks = [row.measurement.peak_bytes for row in rows if row.measurement.peak_bytes is not None]
    started = max((row.started for row in rows), key=date_of)
    source = ", ".join(sorted({sources.get(row.run, "") for row in rows} - {""}))
    return MeasuredPoint(
        n,
        _rounded(median(row.measurement.seconds_median for row in rows if row.measurement.seconds_median)),
        _rounded(median(row.measurement.seconds_first or 0.0 for row in rows)),
        max(peaks) if peaks else None,
        Origin(started if is_date(started) else "", as_text(source), len(rows)),
    )


def _rounded(seconds: float) -> float:
    return float(f"{seconds:.4g}")


def merged_tables(new: Wisdom, old: Wisdom) -> Wisdom:
    """Return all that either table knows; of a point that both have, what was measured later, of equal age `new`'s.

    A point is one kernel at one size, of one case on one machine.
    """
    found: dict[tuple[str, Coordinates], Curves] = {}
    for entry in (*old, *new):
        known = found.setdefault((entry.machine, entry.case), {})
        for kernel, points in entry.curves.items():
            known[kernel] = _newest((*known[kernel], *points)) if kernel in known else points
    return tuple(WisdomEntry(machine, case, curves) for (machine, case), curves in found.items())


def _newest(points: Iterable[MeasuredPoint]) -> tuple[MeasuredPoint, ...]:
    """Keep one point for each size, the last of those measured last, in ascending n."""
    found: dict[int, MeasuredPoint] = {}
    for point in points:
        known = found.get(point.n)
        found[point.n] = point if known is None else _newer(known, point)
    return tuple(found[n] for n in sorted(found))


def _newer(known: MeasuredPoint, other: MeasuredPoint) -> MeasuredPoint:
    older, newer = (known, other) if _measured_at(known) <= _measured_at(other) else (other, known)
    # Whoever measures times alone knows no more of the memory than was known.
    return newer if newer.bytes is not None else newer._replace(bytes=older.bytes)


def _measured_at(point: MeasuredPoint) -> datetime:
    """Return when a point was measured; a date that is yet to come is of a clock that was wrong, and tells nothing."""
    started = date_of(point.origin.started)
    return started if started <= datetime.now(UTC) else date_of("")
