"""A trial: whose turn it is, how long each took, and who has won."""

from __future__ import annotations

import time
from collections.abc import Callable, Container
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from gradkernels.dispatch.select import TIE, Choice, ranked_choice
from gradkernels.kernel import Kernel

TURNS = 5
"""Timed calls of each kernel, after its first."""


@dataclass
class KernelTrial:
    """Kernels that take turns.

    Attributes:
        kernels: The choice first, then its rivals.
        seconds: What the calls of each took, the first among them, which sets up.
        winner: The fastest, once all had their turns.
    """

    kernels: tuple[Kernel, ...]
    seconds: dict[Kernel, list[float]] = field(default_factory=dict)
    winner: Kernel | None = None

    def turn(self, excluded: Container[Kernel]) -> Kernel | None:
        """Return who computes the next call: the winner, or who had the fewest turns; None if nobody may.

        Args:
            excluded: Kernels that are not to be tried now.
        """
        able = [kernel for kernel in self.kernels if kernel not in excluded]
        if able and self.winner is None and all(len(self.seconds.get(kernel, ())) > TURNS for kernel in able):
            self.winner = min(able, key=self._cost)
        if self.winner in able:
            return self.winner
        return min(able, key=lambda kernel: len(self.seconds.get(kernel, ())), default=None)

    def timed(self, kernel: Kernel, device: str, call: Callable[[], Any]) -> Any:
        """Return what a call returns, and note how long it took until it is decided who is fastest.

        Args:
            kernel: Which computes.
            device: Where.
            call: Does it.
        """
        if self.winner is not None:
            return call()
        started = _clock(device)
        result = call()
        self.seconds.setdefault(kernel, []).append(_clock(device) - started)
        return result

    def _cost(self, kernel: Kernel) -> float:
        # A rival has to be surely faster than what needs no set-up.
        return self.typical(kernel) * (1 if kernel is self.kernels[0] else 1 + TIE)

    def typical(self, kernel: Kernel) -> float:
        """Return the median of what its calls took but for the first; infinity without any."""
        later = self.seconds.get(kernel, [])[1:]
        return median(later) if later else float("inf")

    def apply(self, choice: Choice, excluded: Container[Kernel]) -> Choice:
        """Return the choice with the kernel whose turn it is, and what is known of all.

        Args:
            choice: Made without the trial.
            excluded: Kernels that are not to be tried now.
        """
        kernel = self.turn(excluded)
        if kernel is None:
            return choice
        if self.winner is None:
            return replace(choice, kernel=kernel, source="turns that kernels take in this program's calls, to be timed")
        costs = {one: self.typical(one) for one in self.kernels if len(self.seconds.get(one, ())) > 1}
        return ranked_choice(kernel, "the calls of this program, in which they took turns", costs, choice.refused)


def _clock(device: str) -> float:
    """Return the time in seconds, after what runs on a GPU is done."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
    return time.perf_counter()
