"""Compare two revisions of the code: time both in turns until every verdict is settled, beside a canary."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from statistics import median

from gradkernels.backend import BACKENDS
from gradkernels.bench.ab.interleaved import PairedSample, Sides, Target
from gradkernels.bench.ab.messages import Setting
from gradkernels.bench.ab.sequential import PairedSamples, TellPass, flagged, ratio, time_until_settled
from gradkernels.bench.compare.canary import Canary
from gradkernels.bench.compare.compare import as_contaminated, for_all, judged
from gradkernels.bench.compare.comparison import Comparison, Row, Source
from gradkernels.bench.compare.thresholds import Thresholds
from gradkernels.bench.results.metadata import versions
from gradkernels.bench.stats.estimates import Ratio, bounds, mean_over_rows, trimmed_mean
from gradkernels.coordinates import Coordinates
from gradkernels.dispatch.machine import machine
from gradkernels.key import Key
from gradkernels.record import Status


def compare_sides(
    sides: Sides,
    present: Mapping[str, tuple[bool, bool]],
    sizes: Sequence[int],
    setting: Setting,
    thresholds: Thresholds,
    tell: TellPass,
) -> Comparison:
    """Time all kernels and sizes on both sides in turns until each is settled, or three looks are over.

    Args:
        sides: Before and after.
        present: Keys of kernels, each with whether the first and the second side have it.
        sizes: Numbers of samples.
        setting: Where the kernels compute.
        thresholds: What counts as a change, and which slowdown fails.
        tell: Called before each pass with its number and how many kernels and sizes are open.

    Returns:
        A row per kernel and size; every verdict is `contaminated` if the first side differs from itself, the canary.
    """
    targets = {Target(key, n): both for n in sizes for key, both in present.items()}
    return compare_targets(sides, targets, setting, thresholds, tell)


def compare_targets(
    sides: Sides, present: Mapping[Target, tuple[bool, bool]], setting: Setting, thresholds: Thresholds, tell: TellPass
) -> Comparison:
    """Time kernels or benchmark tests on both sides in turns, as `compare_sides` does.

    Args:
        sides: Before and after.
        present: What to time, each with whether the first and the second side have it; all kernels or all tests.
        setting: Where it computes.
        thresholds: What counts as a change, and which slowdown fails.
        tell: Called before each pass with its number and how many are open.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    both = [target for target, where in present.items() if all(where)]
    samples = time_until_settled([*both, *_canary(both)], sides, setting, thresholds, tell)
    canaries = [_canary_verdict(target, samples.pop(target), sides, thresholds) for target in _canary(both)]
    found = [samples.get(target, _absent(target, where)) for target, where in present.items()]
    rows = for_all([_judged(*one, setting, thresholds) for one in zip(present, found, strict=True)])
    before, after = _sources(sides, started, max(map(len, samples.values()), default=0))
    return Comparison(
        before=before,
        after=after,
        delta=thresholds.delta,
        ignored=(),
        rows=tuple(map(as_contaminated, rows)) if _flagged(canaries) else rows,
        mean=None if _flagged(canaries) else _mean(samples),
        canaries=tuple(canary for canary in canaries if canary.change.passes),
        nothing="" if both else f"no {'test' if any(one.test for one in present) else 'kernel'} is on both sides",
        unused=thresholds.unused((target.kernel, target.quantity, target.n) for target in present),
    )


def _sources(sides: Sides, started: str, passes: int) -> tuple[Source, Source]:
    session = (uuid.uuid4().hex[:12],)
    before, after = (Source(side.name, session, passes, started, (side.commit,), (versions(),)) for side in sides)
    return before, after


def _canary(targets: Sequence[Target]) -> list[Target]:
    """Return the middle one of the targets whose library starts fastest, of tests the middle one; none of none."""
    cost = {one: 0 if one.test else BACKENDS[Key.parse(one.kernel).backend].preference for one in targets}
    cheap = [target for target in targets if cost[target] == min(cost.values())]
    return [replace(target, canary=True) for target in cheap[len(cheap) // 2 :][:1]]


def _canary_verdict(target: Target, samples: Sequence[PairedSample], sides: Sides, thresholds: Thresholds) -> Canary:
    change = ratio(samples) or Ratio(1.0, 0.0, float("inf"), 0)
    case = target.test or f"{target.kernel}, n = {target.n}"
    return Canary(f"in {sides[0].name} against itself", case, change, flagged(target, samples, thresholds))


def _flagged(canaries: Sequence[Canary]) -> bool:
    return any(canary.flagged for canary in canaries)


def _absent(target: Target, present: tuple[bool, bool]) -> list[PairedSample]:
    says = f"the other side has no such {'test' if target.test else 'kernel'}"
    if present[0]:
        return [PairedSample((Status.unsupported, ""), (says, ""))]
    return [PairedSample(("", Status.unsupported), ("", says))]


def _judged(target: Target, samples: Sequence[PairedSample], setting: Setting, thresholds: Thresholds) -> Row:
    row = _row(target, samples, setting)
    delta, fail_slower = thresholds.of(target.kernel, target.quantity, target.n)
    row = replace(row, delta=delta, fail_slower=fail_slower)
    return judged(row, trimmed_mean([sample.log for sample in samples]), normalised=None) if ratio(samples) else row


def _row(target: Target, samples: Sequence[PairedSample], setting: Setting) -> Row:
    timed = [sample for sample in samples if sample.ok]
    before, after = (median(sample.seconds[i] for sample in timed) if timed else None for i in (0, 1))
    last = samples[-1]
    return Row(
        machine=machine(),
        case=_coordinates(target, setting),
        kernel=target.kernel,
        status_before=last.statuses[0],
        status_after=last.statuses[1],
        reason=last.reasons[1] or last.reasons[0],
        passes_before=len(timed),
        passes_after=len(timed),
        seconds_before=before,
        seconds_after=after,
        stopped=last.statuses == (Status.ok, Status.timeout),
    )


def _coordinates(target: Target, setting: Setting) -> Coordinates:
    if target.case:
        return target.case
    return Coordinates(
        problem=setting.problem,
        quantity=target.quantity,
        n=target.n,
        features=setting.features,
        dtype=setting.dtype,
        layout=setting.layout,
        device=setting.device,
        threads=setting.threads,
    )


def _mean(samples: PairedSamples) -> Ratio | None:
    rows = [{("", number): sample.log for number, sample in enumerate(one)} for one in samples.values() if ratio(one)]
    return bounds(mean_over_rows(rows)) if rows else None
