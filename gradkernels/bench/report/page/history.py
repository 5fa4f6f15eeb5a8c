"""What changed between measurements: each case against the one before it, by the verdicts of `gradkernels compare`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from gradkernels.bench.compare.compare import compare, for_all
from gradkernels.bench.compare.comparison import Row
from gradkernels.bench.report.comparison_text import summary_sentences
from gradkernels.bench.report.page.sources import CasePlace, ReportSource
from gradkernels.bench.stats.estimates import alpha_at
from gradkernels.record import Record


@dataclass(frozen=True)
class Step:
    """One source against an earlier one, in the cases of which that was the last measurement before, or the first.

    Attributes:
        before: Position of the earlier source.
        after: Position of the later one.
        overall: Whether the earlier is the first of several, and the later the last.
        rows: The kernels and cases of both; p-values are adjusted for all steps of the page.
        sentences: What the comparison comes to; why there is none, where there are no rows.
        counts: How many rows have each verdict.
    """

    before: int
    after: int
    overall: bool
    rows: tuple[Row, ...]
    sentences: tuple[str, ...]
    counts: dict[str, int]


def steps(sources: Sequence[ReportSource]) -> list[Step]:
    """Return the steps from each measurement of a case to the next, and over all of them where there are several."""
    near: dict[tuple[int, int], set[CasePlace]] = {}
    far: dict[tuple[int, int], set[CasePlace]] = {}
    for place in dict.fromkeys(place for source in sources for place in source.places):
        there = [number for number, source in enumerate(sources) if place in source.places]
        for pair in pairwise(there):
            near.setdefault(pair, set()).add(place)
        if len(there) > 2:
            far.setdefault((there[0], there[-1]), set()).add(place)
    found = [_step(sources, pair, near[pair], False) for pair in sorted(near, key=lambda pair: pair[::-1])]
    return _adjusted(found + [_step(sources, pair, far[pair], True) for pair in sorted(far)])


def _step(sources: Sequence[ReportSource], pair: tuple[int, int], places: set[CasePlace], overall: bool) -> Step:
    before, after = (sources[number] for number in pair)
    try:
        comparison = compare(_rows_of(before, places), _rows_of(after, places), names=(before.label, after.label))
    except ValueError as error:  # a kernel that was timed twice in a pass, say: the rest of the page holds all the same
        return Step(*pair, overall, (), (str(error),), {})
    return Step(*pair, overall, comparison.compared, tuple(summary_sentences(comparison)), comparison.counts)


def _rows_of(source: ReportSource, places: set[CasePlace]) -> list[Record]:
    """Return the rows of some cases, the yardsticks among them."""
    return [row for row in source.records if (row.machine, row.case) in places]


def _adjusted(found: Sequence[Step]) -> list[Step]:
    """Return the steps with p-values that hold for every row of all of them at once."""
    rows = iter(for_all([row for step in found for row in step.rows]))
    return [replace(step, rows=tuple(next(rows) for _ in step.rows)) for step in found]


def surely_changed(row: Row) -> bool:
    """Tell whether a row changed for sure, among all rows whose p-values were adjusted together."""
    passes = min(row.passes_before, row.passes_after)
    return row.verdict in ("slower", "faster") and row.p_suite is not None and row.p_suite <= alpha_at(passes)
