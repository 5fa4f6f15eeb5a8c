"""Duels until they are settled: passes in at most three looks, each of which may end a comparison."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from gradkernels.bench.ab.interleaved import PairedSample, Sides, Target, one_pass
from gradkernels.bench.ab.messages import Setting
from gradkernels.bench.compare.thresholds import PLAIN, Thresholds
from gradkernels.bench.stats.estimates import LOOKS, Ratio, bounds, trimmed
from gradkernels.bench.stats.verdict import verdict

Samples = dict[Target, list[PairedSample]]
Tell = Callable[[int, int], None]


def duel(
    jobs: Sequence[Target],
    sides: Sides,
    setting: Setting,
    thresholds: Thresholds = PLAIN,
    tell: Tell = lambda number, jobs: None,
) -> Samples:
    """Passes over `jobs`: what a look leaves undecided goes on to the next look.

    Canaries go along as long as anything does, and end everything at a look that sees them differ from themselves.

    Args:
        jobs: What to duel over.
        sides: Before and after.
        setting: Where the kernels compute.
        thresholds: What counts as a change.
        tell: Called before each pass with its number and how many jobs are open.
    """
    bouts: Samples = {job: [] for job in jobs}
    rng = np.random.default_rng()
    passes = 0
    with tempfile.TemporaryDirectory(prefix="gradkernels-") as inputs:
        for look, _ in LOOKS:
            unsettled = [job for job in jobs if not job.canary and not _settled(job, bouts[job], thresholds)]
            if any(flagged(job, bouts[job], thresholds) for job in jobs if job.canary):
                break
            for number in range(passes, look):
                able = [job for job in unsettled if all(bout.ok for bout in bouts[job])]
                if not able:
                    return bouts
                tell(number + 1, len(able))
                canaries = [job for job in jobs if job.canary and all(bout.ok for bout in bouts[job])]
                for job, bout in _both(able, canaries, sides, setting, Path(inputs), rng):
                    bouts[job].append(bout)
            passes = look
    return bouts


def _both(
    jobs: list[Target], canaries: list[Target], sides: Sides, setting: Setting, inputs: Path, rng: np.random.Generator
) -> Iterator[tuple[Target, PairedSample]]:
    """One pass of the sides, and one of the first against itself, in either order."""
    passes = [(sides, jobs), ((sides[0], sides[0]), canaries)]
    for who, over in passes if rng.integers(2) else passes[::-1]:
        yield from one_pass(who, over, setting, inputs, rng)


def _settled(job: Target, bouts: Sequence[PairedSample], thresholds: Thresholds) -> bool:
    """Whether another look can add nothing: there is a verdict, or a side was not timed."""
    change = ratio(bouts)
    return bool(bouts) if change is None else verdict(change, thresholds.of(job).delta) != "undecided"


def flagged(canary: Target, bouts: Sequence[PairedSample], thresholds: Thresholds) -> bool:
    """Whether a canary is called slower or faster than itself."""
    change = ratio(bouts)
    return change is not None and verdict(change, thresholds.of(canary).delta) in ("slower", "faster")


def ratio(bouts: Sequence[PairedSample]) -> Ratio | None:
    """Second over first with its bounds; None unless every bout was timed."""
    if not bouts or not all(bout.ok for bout in bouts):
        return None
    return bounds(trimmed([bout.log for bout in bouts]))
