"""Which table was measured nearest to the number of samples that is asked for.

A source that is trusted more says nothing of sizes where it was not measured: a race on twenty rows is no reason to
prefer its winner for a million.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf

from gradkernels.case import Case
from gradkernels.dispatch.wisdom.entry import MeasuredPoint, Wisdom, WisdomEntry, kind_of

FARTHEST = 2
"""Times the largest size that was measured, or under the smallest, beyond which costs are a guess."""

LEAST_COMPARED = 2
"""Kernels that must have been measured about there: one alone was compared with nothing."""


@dataclass(frozen=True)
class Known:
    """An entry and where it is from.

    Attributes:
        source: In words.
        entry: What is known.
        passed_over: What sources that are trusted more were measured at, as sentences.
    """

    source: str
    entry: WisdomEntry
    passed_over: tuple[str, ...] = ()


def nearest_entry(table: Wisdom, case: Case, here: str | None) -> WisdomEntry | None:
    """Return the entry of a table that is nearest to a case: measured about its size if there is one, then in kind.

    Args:
        table: What is known.
        case: What is asked for.
        here: The machine that is preferred; None for any.
    """
    kind = kind_of(case)
    answers = [entry for entry in table if entry.kind == kind]
    if len(answers) < 2:
        return answers[0] if answers else None
    reach = {id(entry): gap(entry, case.n, entry.competitors) for entry in answers}
    least = min(reach.values())
    close = [entry for entry in answers if reach[id(entry)] <= least * FARTHEST]
    return min(close, key=lambda entry: entry.distance(case, here))


def beyond(points: Sequence[MeasuredPoint], n: int) -> float:
    """Return the factor by which n lies outside the sizes of a curve; 1 within them."""
    return max(1.0, points[0].n / n, n / points[-1].n)


def gap(entry: WisdomEntry, n: int, kernels: Iterable[str]) -> float:
    """Return the factor by which n lies outside the sizes at which as many kernels were measured as make a comparison.

    Args:
        entry: What is known.
        n: Number of samples.
        kernels: Keys of those that count.
    """
    factors = sorted(beyond(entry.curves[key], n) for key in kernels)
    return factors[LEAST_COMPARED - 1] if len(factors) >= LEAST_COMPARED else inf


def preferred(sources: Sequence[tuple[Known, Sequence[str]]], n: int) -> Known:
    """Return the first source that was measured about n; where none was, the first of those that come near it.

    Args:
        sources: At least one, the most trusted first, each with the keys of its kernels that can do the case.
        n: Number of samples.
    """
    if len(sources) == 1:
        return sources[0][0]
    gaps = [gap(known.entry, n, kernels) for known, kernels in sources]
    bound = min(gaps) * FARTHEST
    chosen = next(at for at, far in enumerate(gaps) if far <= bound)
    return replace(sources[chosen][0], passed_over=tuple(_measured_at(*source) for source in sources[:chosen]))


def _measured_at(known: Known, kernels: Sequence[str]) -> str:
    if len(kernels) < LEAST_COMPARED:
        return f"{known.source} has one kernel alone, {kernels[0]}, compared with nothing"
    return f"{known.source} was measured at n = {span([p.n for key in kernels for p in known.entry.curves[key]])}"


def span(sizes: Sequence[int]) -> str:
    """Return `10 to 1000` of sizes, or the one that there is."""
    low, high = min(sizes), max(sizes)
    return f"{low}" if low == high else f"{low} to {high}"
