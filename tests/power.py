"""How often `ab` finds a slowdown that is there, by a simulation: passes of known noise, judged by its own looks.

`python tests/power.py` prints the table that docs/exit-codes-and-gates.md shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np

from gradkernels.bench.ab import sequential
from gradkernels.bench.ab.client import Side
from gradkernels.bench.ab.interleaved import PairedSample, Target
from gradkernels.bench.ab.messages import Setting
from gradkernels.bench.compare.thresholds import DEFAULT_THRESHOLDS, Thresholds
from gradkernels.bench.stats.estimates import bounds, trimmed_mean
from gradkernels.bench.stats.verdict import verdict

NOISES = (0.008, 0.015, 0.03)
EFFECTS = (0.0, 0.02, 0.03, 0.05)
REPEATS = 200
SIDES = (Side("before", Path("before")), Side("after", Path("after")))


def looked_at(logs: list[float], thresholds: Thresholds) -> list[float]:
    """The passes that `ab` takes of these, one kernel alone, until it stops."""
    target, left = Target("numpy.mine.norms", 10), iter(logs)

    def paired_pass(sides: object, targets: list[Target], *_: object) -> Iterator[tuple[Target, PairedSample]]:
        for one in targets:
            yield one, PairedSample(("ok", "ok"), ("", ""), next(left), (1.0, 1.0))

    with patch.object(sequential, "paired_pass", paired_pass):
        samples = sequential.time_until_settled([target], SIDES, Setting(), thresholds)[target]
    return [sample.log for sample in samples]


def power(
    noise: float, effect: float, thresholds: Thresholds = DEFAULT_THRESHOLDS, repeats: int = REPEATS
) -> Counter[str]:
    """How many of `repeats` comparisons have each verdict, and under `passes` how many passes they took.

    Args:
        noise: Standard deviation of the log ratio of a pass; 3 of 100 passes are off by another 10% either way.
        effect: The true slowdown, as a fraction.
        thresholds: What counts as a change, and what fails.
        repeats: How many.
    """
    rng, found = np.random.default_rng(17), Counter[str]()
    for _ in range(repeats):
        off = rng.choice([0, 0.1, -0.1], 32, p=[0.97, 0.015, 0.015])
        logs = looked_at(list(np.log1p(effect) + rng.normal(0, noise, 32) + off), thresholds)
        found[verdict(bounds(trimmed_mean(logs)), thresholds.delta)] += 1
        found["passes"] += len(logs)
    return found


def table() -> str:
    """A row per noise and slowdown: the share of comparisons with each verdict, and the passes they took."""
    rows = ["| noise of a pass | truly slower by | slower | same | undecided | passes |", "|--:|--:|--:|--:|--:|--:|"]
    for noise in NOISES:
        for effect in EFFECTS:
            found = power(noise, effect)
            shares = (f"{found[name] / REPEATS:.0%}" for name in ("slower", "same", "undecided"))
            taken = f"{found['passes'] / REPEATS:.0f}"
            rows.append(f"| {noise:.1%} | {effect:.0%} | {' | '.join(shares)} | {taken} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(table(), end="")
