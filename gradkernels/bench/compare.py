"""Two results files against each other: case by case, never by position, over passes, never over rounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from statistics import median
from typing import Any

from gradkernels.bench.comparison import Comparison, Row, Source
from gradkernels.bench.pairing import Pair, control_seconds, has_control, log_seconds, pair, reason, status
from gradkernels.bench.statistics import Pass, Ratio, bounds, difference, holm, mean_over_rows, trimmed
from gradkernels.bench.verdict import DELTA, p_value, passes_needed, smallest_effect, verdict
from gradkernels.record import Record

Logs = tuple[dict[Pass, float], dict[Pass, float]]


def compare(
    before: Sequence[Record],
    after: Sequence[Record],
    delta: float = DELTA,
    force: bool = False,
    names: tuple[str, str] = ("before", "after"),
) -> Comparison:
    """Compare two sets of records, each of one or more runs, row by row.

    Rows are matched by machine, case and kernel. The two sides were measured at different times, so passes are two
    independent samples (Yuen 1974), each divided by the control kernel of its own pass when both sides have it.

    Args:
        before: Records of the first file.
        after: Records of the second.
        delta: Fraction that a change must exceed to count.
        force: Compare across machines, dtypes, layouts, devices or threads if nothing else matches.
        names: What to call the two in messages.

    Raises:
        ValueError: Nothing can be compared, a file holds a measurement twice, or delta is not a fraction.
    """
    if not 0 <= delta < math.inf:
        raise ValueError(f"delta is {delta}; it must be a fraction of at least 0, for instance 0.01")
    pairs, ignored = pair(before, after, force, names)
    controls = control_seconds(chain(before, after))
    judged = [_judge(one, controls, delta) for one in pairs]
    return Comparison(
        before=_source(before, names[0]),
        after=_source(after, names[1]),
        delta=delta,
        ignored=ignored,
        rows=_with_suite([row for row, _ in judged]),
        mean=_mean([logs for _, logs in judged if logs]),
    )


def _judge(one: Pair, controls: Mapping[tuple[Any, ...], float], delta: float) -> tuple[Row, Logs | None]:
    row = _row(one)
    if (row.status_before, row.status_after) != ("ok", "ok"):
        return row, None
    normalised = has_control(one.before, controls) and has_control(one.after, controls)
    divisors = controls if normalised else None
    logs = log_seconds(one.before, divisors), log_seconds(one.after, divisors)
    change = difference(trimmed(list(logs[0].values())), trimmed(list(logs[1].values())))
    ratio = bounds(change)
    judgement = verdict(ratio, delta)
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
    ), logs


def _row(one: Pair) -> Row:
    sample, sides = one.sample, (one.before, one.after)
    times = [[row.seconds_median for row in side.values() if row.seconds_median is not None] for side in sides]
    statuses = [status(side) for side in sides]
    return Row(
        machine=sample.machine,
        problem=sample.problem,
        quantity=sample.quantity,
        n=sample.n,
        features=sample.features,
        dtype=sample.dtype,
        layout=sample.layout,
        device=sample.device,
        threads=sample.threads,
        kernel=sample.kernel,
        status_before=statuses[0],
        status_after=statuses[1],
        reason=reason(one.after) or reason(one.before),
        passes_before=len(times[0]),
        passes_after=len(times[1]),
        seconds_before=median(times[0]) if times[0] else None,
        seconds_after=median(times[1]) if times[1] else None,
        stopped=len(times[0]) == len(one.before) > 0 and statuses == ["ok", "timeout"],
    )


def _with_suite(rows: Sequence[Row]) -> tuple[Row, ...]:
    adjusted = iter(holm([row.p for row in rows if row.p is not None]))
    return tuple(row if row.p is None else replace(row, p_suite=next(adjusted)) for row in rows)


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
        started=min(record.started for record in records),
        commits=distinct("commit"),
        versions=distinct("versions"),
    )
