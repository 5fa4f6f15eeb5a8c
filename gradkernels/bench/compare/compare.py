"""Two sets of results against each other: case by case, never by position, over passes, never over rounds.

The two sides were measured at different times, so passes are two independent samples (Yuen 1974), each divided by the
control kernel of its own pass when both sides have it.

A verdict is about its row, at the alpha of the look. What fails the comparison is a claim about all rows, of which one
in some hundred would be wrong each time, so it is held to Holm's method (1979): a row is `too_slow` if, among all rows
that have a limit, it is slower by more than its limit at the alpha of the look.

Where the canary is called slower or faster, every verdict is `contaminated` and no row is too slow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from statistics import median
from typing import Any

from gradkernels.bench.compare.canary import judge_canaries
from gradkernels.bench.compare.comparison import Comparison, Row, Source
from gradkernels.bench.compare.matching import Pair, control_seconds, has_control, log_seconds, pair, reason, status
from gradkernels.bench.compare.thresholds import PLAIN, Thresholds
from gradkernels.bench.stats.estimates import (
    LogEstimate,
    PassId,
    Ratio,
    alpha_at,
    bounds,
    difference,
    holm,
    mean_over_rows,
    trimmed_mean,
)
from gradkernels.bench.stats.verdict import (
    CONTAMINATED,
    FEWEST_PASSES,
    excludes,
    p_slower,
    p_value,
    passes_needed,
    smallest_effect,
    verdict,
)
from gradkernels.record import Record, Status

Logs = tuple[dict[PassId, float], dict[PassId, float]]


def compare(
    before: Sequence[Record],
    after: Sequence[Record],
    thresholds: Thresholds = PLAIN,
    force: bool = False,
    names: tuple[str, str] = ("before", "after"),
) -> Comparison:
    """Compare two sets of records, each of one or more runs, row by row.

    Args:
        before: Records of the first side.
        after: Records of the second.
        thresholds: What counts as a change, and which slowdown fails.
        force: Compare across machines, dtypes, layouts, devices or threads if nothing else matches.
        names: What to call the two in messages.

    Raises:
        ValueError: The sides differ in machine, dtype, layout, device or threads and the comparison is not forced,
            or a side holds a measurement twice.
    """
    pairs, ignored, nothing = pair(before, after, force, names)
    controls = control_seconds(chain(before, after))
    judged = [_judge(one, controls, thresholds) for one in pairs]
    canaries = judge_canaries(before, after, names, thresholds.delta)
    contaminated = any(canary.flagged for canary in canaries)
    rows = for_all([replace(row, forced=" ".join(ignored)) for row, _ in judged])
    return Comparison(
        before=_source(before, names[0]),
        after=_source(after, names[1]),
        delta=thresholds.delta,
        ignored=ignored,
        rows=tuple(map(as_contaminated, rows)) if contaminated else rows,
        mean=None if contaminated else _mean([logs for _, logs in judged if logs]),
        canaries=canaries,
        nothing=nothing,
        unused=thresholds.unused((row.kernel, row.case.quantity, row.case.n) for row in chain(before, after)),
    )


def _judge(one: Pair, controls: Mapping[tuple[Any, ...], float], thresholds: Thresholds) -> tuple[Row, Logs | None]:
    delta, fail_slower = thresholds.of(one.sample.kernel, one.sample.case.quantity, one.sample.case.n)
    row = replace(_row(one), delta=delta, fail_slower=fail_slower)
    if (row.status_before, row.status_after) != (Status.ok, Status.ok):
        return row, None
    normalised = has_control(one.before, controls) and has_control(one.after, controls)
    divisors = controls if normalised else None
    logs = log_seconds(one.before, divisors), log_seconds(one.after, divisors)
    change = difference(trimmed_mean(list(logs[0].values())), trimmed_mean(list(logs[1].values())))
    return judged(row, change, normalised), logs


def judged(row: Row, change: LogEstimate, normalised: bool | None) -> Row:
    """Return the row with what its change means, for itself alone.

    Args:
        row: With its limits.
        change: The logarithm of after over before.
        normalised: Whether times were divided by the control; None where both sides took turns and need none.
    """
    ratio, delta, fail_slower = bounds(change), row.delta or 0.0, row.fail_slower
    judgement = verdict(ratio, delta)
    limit = None if fail_slower is None else max(fail_slower, delta)
    gated = limit is not None and change.passes >= FEWEST_PASSES
    return replace(
        row,
        verdict=judgement,
        ratio=ratio.ratio,
        low=ratio.low,
        high=ratio.high,
        normalised=normalised,
        smallest_effect=smallest_effect(change, delta),
        passes_needed=passes_needed(change, delta) if judgement == "undecided" else None,
        p=p_value(change, delta),
        p_too_slow=p_slower(change, limit) if limit is not None and gated else None,
        excluded=limit is not None and excludes(ratio, limit),
    )


def _row(one: Pair) -> Row:
    sample, sides = one.sample, (one.before, one.after)
    times = [[time for row in side.values() if (time := row.measurement.seconds_median) is not None] for side in sides]
    statuses = [status(side) for side in sides]
    return Row(
        machine=sample.machine,
        case=sample.case,
        kernel=sample.kernel,
        status_before=statuses[0],
        status_after=statuses[1],
        reason=reason(one.after) or reason(one.before),
        passes_before=len(times[0]),
        passes_after=len(times[1]),
        seconds_before=median(times[0]) if times[0] else None,
        seconds_after=median(times[1]) if times[1] else None,
        stopped=len(times[0]) == len(one.before) > 0 and statuses == [Status.ok, Status.timeout],
    )


def for_all(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Adjust the p-values of rows for all of them at once, and mark the rows that are too slow by that."""
    suite = iter(holm([row.p for row in rows if row.p is not None]))
    slow = iter(holm([row.p_too_slow for row in rows if row.p_too_slow is not None]))
    return tuple(
        _with_suite(
            row,
            None if row.p is None else next(suite),
            None if row.p_too_slow is None else next(slow),
        )
        for row in rows
    )


def _with_suite(row: Row, p_suite: float | None, p_too_slow: float | None) -> Row:
    alpha = alpha_at(min(row.passes_before, row.passes_after))
    too_slow = p_too_slow is not None and p_too_slow <= alpha
    return replace(row, p_suite=p_suite, p_too_slow=p_too_slow, too_slow=too_slow)


def as_contaminated(row: Row) -> Row:
    """Return the row without a verdict that anyone could rely on."""
    return replace(row, verdict=CONTAMINATED, too_slow=False, excluded=False) if row.verdict else row


def _mean(logs: Sequence[Logs]) -> Ratio | None:
    if not logs:
        return None
    return bounds(difference(mean_over_rows([one for one, _ in logs]), mean_over_rows([two for _, two in logs])))


def _source(records: Sequence[Record], name: str) -> Source:
    def distinct(column: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(str(getattr(record, column)) for record in records))

    return Source(
        name=name,
        runs=distinct("run"),
        passes=len({(record.run, record.pass_) for record in records}),
        started=min((record.started for record in records), default=""),
        commits=distinct("commit"),
        versions=distinct("versions"),
    )
