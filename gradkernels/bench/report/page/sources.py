"""The rows that a page is made of, by file and commit, in the order in which they were measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from gradkernels.coordinates import Coordinates
from gradkernels.key import Key
from gradkernels.record import Record

CasePlace = tuple[str, Coordinates]
"""A machine and what was computed on it."""

LEAST_SHARE = 0.5
"""A source shows a case if it timed this share of the kernels of the source that timed most of them."""


@dataclass(frozen=True)
class ReportSource:
    """Rows of one file and one commit.

    Attributes:
        label: What the page calls it.
        file: Name of the file.
        commit: As the rows say it; empty if they do not.
        records: The rows.
    """

    label: str
    file: str
    commit: str
    records: tuple[Record, ...]

    @cached_property
    def started(self) -> str:
        """When its first run began; empty if no row says it."""
        return min((row.started for row in self.records if row.started), default="")

    @cached_property
    def places(self) -> frozenset[CasePlace]:
        """The cases on which it tried kernels."""
        return frozenset((row.machine, row.case) for row in self.records if competes(row))


def competes(row: Record) -> bool:
    """Tell whether a row is of a kernel that a caller could choose."""
    return Key.parse(row.kernel).competes


def sources_of(files: Iterable[tuple[str, Sequence[Record]]]) -> list[ReportSource]:
    """Return the rows of files by commit, earliest first; a run that was resumed at another commit stays whole.

    Args:
        files: Name and rows of each.
    """
    found = []
    for name, records in files:
        commits: dict[str, str] = {}
        rows: dict[str, list[Record]] = {}
        for row in records:
            rows.setdefault(commits.setdefault(row.run, row.commit), []).append(row)
        for commit, own in rows.items():
            label = f"{name} at {commit or 'an unknown commit'}" if len(rows) > 1 else name
            found.append(ReportSource(label, name, commit, tuple(own)))
    return sorted(found, key=lambda source: source.started)


def newest(sources: Sequence[ReportSource]) -> list[Record]:
    """Return the rows of kernels that the page shows: of each case those of the last source that measured it.

    One that timed a few kernels of many only is passed over: it would be a ranking without the others.
    """
    shown = _shown(sources)
    return [
        row
        for number, source in enumerate(sources)
        for row in source.records
        if competes(row) and shown[row.machine, row.case] == number
    ]


def _shown(sources: Sequence[ReportSource]) -> dict[CasePlace, int]:
    """Return for each case the position of the source that is shown."""
    counts: dict[CasePlace, dict[int, int]] = {}
    for number, source in enumerate(sources):
        kernels: dict[CasePlace, set[str]] = {place: set() for place in source.places}
        for row in source.records:
            if competes(row) and row.measurement.seconds_median is not None:
                kernels[row.machine, row.case].add(row.kernel)
        for place, names in kernels.items():
            counts.setdefault(place, {})[number] = len(names)
    return {
        place: max(number for number, count in own.items() if count >= LEAST_SHARE * max(own.values()))
        for place, own in counts.items()
    }
