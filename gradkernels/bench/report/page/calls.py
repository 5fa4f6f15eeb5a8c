"""Who wins if a kernel is called once, ten times and so on: its first call counts then."""

from __future__ import annotations

import math

from gradkernels.bench.report.page.sources import CasePlace
from gradkernels.bench.results.table import ResultsTable
from gradkernels.bench.run.ranking import rankings, with_first_calls
from gradkernels.key import Key

CALL_COUNTS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, None)
"""Numbers of calls for which a winner is found; None for so many that the first does not count."""

CallWinners = tuple[tuple[int | None, str], ...]
"""From which number of calls on which way wins, ascending."""


def winners_by_calls(table: ResultsTable) -> dict[CasePlace, CallWinners]:
    """Return the winners of each case by the number of calls, as `gradkernels fastest --calls` finds them."""
    found: dict[CasePlace, list[tuple[int | None, str]]] = {}
    for calls in CALL_COUNTS:
        for ranking in rankings(with_first_calls(table, calls), growths=False):
            if ranking.kernels:
                way = Key.parse(ranking.kernels[0].kernel).way
                own = found.setdefault((ranking.machine, ranking.case), [])
                if not own or own[-1][1] != way:
                    own.append((calls, way))
    return {place: tuple(own) for place, own in found.items()}


def winners_in_words(winners: CallWinners) -> str:
    """Return the winners in words: `numpy.matmul, from 1,000 calls numba.fused`."""
    (_, first), *others = winners
    if not others:
        return f"{first}, however often it is called"
    return ", ".join([first, *(f"{_from(calls)} {way}" for calls, way in others)])


def _from(calls: int | None) -> str:
    return f"from {calls:,} calls" if calls else "from many more calls"


def pays_after(winner: tuple[float, float], other: tuple[float, float]) -> int | None:
    """Return from how many calls on the winner takes less time in all, its first call included.

    Args:
        winner: Seconds of its first call and of each that follows.
        other: Those of another kernel, whose later calls are slower.

    Returns:
        At least 1; None where the other's calls are not slower.
    """
    saved, spent = other[1] - winner[1], winner[0] - other[0]
    if saved <= 0:
        return None
    return max(1, math.floor(spent / saved) + 1)
