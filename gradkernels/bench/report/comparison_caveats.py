"""What a reader of a comparison must know before believing it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import median

from gradkernels.bench.compare.ab_command import advice
from gradkernels.bench.compare.comparison import Comparison
from gradkernels.bench.report.units import percent
from gradkernels.bench.stats.verdict import FEWEST_PASSES
from gradkernels.names import counted

UNDECIDED_COLUMNS = {
    "detects": "the smallest slowdown found with 95% probability",
    "needs": "passes a side that would settle it",
}
"""What columns of rows that are undecided have."""


def caveats(comparison: Comparison, left_out: Sequence[str] = ()) -> Iterator[str]:
    """Yield how the times were treated, what they can and cannot show, and whether they can be trusted at all.

    Columns that the table has left out are not explained.
    """
    for override in comparison.unused:
        yield f"no row matches the thresholds for {override}"
    if comparison.compared:
        yield from _power(comparison, left_out)
        yield from _canaries(comparison)


def _power(comparison: Comparison, left_out: Sequence[str]) -> Iterator[str]:
    rows = comparison.compared
    if apart := [row for row in rows if row.normalised is not None]:
        divided = sum(bool(row.normalised) for row in apart)
        says = f"{divided} of {counted(len(apart), 'ratio')} {'is' if divided == 1 else 'are'} of times divided"
        yield f"{says} by the control kernel of their own pass"
    if few := sum(min(row.passes_before, row.passes_after) < FEWEST_PASSES for row in rows):
        says, stay = ("has", "stays") if few == 1 else ("have", "stay")
        of = f"{few} of {counted(len(rows), 'row')}"
        yield f"{of} {says} fewer than {FEWEST_PASSES} passes on a side and {stay} undecided"
    shown = [f"{column}: {meaning}" for column, meaning in UNDECIDED_COLUMNS.items() if column not in left_out]
    if shown and comparison.counts["undecided"]:
        yield "; ".join(shown)
    if not comparison.same_runs:
        effects = [row.smallest_effect for row in rows if row.smallest_effect is not None]
        yield f"measured at different times: {_found(effects)}, measure both side by side"
        yield from (f"side by side: {command}" for command in advice(comparison))


def _found(effects: Sequence[float]) -> str:
    found = [effect for effect in effects if math.isfinite(effect)]
    if not found:
        return "with so few passes no slowdown would be found, however large; to find one"
    spread = f"{percent(min(found))} to {percent(max(found))} over the rows"
    return f"a slowdown is found with 95% probability from {percent(median(found))} up ({spread}); for less"


def _canaries(comparison: Comparison) -> Iterator[str]:
    able = [canary for canary in comparison.canaries if canary.change.passes >= FEWEST_PASSES]
    if not able and not comparison.same_runs:
        what = f"{FEWEST_PASSES} passes of a canary, which is identical code timed twice"
        yield f"neither side has {what}, so nothing vouches for the measurements"
    elif able and not comparison.flagged:
        worst = max(able, key=lambda canary: abs(math.log(canary.change.ratio)))
        checks = counted(len(able), "check")
        yield f"canary: no sure difference between identical code in {checks}, the largest is {worst}"
