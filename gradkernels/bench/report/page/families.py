"""The curves of a page: what each kernel took, held and was proven to, at every n of one quantity of one problem."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median

from gradkernels.bench.report.page.calls import CallWinners, pays_after
from gradkernels.bench.report.page.crossings import Crossing, crossings
from gradkernels.bench.report.page.sources import CasePlace
from gradkernels.bench.run.ranking import CaseRanking, RankedKernel
from gradkernels.coordinates import ALL_SIZES, Coordinates
from gradkernels.record import Measurement, Record, in_turns

Measured = Mapping[tuple[str, Coordinates, str], Sequence[Measurement]]
"""What was measured of each kernel of a case: machine, case, key."""


@dataclass(frozen=True)
class PagePoint:
    """A kernel at one n; times are seconds per call, memory is bytes.

    Attributes:
        n: Number of samples.
        place: 1 for the fastest.
        seconds: Median over passes.
        low, high: Of the fastest and of the slowest pass.
        ratio, ratio_low, ratio_high: Its time over the winner's, with bounds; None where passes give none.
        in_turns: Whether it was timed in turns with the winner.
        of_limit: The memory limit over its time; None where that is not known.
        first: Build and first call, median over passes; None where that is not known.
        peak: Memory that it took; None where that is not known.
        proof: Worst error over its tolerance: 1 would be the most that is allowed.
        passes: How many passes timed it.
        pays_after: From how many calls on the winner takes less time in all; None for the winner, or if not known.
    """

    n: int
    place: int
    seconds: float
    low: float
    high: float
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    in_turns: bool
    of_limit: float | None
    first: float | None
    peak: float | None
    proof: float
    passes: int
    pays_after: int | None


@dataclass(frozen=True)
class Family:
    """The rankings of cases that differ in n alone, and what was measured there.

    Attributes:
        machine: Where.
        case: What was computed, at all sizes.
        rankings: One for each n, ascending.
        lines: The points of each kernel, by its key.
        limits: The memory limit in seconds, by n.
        least_bytes: The fewest bytes that any kernel must move, by n.
        crossings: Where one winner overtakes another.
        calls: Who wins by the number of calls, by n.
    """

    machine: str
    case: Coordinates
    rankings: tuple[CaseRanking, ...]
    lines: Mapping[str, tuple[PagePoint, ...]]
    limits: Mapping[int, float]
    least_bytes: Mapping[int, float]
    crossings: tuple[Crossing, ...]
    calls: Mapping[int, CallWinners]


def families(
    records: Iterable[Record], rankings: Iterable[CaseRanking], calls: Mapping[CasePlace, CallWinners]
) -> list[Family]:
    """Put rankings and measurements together.

    Args:
        records: Of kernels, one measurement of each case.
        rankings: Of the same rows; those that differ in n alone stand together.
        calls: Who wins by the number of calls.
    """
    measured: dict[tuple[str, Coordinates, str], list[Measurement]] = {}
    for row in in_turns(records):
        measured.setdefault((row.machine, row.case, row.kernel), []).append(row.measurement)
    grouped = groupby(rankings, key=lambda one: (one.machine, one.case.at(ALL_SIZES)))
    return [_family(machine, case, tuple(own), measured, calls) for (machine, case), own in grouped]


def _family(
    machine: str,
    case: Coordinates,
    rankings: tuple[CaseRanking, ...],
    measured: Measured,
    calls: Mapping[CasePlace, CallWinners],
) -> Family:
    lines: dict[str, list[PagePoint]] = {}
    limits: dict[int, float] = {}
    least: dict[int, float] = {}
    for ranking in rankings:
        n = ranking.case.n
        for place, ranked in enumerate(ranking.kernels, 1):
            lines.setdefault(ranked.kernel, []).append(_point(place, ranked, ranking, measured))
        if (limit := _first(ranked.limit_seconds for ranked in ranking.kernels)) is not None:
            limits[n] = limit
        tried = {*(ranked.kernel for ranked in ranking.kernels), *ranking.absent}
        found = (one.least_bytes for kernel in tried for one in measured.get((machine, ranking.case, kernel), ()))
        if (bytes_ := _first(found)) is not None:
            least[n] = bytes_
    by_n = {ranking.case.n: calls[machine, ranking.case] for ranking in rankings if ranking.kernels}
    curves = {kernel: tuple(points) for kernel, points in lines.items()}
    return Family(machine, case, rankings, curves, limits, least, tuple(crossings(rankings)), by_n)


def _point(place: int, ranked: RankedKernel, ranking: CaseRanking, measured: Measured) -> PagePoint:
    own = _timed(measured, ranking, ranked)
    seconds = [one.seconds_median for one in own if one.seconds_median is not None]
    behind = ranked.behind
    return PagePoint(
        n=ranking.case.n,
        place=place,
        seconds=ranked.seconds,
        low=min(seconds),
        high=max(seconds),
        ratio=behind.ratio if behind else None,
        ratio_low=behind.low if behind else None,
        ratio_high=behind.high if behind else None,
        in_turns=ranked.in_turns,
        of_limit=ranked.of_limit,
        first=_first_call(own),
        peak=_middle(one.peak_bytes for one in own),
        proof=max(_share(one) for one in own),
        passes=len(own),
        pays_after=_pays_after(ranked, ranking, measured),
    )


def _timed(measured: Measured, ranking: CaseRanking, ranked: RankedKernel) -> list[Measurement]:
    own = measured[ranking.machine, ranking.case, ranked.kernel]
    return [one for one in own if one.seconds_median is not None]


def _pays_after(ranked: RankedKernel, ranking: CaseRanking, measured: Measured) -> int | None:
    winner = ranking.kernels[0]
    firsts = [_first_call(_timed(measured, ranking, one)) for one in (winner, ranked)]
    if ranked is winner or firsts[0] is None or firsts[1] is None:
        return None
    return pays_after((firsts[0], winner.seconds), (firsts[1], ranked.seconds))


def _first_call(own: Iterable[Measurement]) -> float | None:
    return _middle(one.seconds_first for one in own)


def _middle(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _first(values: Iterable[float | None]) -> float | None:
    return next((value for value in values if value is not None), None)


def _share(one: Measurement) -> float:
    return one.error / one.tolerance if one.error and one.tolerance else 0.0
