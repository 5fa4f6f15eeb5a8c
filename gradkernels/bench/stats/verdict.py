"""What an estimated ratio of times means: slower, faster, same or undecided, and what it would take to know."""

from __future__ import annotations

import bisect
import math
from dataclasses import replace
from typing import Literal

from gradkernels.bench.stats.conventions import DELTA as DELTA
from gradkernels.bench.stats.conventions import FEWEST_PASSES as FEWEST_PASSES
from gradkernels.bench.stats.estimates import Floats, LogEstimate, Ratio, alpha_at, bounds, quantile, trimmed_mean

POWER = 0.95
VERDICTS = ("slower", "faster", "same", "undecided")
CONTAMINATED = "contaminated"
"""In place of a verdict, where identical code was seen to differ."""

_MOST_PASSES = 10_000


def verdict(change: Ratio, delta: float = DELTA) -> str:
    """Say what a ratio after / before means.

    Args:
        change: The ratio and its bounds.
        delta: The fraction that a bound must pass for the change to count.

    Returns:
        `slower` if the lower bound exceeds 1 + delta, `faster` if the inverse does, `same` if neither can be: the
        interval lies within 1 / (1 + delta) to 1 + delta. Otherwise `undecided`, as always on fewer than 6 passes.
    """
    if change.passes < FEWEST_PASSES:
        return "undecided"
    if change.low > 1 + delta:
        return "slower"
    if change.high < 1 / (1 + delta):
        return "faster"
    return "same" if change.low >= 1 / (1 + delta) and excludes(change, delta) else "undecided"


def standing(behind: Ratio) -> Literal["ahead", "tie", "undecided"]:
    """Say what the lead of a winner is worth.

    Args:
        behind: Seconds of the other over those of the winner.

    Returns:
        `tie` only where a difference by more than DELTA is excluded, either way; of others `ahead` where both bounds
        are above 1, and `undecided` where they are not.
    """
    if verdict(behind) == "same":
        return "tie"
    return "ahead" if behind.low > 1 else "undecided"


def excludes(change: Ratio, limit: float) -> bool:
    """Tell whether a slowdown by more than the fraction `limit` is excluded; never on fewer than 6 passes."""
    return change.passes >= FEWEST_PASSES and change.high <= 1 + limit


def smallest_effect(change: LogEstimate, delta: float = DELTA) -> float:
    """Return the smallest true slowdown, as a fraction, that 95 of 100 such measurements would call slower.

    The distance from the threshold is (t_alpha + t_power) standard errors (Bloom 1995). Infinite on fewer than 6
    passes, which never get that verdict.
    """
    if change.passes < FEWEST_PASSES:
        return math.inf
    log = math.log1p(delta) + _reach(change, change.passes)
    return math.expm1(log) if log < 700 else math.inf


def passes_needed(change: LogEstimate, delta: float = DELTA) -> int | None:
    """Return the passes (a side, if there are two) that would settle it, were the true ratio the one estimated.

    Returns:
        None when not even 10,000 would, or when a single pass leaves the noise unknown.
    """
    gap = abs(abs(change.log) - math.log1p(delta))
    candidates = range(max(change.passes, FEWEST_PASSES), _MOST_PASSES)
    first = bisect.bisect_left(candidates, True, key=lambda passes: _reach(change, passes) <= gap)
    return candidates[first] if first < len(candidates) else None


def _reach(change: LogEstimate, passes: int) -> float:
    """Return how far from a threshold the truth must lie to be found on its side with probability 95%."""
    scaled = replace(change, freedom=change.freedom * passes / change.passes)
    multiple = quantile(scaled, 1 - alpha_at(passes)) + quantile(scaled, POWER)
    return multiple * change.error * math.sqrt(change.passes / passes)


def p_value(change: LogEstimate, delta: float = DELTA) -> float:
    """Return the one-sided p-value of a change by more than delta in the direction in which it was seen."""
    return p_slower(replace(change, log=abs(change.log)), delta)


def p_slower(change: LogEstimate, threshold: float) -> float:
    """Return the one-sided p-value of a slowdown by more than the fraction `threshold`."""
    distance = change.log - math.log1p(threshold)
    if change.error == 0:
        return float(distance <= 0)
    from scipy.special import stdtr

    return float(stdtr(change.freedom, -distance / change.error))


def lead(winner: Floats, other: Floats) -> Ratio:
    """Return by what factor the winner is ahead: seconds of the other over seconds of the winner.

    The two were timed in interleaved blocks of the same passes, so each pass gives one log ratio.

    Args:
        winner: Seconds per call in each pass that both have.
        other: Seconds per call of the kernel that it is compared with, in the same passes.

    Raises:
        ValueError: They have no pass in common.
    """
    if not len(winner):
        raise ValueError("no process timed both kernels; only kernels that took turns can be ranked")
    return bounds(trimmed_mean(list(map(math.log, (other / winner).tolist()))))
