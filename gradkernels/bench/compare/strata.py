"""Kinds of machines as strata: one verdict for a kernel and case that several of them have on both sides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from gradkernels.bench.compare.comparison import Row
from gradkernels.bench.stats.estimates import LogEstimate, mean_over_strata
from gradkernels.coordinates import Coordinates

Judged = tuple[Row, LogEstimate]
"""A row, and the logarithm of its ratio of after over before."""


def over_machines(rows: Iterable[Judged]) -> Iterator[Judged]:
    """Yield for each kernel and case that several machines compared what all of them say, each counting the same.

    Only ratios within a machine are averaged, never times: those of one machine say nothing of another's.

    Args:
        rows: Those that were timed on both sides, each of one machine.
    """
    by_case: dict[tuple[Coordinates, str], list[Judged]] = {}
    for row, change in rows:
        by_case.setdefault((row.case, row.kernel), []).append((row, change))
    return (_pooled(strata) for strata in by_case.values() if len(strata) > 1)


def _pooled(strata: list[Judged]) -> Judged:
    rows = [row for row, _ in strata]
    before, after = sum(row.passes_before for row in rows), sum(row.passes_after for row in rows)
    change = replace(mean_over_strata([change for _, change in strata]), passes=min(before, after))
    row = replace(
        rows[0],
        machine=f"{len(rows)} machines",
        reason="",
        passes_before=before,
        passes_after=after,
        seconds_before=None,
        seconds_after=None,
        normalised=all(row.normalised for row in rows),
    )
    return row, change
