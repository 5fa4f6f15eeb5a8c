"""Two sets of results against each other: case by case, never by position, over passes, never over rounds.

The two sides were measured at different times, so passes are two independent samples (Yuen 1974), each divided by the
control kernel of its own pass when both sides have it.

A verdict is about its row, at the alpha of the look. What fails the comparison is a claim about all rows, of which one
in some hundred would be wrong each time, so it is held to Holm's method (1979): a row is `too_slow` if, among all rows
that have a limit, it is slower by more than its limit at the alpha of the look.

Times of different machines are never compared: a machine is a stratum, with a row of its own, and a kernel and case
that several of them have on both sides has one more row, of the mean over strata.

Where the canary is called slower or faster, every verdict is `contaminated` and no row is too slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gradkernels.bench.compare.canary import judge_canaries
from gradkernels.bench.compare.comparison import Comparison, Row, Source
from gradkernels.bench.compare.logs import SideLogs, logs_of
from gradkernels.bench.compare.matching import KernelRows, Pair, pair
from gradkernels.bench.compare.places import places
from gradkernels.bench.compare.shared_passes import count_of_same
from gradkernels.bench.compare.strata import over_machines
from gradkernels.bench.compare.thresholds import DEFAULT_THRESHOLDS, Thresholds
from gradkernels.bench.results.table import ResultsTable, aligned_tables, tabulate
from gradkernels.bench.stats.estimates import (
    Floats,
    Ints,
    LogEstimate,
    Ratio,
    alpha_at,
    bounds,
    difference,
    holm,
    mean_of_arrays,
    middle,
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

ComparedRows = Sequence[Record] | ResultsTable
Logs = tuple[tuple[Ints, Floats], tuple[Ints, Floats]]
"""Of each side the passes and the logarithms of their times."""

JudgedPair = tuple[Row, LogEstimate | None, Logs | None]
"""A row and, where both sides were timed, the logarithm of its ratio and what that is of."""


def compare(
    before: ComparedRows,
    after: ComparedRows,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    force: bool = False,
    names: tuple[str, str] = ("before", "after"),
) -> Comparison:
    """Compare two sets of rows, each of one or more runs, kernel by kernel.

    Args:
        before: Rows of the first side.
        after: Rows of the second.
        thresholds: What counts as a change, and which slowdown fails.
        force: Compare across machines, dtypes, layouts, devices or threads if nothing else matches.
        names: What to call the two in messages.

    Raises:
        ValueError: The sides differ in machine, dtype, layout, device or threads and the comparison is not forced,
            a side holds a measurement twice, or a kernel and case has some passes on both sides and others on one.
    """
    left, right = sides = aligned_tables([tabulate(before), tabulate(after)])
    pairs, ignored, nothing = pair((left, right), force, names)
    logs = logs_of(sides)
    found = [_judge(one, logs, thresholds) for one in pairs]
    canaries = judge_canaries((left, right), names, thresholds.delta)
    contaminated = any(canary.flagged for canary in canaries)
    family = [as_contaminated(row) if contaminated else row for row in _family(found, " ".join(ignored))]
    return Comparison(
        before=_source(left, names[0]),
        after=_source(right, names[1]),
        delta=thresholds.delta,
        ignored=ignored,
        rows=tuple(family[: len(found)]),
        over_machines=tuple(family[len(found) :]),
        mean=None if contaminated else _mean([logs for _, _, logs in found if logs]),
        canaries=canaries,
        nothing=nothing,
        with_itself=count_of_same(pairs, sides, names),
        unused=thresholds.unused((one[-1], one[-2].quantity, one[-2].n) for side in sides for one in places(side)[0]),
    )


def _family(found: Sequence[JudgedPair], forced: str) -> tuple[Row, ...]:
    """Return the rows, and behind them those over machines, each held against all others."""
    pooled = over_machines((row, change) for row, change, _ in found if change)
    rows = [*(row for row, _, _ in found), *(judged(row, change, row.normalised) for row, change in pooled)]
    return for_all([replace(row, forced=forced) for row in rows])


def _judge(one: Pair, logs: Sequence[SideLogs], thresholds: Thresholds) -> JudgedPair:
    delta, fail_slower = thresholds.of(one.kernel, one.case.quantity, one.case.n)
    row = replace(_row(one), delta=delta, fail_slower=fail_slower)
    if (row.status_before, row.status_after) != (Status.ok, Status.ok):
        return row, None, None
    timed = one.before.timed, one.after.timed
    normalised = not any(np.isnan(side.control[rows]).any() for side, rows in zip(logs, timed, strict=True))
    before, after = (
        (side.pass_[rows], side.seconds[rows] - (side.control[rows] if normalised else 0.0))
        for side, rows in zip(logs, timed, strict=True)
    )
    change = difference(trimmed_mean(before[1]), trimmed_mean(after[1]))
    return judged(row, change, normalised), change, (before, after)


def _row(one: Pair) -> Row:
    sides = (one.before, one.after)
    statuses = [side.status for side in sides]
    passes = [len(side.timed) for side in sides]
    return Row(
        machine=one.machine,
        case=one.case,
        kernel=one.kernel,
        status_before=statuses[0],
        status_after=statuses[1],
        reason=one.after.reason or one.before.reason,
        passes_before=passes[0],
        passes_after=passes[1],
        seconds_before=_median_seconds(one.before),
        seconds_after=_median_seconds(one.after),
        stopped=passes[0] == len(one.before) > 0 and statuses == [Status.ok, Status.timeout],
    )


def _median_seconds(rows: KernelRows) -> float | None:
    timed = rows.timed
    return middle(rows.side.seconds[timed]) if len(timed) else None


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
    before, after = (mean_of_arrays(*zip(*side, strict=True)) for side in zip(*logs, strict=True))
    return bounds(difference(before, after))


def _source(side: ResultsTable, name: str) -> Source:
    runs = side.used("run")

    def different(column: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(getattr(facts, column) for facts in runs))

    return Source(
        name=name,
        runs=different("run"),
        passes=len(side.pass_ids[0]),
        started=min((facts.started for facts in runs), default=""),
        commits=different("commit"),
        versions=different("versions"),
    )
