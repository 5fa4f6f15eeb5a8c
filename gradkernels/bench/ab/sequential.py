"""Comparisons until they are settled: passes up to at most three looks, each of which may end a comparison."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from gradkernels.bench.ab.interleaved import PairedSample, Sides, Target, paired_pass
from gradkernels.bench.ab.messages import Setting
from gradkernels.bench.ab.rooms import room
from gradkernels.bench.compare.thresholds import DEFAULT_THRESHOLDS, Thresholds
from gradkernels.bench.stats.estimates import LOOKS, LogEstimate, Ratio, alpha_at, bounds, holm, trimmed_mean
from gradkernels.bench.stats.verdict import excludes, p_slower, verdict

PairedSamples = dict[Target, list[PairedSample]]
TellPass = Callable[[int, int], None]


def time_until_settled(
    targets: Sequence[Target],
    sides: Sides,
    setting: Setting,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    tell: TellPass = lambda number, targets: None,
) -> PairedSamples:
    """Do passes over `targets`; what a look leaves without a verdict, or with its limit open, goes on to the next look.

    Canaries go along as long as anything does, and end everything at a look that sees them differ from themselves.

    Args:
        targets: What to compare.
        sides: Before and after.
        setting: Where the kernels compute.
        thresholds: What counts as a change.
        tell: Called before each pass with its number and how many targets are open.

    Returns:
        For each target a sample per pass.
    """
    samples: PairedSamples = {target: [] for target in targets}
    canaries = [target for target in targets if target.canary]
    rng = np.random.default_rng()
    passes = 0
    with room() as inputs:
        for look, _ in LOOKS:
            unsettled = _unsettled([one for one in targets if not one.canary], samples, thresholds)
            if any(flagged(canary, samples[canary], thresholds) for canary in canaries):
                break
            for number in range(passes, look):
                able = _able(unsettled, samples)
                if not able:
                    return samples
                tell(number + 1, len(able))
                found = _pass_with_canaries(able, _able(canaries, samples), sides, setting, inputs, rng)
                for target, sample in found:
                    samples[target].append(sample)
            passes = look
    return samples


def _able(targets: Sequence[Target], samples: PairedSamples) -> list[Target]:
    """Return the targets that both sides could time in each pass so far."""
    return [target for target in targets if all(sample.ok for sample in samples[target])]


def _pass_with_canaries(
    targets: list[Target],
    canaries: list[Target],
    sides: Sides,
    setting: Setting,
    inputs: Path,
    rng: np.random.Generator,
) -> Iterator[tuple[Target, PairedSample]]:
    """Do one pass of the sides, and one of the first against itself, in either order."""
    passes = [(sides, targets), ((sides[0], sides[0]), canaries)]
    for who, over in passes if rng.integers(2) else passes[::-1]:
        yield from paired_pass(who, over, setting, inputs, rng)


def _unsettled(targets: Sequence[Target], samples: PairedSamples, thresholds: Thresholds) -> list[Target]:
    """Return the targets to which another look can add something; not those that a side could not time.

    A limit is open until a slowdown beyond it is found, for all targets at once, or excluded.
    """
    changes = {one: trimmed_mean(_logs(samples[one])) for one in targets if _timed(samples[one])}
    beyond = _beyond_limits(changes, thresholds)
    return [
        target
        for target in targets
        if not samples[target]
        or (target in changes and _undecided(bounds(changes[target]), target, thresholds, beyond))
    ]


def _undecided(change: Ratio, target: Target, thresholds: Thresholds, beyond: Collection[Target]) -> bool:
    delta, limit = thresholds.of(target.kernel, target.quantity, target.n)
    if verdict(change, delta) == "undecided":
        return True
    return limit is not None and target not in beyond and not excludes(change, max(limit, delta))


def _beyond_limits(changes: Mapping[Target, LogEstimate], thresholds: Thresholds) -> set[Target]:
    """Return the targets that are slower by more than their limit, for all targets at once (Holm)."""
    wanted = {target: thresholds.of(target.kernel, target.quantity, target.n) for target in changes}
    limits = {target: max(limit, delta) for target, (delta, limit) in wanted.items() if limit is not None}
    adjusted = holm([p_slower(changes[target], limit) for target, limit in limits.items()])
    return {target for target, p in zip(limits, adjusted, strict=True) if p <= alpha_at(changes[target].passes)}


def flagged(canary: Target, samples: Sequence[PairedSample], thresholds: Thresholds) -> bool:
    """Tell whether a canary is called slower or faster than itself.

    Args:
        canary: The target, timed against itself.
        samples: Of the canary, one per pass.
        thresholds: What counts as a change.
    """
    change, delta = ratio(samples), thresholds.of(canary.kernel, canary.quantity, canary.n).delta
    return change is not None and verdict(change, delta) in ("slower", "faster")


def ratio(samples: Sequence[PairedSample]) -> Ratio | None:
    """Return the time of the second side over the first's with its bounds; None unless every sample was timed."""
    return bounds(trimmed_mean(_logs(samples))) if _timed(samples) else None


def _timed(samples: Sequence[PairedSample]) -> bool:
    return bool(samples) and all(sample.ok for sample in samples)


def _logs(samples: Sequence[PairedSample]) -> list[float]:
    return [sample.log for sample in samples]
