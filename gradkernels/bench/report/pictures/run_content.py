"""What the pictures of a run show: its cases as panels, its ways as series, and the finding as the title."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from statistics import fmean

from gradkernels.bench.report.pictures.baseline import chosen_baseline, kernel_of
from gradkernels.bench.report.pictures.captions import notes_of, panel_names
from gradkernels.bench.report.pictures.content import Mark, Panel, PictureContent, PictureKind, Series
from gradkernels.bench.report.pictures.finding import NOTHING_TIMED, begun, best_way, count_winners, who_wins
from gradkernels.bench.report.pictures.kinds import SCALES
from gradkernels.bench.report.pictures.measured import MARK_BY_KIND, TimedCase, timed_cases
from gradkernels.bench.results.table import ResultsTable
from gradkernels.bench.run.ranking import with_first_calls
from gradkernels.coordinates import ALL_SIZES
from gradkernels.key import Key
from gradkernels.names import counted

MOST_LINES = 12
"""More lines than these cannot be told apart; the best of them keep their colours."""

LEADERS = 8
FAR_BELOW = 3
"""A limit that is everywhere below one so-many-th of all times is not drawn: the axis does not reach there."""

NOTHING_TO_DRAW = {
    PictureKind.memory: "no row has a peak_bytes above 0; small kernels take less than the system can tell",
    PictureKind.limit: "no row has a limit_seconds, which `gradkernels run` measures for regressions and modules",
    PictureKind.break_even: "no kernel is faster per call than {baseline}, with the time of its first call known",
    PictureKind.speed: "nothing but {baseline} itself was timed in turns with it; name another baseline",
}


def content_of(
    table: ResultsTable,
    kind: PictureKind = PictureKind.time,
    baseline: str | None = None,
    calls: int | None = None,
) -> PictureContent:
    """Return what a picture of these rows shows.

    Args:
        table: Rows of results files.
        kind: What to show; not `estimate`.
        baseline: The way that others are compared with, where the kind compares; None for a usual one.
        calls: How often a kernel is called, to weigh what its first call takes, as `fastest` does; None for many.

    Raises:
        ValueError: Nothing in the rows can be shown so, or the baseline is none.
    """
    require_meaning(kind, baseline, calls)
    cases, scale = timed_cases(with_first_calls(table, calls)), SCALES[kind]
    if not any(case.rows for case in cases):
        return PictureContent(kind, begun(NOTHING_TIMED), "", (), ())
    way = chosen_baseline(baseline, cases) if scale.relative else ""
    groups = [list(group) for _, group in groupby(cases, key=_curve)]
    panels = [_panel(group, kind, way) for group in groups]
    drawn = [place for place, panel in enumerate(panels) if panel.series]
    if not drawn:
        raise ValueError(NOTHING_TO_DRAW[kind].format(baseline=way))
    names, shared = panel_names([groups[place][0].ranking for place in drawn])
    lowest = min(mark.value for panel in panels for one in panel.series for mark in one.marks)
    named = [_within(replace(panels[place], name=name), lowest) for place, name in zip(drawn, names, strict=True)]
    weighed = f"; of {counted(calls, 'call')}, its share of building and the first included" if calls else ""
    heading = f"{scale.heading.format(baseline=way)}: {shared}{weighed}"
    return _titled(named, kind, way, heading, [case for place in drawn for case in groups[place]])


def require_meaning(kind: PictureKind, baseline: str | None, calls: int | None) -> None:
    """Raise a ValueError for what a kind does not show, whatever the results.

    Args:
        kind: Of the picture.
        baseline: That was named, if any.
        calls: How often a kernel is called, if that was said.
    """
    if kind not in SCALES:
        raise ValueError(
            f"{kind} is the picture of an estimate's CSV, not of a run; kinds of a run: {', '.join(SCALES)}"
        )
    compare = [one.value for one, scale in SCALES.items() if scale.relative]
    if baseline is not None and kind.value not in compare:
        raise ValueError(f"a baseline ({baseline}) means nothing for {kind}; it is for {' and '.join(compare)}")
    if calls and kind is PictureKind.break_even:
        raise ValueError(f"{calls} calls mean nothing for {kind}, which shows how many are needed")


def _titled(
    panels: Sequence[Panel], kind: PictureKind, baseline: str, heading: str, cases: Sequence[TimedCase]
) -> PictureContent:
    """Take the finding as the title where it is one; else count, or say what is drawn and leave findings to panels."""
    findings = {panel.finding for panel in panels}
    notes = notes_of(panels, kind, baseline, cases)
    if len(findings) == 1:
        bare = tuple(replace(panel, finding="") for panel in panels)
        return PictureContent(kind, begun(findings.pop()), heading, bare, notes, baseline)
    told = tuple(replace(panel, finding=begun(panel.finding)) for panel in panels)
    if kind is PictureKind.time:
        title = begun(count_winners([case.ranking for case in cases]))
        return PictureContent(kind, title, heading, told, notes, baseline)
    title, _, subtitle = heading.partition(": ")
    return PictureContent(kind, title, begun(subtitle), told, notes, baseline)


def _within(panel: Panel, lowest: float) -> Panel:
    """Leave out a limit that is far below everything else."""
    far = len(panel.sizes) > 1 and all(mark.value < lowest / FAR_BELOW for mark in panel.limit)
    return replace(panel, limit=()) if far else panel


def _curve(case: TimedCase) -> tuple[object, ...]:
    return case.ranking.machine, case.ranking.case.at(ALL_SIZES)


def _panel(cases: Sequence[TimedCase], kind: PictureKind, baseline: str) -> Panel:
    marks: dict[str, list[Mark]] = {}
    for case in cases:
        base = kernel_of(baseline, case) if baseline else ""
        for ranked in case.ranking.kernels:
            if mark := MARK_BY_KIND[kind](case, ranked, base):
                marks.setdefault(Key.parse(ranked.kernel).way, []).append(mark)
    series = _ordered([Series(name, tuple(own)) for name, own in marks.items()], kind)
    if kind is PictureKind.time or not series:
        found = who_wins([case.ranking for case in cases])
    else:
        found = best_way(kind, series, baseline, len(cases))
    return Panel("", found, series, _limit(cases) if kind is PictureKind.time else ())


def _limit(cases: Sequence[TimedCase]) -> tuple[Mark, ...]:
    """Return what moving the data takes, as it was measured beside the winner of each size."""
    winners = [(case.ranking.case.n, case.ranking.kernels[0]) for case in cases if case.ranking.kernels]
    return tuple(Mark(n, winner.limit_seconds) for n, winner in winners if winner.limit_seconds)


def _ordered(series: list[Series], kind: PictureKind) -> tuple[Series, ...]:
    """Put the best first, and of many leave all but the best in the background.

    The best are those that come first anywhere, then those that are best on average over their sizes.
    """
    sign = -1 if SCALES[kind].more_is_better else 1
    best: dict[int, float] = {}
    for mark in (mark for one in series for mark in one.marks):
        best[mark.n] = min(best.get(mark.n, math.inf), sign * math.log(mark.value))

    def place(one: Series) -> tuple[bool, float]:
        behind = [sign * math.log(mark.value) - best[mark.n] for mark in one.marks]
        return min(behind) > 0, fmean(behind)

    ordered = sorted(series, key=place)
    if len(ordered) <= MOST_LINES:
        return tuple(ordered)
    first = sum(not place(one)[0] for one in ordered)
    leading = min(max(first, LEADERS), MOST_LINES)
    return tuple(replace(one, leads=number < leading) for number, one in enumerate(ordered))
