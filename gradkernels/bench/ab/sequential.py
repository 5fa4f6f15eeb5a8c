"""Duels until they are settled: passes in at most three sequential, each of which may end a comparison."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from gradkernels.bench.ab.interleaved import PairedSample, Sides, Target, paired_pass
from gradkernels.bench.ab.messages import Setting
from gradkernels.bench.compare.thresholds import PLAIN, Thresholds
from gradkernels.bench.stats.estimates import LOOKS, Ratio, bounds, trimmed_mean
from gradkernels.bench.stats.verdict import verdict

Samples = dict[Target, list[PairedSample]]
TellPass = Callable[[int, int], None]


def time_until_settled(
    targets: Sequence[Target],
    sides: Sides,
    setting: Setting,
    thresholds: Thresholds = PLAIN,
    tell: TellPass = lambda number, targets: None,
) -> Samples:
    """Do passes over `targets`; what a look leaves undecided goes on to the next look.

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
    samples: Samples = {target: [] for target in targets}
    canaries = [target for target in targets if target.canary]
    rng = np.random.default_rng()
    passes = 0
    with tempfile.TemporaryDirectory(prefix="gradkernels-") as inputs:
        for look, _ in LOOKS:
            unsettled = [one for one in targets if not one.canary and not _settled(one, samples[one], thresholds)]
            if any(flagged(canary, samples[canary], thresholds) for canary in canaries):
                break
            for number in range(passes, look):
                able = _able(unsettled, samples)
                if not able:
                    return samples
                tell(number + 1, len(able))
                found = _pass_with_canaries(able, _able(canaries, samples), sides, setting, Path(inputs), rng)
                for target, sample in found:
                    samples[target].append(sample)
            passes = look
    return samples


def _able(targets: Sequence[Target], samples: Samples) -> list[Target]:
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


def _settled(target: Target, samples: Sequence[PairedSample], thresholds: Thresholds) -> bool:
    """Tell whether another look can add nothing: there is a verdict, or a side was not timed."""
    change = ratio(samples)
    return bool(samples) if change is None else verdict(change, _delta(target, thresholds)) != "undecided"


def _delta(target: Target, thresholds: Thresholds) -> float:
    return thresholds.of(target.kernel, target.quantity, target.n).delta


def flagged(canary: Target, samples: Sequence[PairedSample], thresholds: Thresholds) -> bool:
    """Tell whether a canary is called slower or faster than itself.

    Args:
        canary: The target, timed against itself.
        samples: Of the canary, one per pass.
        thresholds: What counts as a change.
    """
    change = ratio(samples)
    return change is not None and verdict(change, _delta(canary, thresholds)) in ("slower", "faster")


def ratio(samples: Sequence[PairedSample]) -> Ratio | None:
    """Return the time of the second side over the first's with its bounds; None unless every sample was timed."""
    if not samples or not all(sample.ok for sample in samples):
        return None
    return bounds(trimmed_mean([sample.log for sample in samples]))
