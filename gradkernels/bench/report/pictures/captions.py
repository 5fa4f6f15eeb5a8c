"""The words around the panels: what they are called, what bands and lines are, and where it was measured."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from gradkernels.bench.report.pictures.content import Panel, PictureKind
from gradkernels.bench.report.pictures.measured import FEWEST, TimedCase
from gradkernels.bench.run.ranking import CaseRanking
from gradkernels.key import Key
from gradkernels.names import counted

MOST_ABSENT = 8
MOST_RUNS = 3
FUNCTION_PREFIX = "function:"
"""What names of problems begin with that are functions raced: they have neither features nor a dtype."""

_MODULE = re.compile(r"module:(\w+):\w+(?:/(.+))?")


def panel_names(rankings: Sequence[CaseRanking]) -> tuple[list[str], str]:
    """Return what differs between panels, a name for each, and what all of them share; of one panel it is everything.

    Args:
        rankings: One of each panel.
    """
    problems = short_problems(one.case.problem for one in rankings)
    rows = [_parts(one, problems) for one in rankings]
    differs = [len(set(column)) > 1 for column in zip(*rows, strict=True)]
    names = [_joined([part for part, own in zip(row, differs, strict=True) if own]) for row in rows]
    # The machine of all is named below, where it was measured.
    shared = [part for part, own in zip(rows[0][:-1], differs, strict=False) if not own]
    return names, _joined(shared)


def _parts(ranking: CaseRanking, problems: Mapping[str, str]) -> tuple[str, ...]:
    """Return what a table is of, from the most to the least telling; what goes without saying is empty."""
    case = ranking.case
    of_numbers = not case.problem.startswith(FUNCTION_PREFIX)
    return (
        case.quantity if of_numbers else "",
        problems[case.problem],
        counted(case.features, "feature") if of_numbers else "",
        case.dtype if of_numbers else "",
        counted(case.threads, "thread"),
        case.layout if case.layout != "C" else "",
        case.device if case.device != "cpu" else "",
        ranking.machine,
    )


def _joined(parts: Sequence[str]) -> str:
    return ", ".join(part for part in parts if part)


def short_problems(names: Iterable[str]) -> dict[str, str]:
    """Return a short name for each problem; with its fingerprint where two would be called the same."""
    short = {name: short_problem(name) for name in names}
    count = Counter(short.values())
    return {name: one if count[one] == 1 else name.removeprefix("module:") for name, one in short.items()}


def short_problem(name: str) -> str:
    """Return `MLP` of `module:MLP:1c6b7852`, and any other problem's name as it is."""
    if match := _MODULE.fullmatch(name):
        return f"{match[2]} ({match[1]})" if match[2] else match[1]
    return name.removeprefix(FUNCTION_PREFIX)


def notes_of(panels: Sequence[Panel], kind: PictureKind, baseline: str, cases: Sequence[TimedCase]) -> tuple[str, ...]:
    """Return the paragraphs below the panels.

    Args:
        panels: What is drawn.
        kind: What it shows.
        baseline: The way that values are relative to; empty where they are not.
        cases: Of all panels.
    """
    drawn = [*_about_bands(panels, cases), *_about_lines(panels, kind, baseline)]
    found = " ".join([*drawn, *_about_absent(panels, kind, baseline, cases)])
    return (*([found] if found else []), *_about_origin(cases))


def _about_bands(panels: Sequence[Panel], cases: Sequence[TimedCase]) -> Iterator[str]:
    drawn = any(mark.low is not None for panel in panels for one in panel.series for mark in one.marks)
    passes = [case.passes(kernel) for case in cases for kernel in case.rows]
    most, least = max(passes), min(passes)
    counts = counted(most, "pass") if least == most else f"{least} to {counted(most, 'pass')}"
    what = "Whiskers" if all(len(panel.sizes) == 1 for panel in panels) else "Bands"
    if drawn and least >= FEWEST:
        yield f"{what}: 95% interval of the median over {counts}."
    elif drawn:
        yield f"{what}: 95% interval of the median over passes, of fewer than {FEWEST} their range; here {counts}."
    elif most == 1:
        yield "A single pass: no interval is known."


def _about_lines(panels: Sequence[Panel], kind: PictureKind, baseline: str) -> Iterator[str]:
    if any(panel.limit for panel in panels) or kind is PictureKind.limit:
        yield "Dashed: the memory limit, what moving the data and the result alone takes."
    elif kind is PictureKind.speed:
        yield f"Dashed: {baseline} itself."
    if any(not mark.sure for panel in panels for one in panel.series for mark in one.marks):
        yield f"Hollow: not surely {'faster per call' if kind is PictureKind.break_even else 'different'}."
    if any(not one.leads for panel in panels for one in panel.series if len(panel.sizes) > 1):
        yield "Grey: those further behind."
    if kind is PictureKind.memory:
        yield "Not drawn: rises below a page of memory, or below the result's own size, whose memory was there before."


def _about_absent(
    panels: Sequence[Panel], kind: PictureKind, baseline: str, cases: Sequence[TimedCase]
) -> Iterator[str]:
    """Say which ways are in no panel: those without a time with the reason, and others that the kind cannot show.

    Args:
        panels: What is drawn.
        kind: What it shows.
        baseline: The way that values are relative to.
        cases: Of all panels.
    """
    why: dict[str, str] = {}
    for case in cases:
        for kernel, reason in case.ranking.absent.items():
            why.setdefault(Key.parse(kernel).way, reason.partition(":")[0])
    shown = {one.name for panel in panels for one in panel.series}
    timed = {Key.parse(kernel).way for case in cases for kernel in case.rows}
    if untimed := [f"{name} ({why[name]})" for name in sorted(why.keys() - timed)]:
        yield f"Without a time: {_few(untimed)}."
    if kind is PictureKind.break_even and (slower := sorted(timed - shown - {baseline, f"{baseline}+"})):
        yield f"Never faster per call: {_few(slower)}."


def _few(names: Sequence[str]) -> str:
    more = len(names) - MOST_ABSENT
    return ", ".join(names[:MOST_ABSENT]) + (f" and {counted(more, 'other')}" if more > 0 else "")


def _about_origin(cases: Sequence[TimedCase]) -> Iterator[str]:
    """Say where and with what it was measured, once for all runs that agree."""
    runs = cases[0].table.used("run")
    places = list(dict.fromkeys((facts.machine, facts.started[:10], facts.versions) for facts in runs))
    for machine, day, versions in places[:MOST_RUNS]:
        yield _joined((machine, day, versions.replace(" ", ", ")))
    if len(places) > MOST_RUNS:
        yield f"and {counted(len(places) - MOST_RUNS, 'other run')}"
