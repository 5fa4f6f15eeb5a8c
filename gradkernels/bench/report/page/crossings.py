"""Where one winner overtakes another as n grows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from gradkernels.bench.run.ranking import CaseRanking, RankedKernel
from gradkernels.key import Key


@dataclass(frozen=True)
class Crossing:
    """A change of winner between two sizes at both of which the winner is surely ahead of the other.

    Attributes:
        n: Where the two curves meet, interpolated on logarithmic axes.
        seconds: The time of both there.
        before: The way that wins at the smaller size.
        after: The way that wins at the larger.
        low: The smaller size.
        high: The larger.
    """

    n: float
    seconds: float
    before: str
    after: str
    low: int
    high: int

    def __str__(self) -> str:
        around = f"between {self.low:,} and {self.high:,}"
        return f"{self.after} overtakes {self.before} near n = {_rounded(self.n):,} ({around})"


def crossings(rankings: Sequence[CaseRanking]) -> list[Crossing]:
    """Return the crossings of the winners of cases that differ in n alone, ascending."""
    found = (_crossing(one, other) for one, other in pairwise(one for one in rankings if one.kernels))
    return [crossing for crossing in found if crossing]


def _crossing(low: CaseRanking, high: CaseRanking) -> Crossing | None:
    first, then = low.kernels[0], high.kernels[0]
    second, last = _of(low, then.kernel), _of(high, first.kernel)
    if first.kernel == then.kernel or not (second and last and _surely_behind(second) and _surely_behind(last)):
        return None
    gaps = math.log(second.seconds / first.seconds), math.log(last.seconds / then.seconds)
    share = gaps[0] / (gaps[0] + gaps[1])
    n = low.case.n * (high.case.n / low.case.n) ** share
    seconds = first.seconds * (last.seconds / first.seconds) ** share
    before, after = (Key.parse(ranked.kernel).way for ranked in (first, then))
    return Crossing(n, seconds, before, after, low.case.n, high.case.n)


def _of(ranking: CaseRanking, kernel: str) -> RankedKernel | None:
    return next((ranked for ranked in ranking.kernels if ranked.kernel == kernel), None)


def _surely_behind(ranked: RankedKernel) -> bool:
    return ranked.behind is not None and ranked.behind.low > 1


def _rounded(n: float) -> int:
    """Return n with one digit, or two where the first is a 1: more would promise too much."""
    digits = 1 - math.floor(math.log10(n)) if f"{n:e}".startswith("1") else -math.floor(math.log10(n))
    return round(round(n, digits))
