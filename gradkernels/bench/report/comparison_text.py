"""What a comparison comes to, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gradkernels.bench.compare.comparison import Comparison, Row, Source
from gradkernels.bench.report.comparison_caveats import caveats
from gradkernels.bench.report.units import percent
from gradkernels.bench.stats.estimates import alpha_at
from gradkernels.names import counted

_MOST_SHOWN = 8


def summary_sentences(comparison: Comparison, left_out: Sequence[str] = ()) -> list[str]:
    """Return every sentence that belongs under the table, the most important last; none on columns left out of it."""
    return [
        *_sources(comparison),
        *_absent(comparison.only_before, comparison.after, comparison.varying),
        *_absent(comparison.only_after, comparison.before, comparison.varying),
        *_statuses(comparison),
        *caveats(comparison, left_out),
        *_slow(comparison),
        *_totals(comparison),
        *_stamps(comparison),
    ]


def _sources(comparison: Comparison) -> Iterator[str]:
    for role, source in (("before", comparison.before), ("after", comparison.after)):
        size = f"{counted(source.passes, 'pass')} in {counted(len(source.runs), 'run')}"
        when = f" from {source.started}" if source.started else ""
        commits = " ".join(filter(None, source.commits)) or "not known"
        yield f"{role}: {source.name}, {size}{when}, commit {commits}"
    if comparison.before.versions != comparison.after.versions:
        both = (" and ".join(source.versions) for source in (comparison.before, comparison.after))
        yield "installed versions differ: {} against {}".format(*both)


def _absent(rows: Sequence[Row], source: Source, varying: Sequence[str]) -> Iterator[str]:
    sizes: dict[str, list[str]] = {}
    for row in rows:
        sizes.setdefault(_name(row, varying), []).append(str(row.case.n))
    for name, found in list(sizes.items())[:_MOST_SHOWN]:
        yield f"not in {source.name}: {name} at n = {', '.join(found)}"
    if (more := len(sizes) - _MOST_SHOWN) > 0:
        yield f"not in {source.name}: {counted(more, 'kernel')} more"


def _name(row: Row, varying: Sequence[str]) -> str:
    told_apart = ", ".join(f"{name} {row.columns()[name]}" for name in varying)
    return f"{row.kernel} ({told_apart})" if told_apart else row.kernel


def _named(row: Row, comparison: Comparison) -> str:
    if row not in comparison.over_machines:
        return _name(row, comparison.varying)
    return f"{_name(row, [name for name in comparison.varying if name != 'machine'])} over {row.machine}"


def _statuses(comparison: Comparison) -> Iterator[str]:
    for row in dict.fromkeys((*comparison.changed, *comparison.failures)):
        mark = "FAILED: " if row in comparison.failures else "TOO SLOW: " if row in comparison.too_slow else ""
        was = f"was {row.status_before}, is" if row.status_before else "is"
        why = f": {row.reason}" if row.reason else ""
        yield f"{mark}{_name(row, comparison.varying)} at n = {row.case.n} {was} {row.status_after}{why}"


def _slow(comparison: Comparison) -> Iterator[str]:
    limited = [row for row in comparison.judged if row.timed and row.fail_slower is not None]
    for row in comparison.judged:
        if row.too_slow:
            name = f"{_named(row, comparison)} at n = {row.case.n}"
            yield f"TOO SLOW: {name} is slower by more than {percent(row.fail_slower)}: {row.ratio:.3f}"
    open_ = [row for row in limited if row.open]
    for row in open_[:_MOST_SHOWN]:
        name = f"{_named(row, comparison)} at n = {row.case.n}"
        found = f"{row.ratio:.3f} [{row.low:.3f}, {row.high:.3f}]"
        yield f"LIMIT UNDECIDED: {name} may be slower by more than {percent(row.fail_slower)} or not: {found}"
    if len(limited) > 1:
        slow, excluded = (sum(getattr(row, name) for row in limited) for name in ("too_slow", "excluded"))
        says = f"{slow} of {counted(len(limited), 'row')} {'is' if slow == 1 else 'are'} slower by more than"
        yield f"{says} their limit, for all of them at once (Holm); {excluded} surely not, {len(open_)} undecided"


def _totals(comparison: Comparison) -> Iterator[str]:
    rows = comparison.compared
    if not rows or comparison.flagged:
        return
    decided = [row for row in rows if row.verdict in ("slower", "faster")]
    if len(rows) > 1 and decided:
        held = sum(map(_holds, decided))
        says = f"{held} of {counted(len(decided), 'change')} {'holds' if held == 1 else 'hold'}"
        yield f"{says} for all {counted(len(rows), 'row')} at once (Holm)"
    if comparison.mean is not None:
        yield f"geometric mean of after / before: {comparison.mean}"
    counts = ", ".join(f"{count} {name}" for name, count in comparison.counts.items())
    deltas = sorted({comparison.delta if row.delta is None else row.delta for row in rows})
    if pooled := comparison.over_machines:
        of_them = ", ".join(f"{sum(row.verdict == name for row in pooled)} {name}" for name in comparison.counts)
        yield f"over machines, whose ratios count the same: {of_them}"
    yield f"{counts} (a change counts beyond {' or '.join(map(percent, deltas))}; same: surely none)"


def _holds(row: Row) -> bool:
    passes = min(row.passes_before, row.passes_after)
    return row.p_suite is not None and row.p_suite <= alpha_at(passes)


def _stamps(comparison: Comparison) -> Iterator[str]:
    if same := comparison.with_itself:
        which = "1 row has" if same == 1 else f"{same:,} rows have"
        yield f"THE SAME MEASUREMENTS: {which} every time on both sides, so a ratio of 1 says nothing of the code"
    if comparison.ignored:
        yield f"FORCED: the sides differ in {', '.join(comparison.ignored)}, so a ratio may not be the code's doing"
    for canary in comparison.flagged[:_MOST_SHOWN]:
        yield f"CONTAMINATED: identical code differs, {canary}"
    if comparison.flagged:
        yield "no verdict stands: what makes identical code differ may be all there is; measure both again"
    elif not comparison.compared:
        yield f"NOTHING MEASURED IN COMMON: {comparison.nothing or 'no kernel and case was timed on both sides'}"
