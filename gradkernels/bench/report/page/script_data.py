"""What the page's script draws from, as one value of lists, numbers and texts that becomes JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import median
from typing import Any

from gradkernels.bench.report.colours import Look, looks_of
from gradkernels.bench.report.page.families import Family, PagePoint
from gradkernels.bench.report.page.history import Step, surely_changed
from gradkernels.bench.report.page.overview import family_title
from gradkernels.bench.report.page.provenance import minute
from gradkernels.bench.report.page.sources import ReportSource, competes
from gradkernels.bench.report.pictures.finding import who_wins
from gradkernels.bench.run.ranking import NAMED_WAYS
from gradkernels.coordinates import ALL_SIZES, Coordinates
from gradkernels.key import Key

PAGE_COORDINATES = ("problem", "quantity", "dtype", "threads", "features", "layout", "device", "machine")
"""What a reader may choose by."""

POINT = tuple(field.name for field in fields(PagePoint))
DIGITS = 5


@dataclass(frozen=True)
class ScriptData:
    """What the script draws from.

    Attributes:
        value: Lists, numbers and texts. Kernels, ways, families, sources and reasons are listed once, and meant by
            their position in that list.
        looks: How each way is drawn, by name.
    """

    value: Mapping[str, Any]
    looks: Mapping[str, Look]


def script_data(sources: Sequence[ReportSource], families: Sequence[Family], steps: Sequence[Step]) -> ScriptData:
    """Gather what the script draws from.

    Args:
        sources: Where the rows come from.
        families: Of what is shown.
        steps: What changed from one source to another.
    """
    several = len({family.machine for family in families}) > 1
    lists = _Lists({(family.machine, family.case): place for place, family in enumerate(families)})
    value = {
        "point": POINT,
        "families": [_family(family, family_title(family, several), lists) for family in families],
        "steps": [_step(step, lists) for step in steps],
        "series": _series(sources, lists),
        "sources": [{"label": one.label, "commit": one.commit, "when": minute(one.started)} for one in sources],
        "baseline": baseline(families),
    }
    keys = [Key.parse(kernel) for kernel in lists.kernels]
    looks = looks_of(sorted({key.plain_way for key in keys}))
    places = {way: place for place, way in enumerate(looks)}
    kernels = [(str(key), key.way, places[key.plain_way], key.competes) for key in keys]
    ways = [(way, look.on_light, look.on_dark, look.dash, look.marker) for way, look in looks.items()]
    return ScriptData({**value, "kernels": kernels, "ways": ways, "reasons": [*lists.reasons]}, looks)


class _Lists:
    """What is listed once, with its position; kernels and reasons are added as they are met."""

    def __init__(self, families: Mapping[tuple[str, Coordinates], int]) -> None:
        self._families = families
        self.kernels: dict[str, int] = {}
        self.reasons: dict[str, int] = {}

    def family(self, machine: str, case: Coordinates) -> int | None:
        return self._families.get((machine, case.at(ALL_SIZES)))

    def kernel(self, key: str) -> int:
        return self.kernels.setdefault(key, len(self.kernels))

    def reason(self, why: str) -> int:
        return self.reasons.setdefault(why, len(self.reasons))


def coordinate(family: Family, name: str) -> str:
    """Return one of PAGE_COORDINATES of a family, as text."""
    return family.machine if name == "machine" else str(getattr(family.case, name))


def _family(family: Family, title: str, lists: _Lists) -> dict[str, Any]:
    return {
        "title": title,
        "finding": who_wins(family.rankings),
        "where": {name: coordinate(family, name) for name in PAGE_COORDINATES},
        "sizes": [ranking.case.n for ranking in family.rankings],
        "lines": [
            (lists.kernel(kernel), [_values(vars(point).values()) for point in points])
            for kernel, points in family.lines.items()
        ],
        "limits": [_values(pair) for pair in family.limits.items()],
        "least": [_values(pair) for pair in family.least_bytes.items()],
        "crossings": [(*_values((one.n, one.seconds)), str(one)) for one in family.crossings],
        "absent": [
            (ranking.case.n, lists.kernel(kernel), lists.reason(why))
            for ranking in family.rankings
            for kernel, why in ranking.absent.items()
        ],
    }


def _step(step: Step, lists: _Lists) -> dict[str, Any]:
    rows = [
        (
            *(place, row.case.n, lists.kernel(row.kernel)),
            *_values((row.seconds_before, row.seconds_after, row.ratio, row.low, row.high)),
            *(row.verdict, surely_changed(row)),
        )
        for row in step.rows
        if (place := lists.family(row.machine, row.case)) is not None
    ]
    return {"before": step.before, "after": step.after, "rows": rows}


def _series(sources: Sequence[ReportSource], lists: _Lists) -> list[Any]:
    """Return the median time in each source of every kernel and case that several sources timed."""
    found: dict[tuple[int, int, int], dict[int, list[float]]] = {}
    of_case: dict[tuple[int, int], set[int]] = {}
    for number, source in enumerate(sources):
        for row in source.records:
            seconds, family = row.measurement.seconds_median, lists.family(row.machine, row.case)
            if seconds is not None and family is not None and competes(row):
                line = found.setdefault((family, row.case.n, lists.kernel(row.kernel)), {})
                line.setdefault(number, []).append(seconds)
                of_case.setdefault((family, row.case.n), set()).add(number)
    return [
        (*line, [(number, _short(median(own)), len(own)) for number, own in times.items()])
        for line, times in found.items()
        if len(of_case[line[:2]]) > 1
    ]


def baseline(families: Iterable[Family]) -> str:
    """Return the way to compare speeds with at first: of the usual ones, else of all, the one timed most often."""
    counts: dict[str, int] = {}
    for family in families:
        for kernel, points in family.lines.items():
            way = Key.parse(kernel).plain_way
            counts[way] = counts.get(way, 0) + len(points)
    usual = {way: count for way, count in counts.items() if way in NAMED_WAYS.values()}
    return max(usual or counts, key=counts.__getitem__)


def _values(values: Iterable[Any]) -> list[Any]:
    return [_short(value) for value in values]


def _short(value: Any) -> Any:
    """Return a number with as many digits as anyone reads; None for what JSON has no number for."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
