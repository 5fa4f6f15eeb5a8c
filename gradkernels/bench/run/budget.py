"""How the seconds of a pass are shared among its cases, and which kernels would take too many of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

TOO_SLOW = "too slow for the budget"
CALLS_PER_PASS = 8  # of a kernel in one case: first, proofs before and after, warm-up, three slices
FAIR_SHARE = 0.3  # of a case's seconds, for one kernel

Costs = Sequence[tuple[int, float]]
"""What calls of one kernel took: `(n, seconds)`, ascending in n."""


@dataclass(frozen=True)
class Budget:
    """Seconds for the cases of a pass.

    Attributes:
        sizes: n of each case, in order; larger ones get more.
        allowance: Seconds for a pass, the same for all of them: what is too slow in one is so in each.
        text: The budget of the run as the person wrote it, for messages.
    """

    sizes: tuple[int, ...]
    allowance: float
    text: str

    def share(self, case: int, left: float) -> float:
        """Return the seconds for a case.

        Args:
            case: Position among the sizes; the cases before are done.
            left: Seconds that are left of the pass.
        """
        weights = [_weight(n) for n in self.sizes[case:]]
        return left * weights[0] / sum(weights)

    def fair(self, n: int) -> float:
        """Return the seconds that one kernel may take of a case of n samples in any pass."""
        return FAIR_SHARE * self.allowance * _weight(n) / sum(map(_weight, self.sizes))

    def refusal(self, known: Costs, n: int, loops: bool) -> str:
        """Return why a kernel is too slow for a case of n samples; empty if it is not.

        Args:
            known: What it took at smaller sizes.
            n: Number of samples.
            loops: Whether it is a Python loop over samples.
        """
        call, fair = predicted(known, n, loops), self.fair(n)
        if CALLS_PER_PASS * call <= fair:
            return ""
        last, seconds = known[-1]
        return (
            f"{TOO_SLOW}: a call would take about {call:.2g} s ({seconds:.2g} s at n = {last}), "
            f"and {CALLS_PER_PASS} calls do not fit the {fair:.2g} s that --budget {self.text} leaves one kernel per "
            "pass here"
        )


def _weight(n: int) -> float:
    return 1 + math.log10(n)


def predicted(known: Costs, n: int, loops: bool) -> float:
    """Return the seconds that a call will take at n; 0 when nothing can be said.

    A Python loop is proportional to n; anything else is a fixed cost plus one per sample, through the last two.

    Args:
        known: What calls took at smaller sizes.
        n: Number of samples.
        loops: Whether the kernel is a Python loop over samples.
    """
    if not known:
        return 0.0
    last, seconds = known[-1]
    if loops:
        return seconds * n / last
    before, less = known[-2] if len(known) > 1 else (0, seconds)
    return seconds + max(0.0, seconds - less) / (last - before) * (n - last)
