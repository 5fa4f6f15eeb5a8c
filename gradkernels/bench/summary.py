"""What a comparison comes to, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import median

from gradkernels.bench.comparison import Comparison, Row, Source
from gradkernels.bench.statistics import alpha_at
from gradkernels.bench.verdict import FEWEST_PASSES


def summary(comparison: Comparison) -> list[str]:
    """Every sentence that belongs under the table, the most important last."""
    return [
        *_sources(comparison),
        *_forced(comparison),
        *_absent(comparison.only_before, comparison.after, comparison.varying),
        *_absent(comparison.only_after, comparison.before, comparison.varying),
        *_statuses(comparison),
        *_caveats(comparison),
        *_totals(comparison),
    ]


def percent(fraction: float | None) -> str:
    """A fraction as a percentage of two or three digits: `9.1%`, `24%`; `nothing` if there is none."""
    if fraction is None or not math.isfinite(fraction):
        return "nothing"
    return f"{100 * fraction:.{1 if fraction < 0.1 else 0}f}%"


def _sources(comparison: Comparison) -> Iterator[str]:
    for role, source in (("before", comparison.before), ("after", comparison.after)):
        size = f"{_count(source.passes, 'pass')} in {_count(len(source.runs), 'run')}"
        commits = " ".join(filter(None, source.commits)) or "not known"
        yield f"{role}: {source.name}, {size} from {source.started}, commit {commits}"
    if comparison.before.versions != comparison.after.versions:
        both = (" and ".join(source.versions) for source in (comparison.before, comparison.after))
        yield "installed versions differ: {} against {}".format(*both)


def _count(number: int, noun: str) -> str:
    plural = "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{plural if number != 1 else ''}"


def _forced(comparison: Comparison) -> Iterator[str]:
    if comparison.ignored:
        yield f"FORCED: the files differ in {', '.join(comparison.ignored)}, so a ratio may not be the code's doing"


def _absent(rows: Sequence[Row], source: Source, varying: Sequence[str]) -> Iterator[str]:
    sizes: dict[str, list[str]] = {}
    for row in rows:
        sizes.setdefault(_name(row, varying), []).append(str(row.n))
    for name, found in sizes.items():
        yield f"not in {source.name}: {name} at n = {', '.join(found)}"


def _name(row: Row, varying: Sequence[str]) -> str:
    told_apart = ", ".join(f"{name} {getattr(row, name)}" for name in varying)
    return f"{row.kernel} ({told_apart})" if told_apart else row.kernel


def _statuses(comparison: Comparison) -> Iterator[str]:
    for row in dict.fromkeys((*comparison.changed, *comparison.failures)):
        mark = "FAILED: " if row in comparison.failures else "TOO SLOW: " if row.stopped else ""
        was = f"was {row.status_before}, is" if row.status_before else "is"
        why = f": {row.reason}" if row.reason else ""
        yield f"{mark}{_name(row, comparison.varying)} at n = {row.n} {was} {row.status_after}{why}"


def _caveats(comparison: Comparison) -> Iterator[str]:
    rows = comparison.compared
    if not rows:
        yield "no kernel and case was timed in both files"
        return
    divided = sum(bool(row.normalised) for row in rows)
    yield f"{divided} of {len(rows)} ratios are of times divided by the control kernel of their own pass"
    if few := sum(min(row.passes_before, row.passes_after) < FEWEST_PASSES for row in rows):
        yield f"{few} of {len(rows)} rows have fewer than {FEWEST_PASSES} passes on a side and stay undecided"
    if comparison.counts["undecided"]:
        yield "detects: the smallest slowdown found with 95% probability; needs: passes a side that would settle it"
    if not comparison.same_runs:
        yield from _different_times([row.smallest_effect or math.inf for row in rows])


def _different_times(effects: Sequence[float]) -> Iterator[str]:
    found = [effect for effect in effects if math.isfinite(effect)]
    if found:
        yield (
            f"measured at different times: a slowdown is found with 95% probability from {percent(median(found))} up "
            f"({percent(min(found))} to {percent(max(found))} over the rows); for less, measure both side by side"
        )


def _totals(comparison: Comparison) -> Iterator[str]:
    rows = comparison.compared
    decided = [row for row in rows if row.verdict in ("slower", "faster")]
    if len(rows) > 1 and decided:
        yield f"{sum(map(_holds, decided))} of {len(decided)} changes hold for all {len(rows)} rows at once (Holm)"
    if comparison.mean is not None:
        yield f"geometric mean of after / before: {comparison.mean}"
    counts = ", ".join(f"{count} {name}" for name, count in comparison.counts.items())
    yield f"{counts} (a change counts beyond {percent(comparison.delta)})"


def _holds(row: Row) -> bool:
    passes = min(row.passes_before, row.passes_after)
    return row.p_suite is not None and row.p_suite <= alpha_at(passes)
