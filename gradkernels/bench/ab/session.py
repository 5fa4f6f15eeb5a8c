"""Code version against code version: duels of two revisions until every verdict is settled, beside a canary."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from statistics import median

from gradkernels.backend import BACKENDS
from gradkernels.bench.ab.interleaved import PairedSample, Sides, Target
from gradkernels.bench.ab.messages import Setting
from gradkernels.bench.ab.sequential import Samples, Tell, duel, flagged, ratio
from gradkernels.bench.compare.canary import Canary
from gradkernels.bench.compare.compare import as_contaminated, for_all, judged
from gradkernels.bench.compare.comparison import Comparison, Row, Source
from gradkernels.bench.compare.thresholds import Thresholds
from gradkernels.bench.results.metadata import versions
from gradkernels.bench.stats.estimates import Ratio, bounds, mean_over_rows, trimmed
from gradkernels.dispatch.machine import machine
from gradkernels.key import Key

_NO_SUCH = "the other side has no such kernel"


def compare_sides(
    sides: Sides,
    present: Mapping[str, tuple[bool, bool]],
    sizes: Sequence[int],
    setting: Setting,
    thresholds: Thresholds,
    tell: Tell,
) -> Comparison:
    """Duel over all kernels and sizes until each is settled, or three looks are over.

    Args:
        sides: Before and after.
        present: Keys of kernels, each with whether the first and the second side have it.
        sizes: Numbers of samples.
        setting: Where the kernels compute.
        thresholds: What counts as a change, and which slowdown fails.
        tell: Called before each pass with its number and how many kernels and sizes are open.

    Returns:
        A row per kernel and size, as from two files; every verdict is `contaminated` if the canary, the first side
        against itself, is called slower or faster.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    jobs = [Target(key, n) for n in sizes for key in present]
    both = [job for job in jobs if all(present[job.kernel])]
    bouts = duel([*both, *_canary(both)], sides, setting, thresholds, tell)
    canaries = [_watched(job, bouts.pop(job), sides, thresholds) for job in _canary(both)]
    contaminated = any(canary.flagged for canary in canaries)
    found = bouts | {job: [_absent(present[job.kernel])] for job in jobs if job not in bouts}
    rows = for_all([_judged(job, found[job], setting, thresholds) for job in jobs])
    session, passes = uuid.uuid4().hex[:12], max(map(len, bouts.values()), default=0)
    before, after = (Source(side.name, (session,), passes, started, (side.commit,), (versions(),)) for side in sides)
    return Comparison(
        before=before,
        after=after,
        delta=thresholds.delta,
        ignored=(),
        rows=tuple(map(as_contaminated, rows)) if contaminated else rows,
        mean=None if contaminated else _mean(bouts),
        canaries=tuple(canary for canary in canaries if canary.change.passes),
        nothing="" if both else "no kernel is on both sides",
        unused=tuple(str(one) for one in thresholds.overrides if not any(map(one.matches, jobs))),
    )


def _canary(jobs: Sequence[Target]) -> list[Target]:
    """The middle one of the jobs whose library starts fastest, if there are any."""
    cost = {job: BACKENDS[Key.parse(job.kernel).backend].preference for job in jobs}
    cheap = [job for job in jobs if cost[job] == min(cost.values())]
    return [replace(job, canary=True) for job in cheap[len(cheap) // 2 :][:1]]


def _watched(job: Target, bouts: Sequence[PairedSample], sides: Sides, thresholds: Thresholds) -> Canary:
    change = ratio(bouts) or Ratio(1.0, 0.0, float("inf"), 0)
    case = f"{job.kernel}, n = {job.n}"
    return Canary(f"in {sides[0].name} against itself", case, change, flagged(job, bouts, thresholds))


def _absent(present: tuple[bool, bool]) -> PairedSample:
    if present[0]:
        return PairedSample(("unsupported", ""), (_NO_SUCH, ""))
    return PairedSample(("", "unsupported"), ("", _NO_SUCH))


def _judged(job: Target, bouts: Sequence[PairedSample], setting: Setting, thresholds: Thresholds) -> Row:
    row = _row(job, bouts, setting)
    delta, fail_slower = thresholds.of(job)
    row = replace(row, delta=delta, fail_slower=fail_slower)
    return judged(row, trimmed([bout.log for bout in bouts]), normalised=None) if ratio(bouts) else row


def _row(job: Target, bouts: Sequence[PairedSample], setting: Setting) -> Row:
    timed = [bout for bout in bouts if bout.ok]
    before, after = (median(bout.seconds[i] for bout in timed) if timed else None for i in (0, 1))
    last = bouts[-1]
    return Row(
        machine=machine(),
        problem=setting.problem,
        quantity=job.quantity,
        n=job.n,
        features=setting.features,
        dtype=setting.dtype,
        layout=setting.layout,
        device=setting.device,
        threads=setting.threads,
        kernel=job.kernel,
        status_before=last.statuses[0],
        status_after=last.statuses[1],
        reason=last.reasons[1] or last.reasons[0],
        passes_before=len(timed),
        passes_after=len(timed),
        seconds_before=before,
        seconds_after=after,
        stopped=last.statuses == ("ok", "timeout"),
    )


def _mean(bouts: Samples) -> Ratio | None:
    rows = [{("", number): bout.log for number, bout in enumerate(one)} for one in bouts.values() if ratio(one)]
    return bounds(mean_over_rows(rows)) if rows else None
