"""Kernels that are settled: chosen, proven, and the fastest as far as is known, until something is learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gradkernels.check.modules.verdicts import is_proven, times_set_aside
from gradkernels.dispatch.history import KernelHistory
from gradkernels.dispatch.kinds.seen_inputs import KnownInputs
from gradkernels.dispatch.select import Choice
from gradkernels.dispatch.trials.trials import first_trial
from gradkernels.kernel import Compute, Kernel

MOST_SETTLED = 32
"""Of a dispatcher; each may keep alive what a kernel was built to."""


@dataclass(frozen=True)
class SettledCall:
    """What computes inputs of a kind.

    Attributes:
        history: Of the kind.
        kernel: That computed last.
        choice: By which it was chosen; None where the caller named it.
        compute: The kernel, built, with its keywords.
        until: Number of the call at which a kernel that did not fit is tried again, or rivals are.
        lessons: Of the history, when it was settled.
        set_aside: How often any kernel was found wrong by then.
    """

    history: KernelHistory
    kernel: Kernel
    choice: Choice | None
    compute: Compute
    until: float
    lessons: int
    set_aside: int

    def holds(self, known: KnownInputs) -> bool:
        """Return whether it is still what a choice would come to, this call being counted.

        Args:
            known: The inputs of this call.
        """
        history = self.history
        return (
            history is known.history
            and history.lessons == self.lessons
            and history.calls < self.until
            and times_set_aside() == self.set_aside
        )


class SettledCalls:
    """The settled calls of one dispatcher, by kind and size."""

    def __init__(self) -> None:
        self._calls: dict[tuple[int, int], SettledCall] = {}

    def get(self, known: KnownInputs) -> SettledCall | None:
        """Return what computes these inputs, if that is settled."""
        found = self._calls.get((id(known.history), known.size))
        return found if found is not None and found.holds(known) else None

    def drop(self, known: KnownInputs) -> None:
        """Forget what computes these inputs: it raised."""
        self._calls.pop((id(known.history), known.size), None)

    def settle(self, known: KnownInputs, problem: Any, kernel: Kernel, choice: Choice | None, compute: Compute) -> None:
        """Keep what has computed these inputs, if no other call of their kind and size would be computed differently.

        Args:
            known: The inputs.
            problem: Of a module.
            kernel: That has computed.
            choice: By which it was chosen.
            compute: The kernel, built, with its keywords.
        """
        history, asked = known.history, known.request.criteria
        trial = history.trials.at(known.request)
        decided = trial is None or (trial.winner is not None and kernel is trial.winner)
        limited = asked.max_bytes is not None or asked.results is not None  # for these shapes, or for this file
        if not decided or limited or not is_proven(kernel, known.kind, problem):
            return
        if len(self._calls) >= MOST_SETTLED:
            del self._calls[next(iter(self._calls))]
        until = min((attempt.retry_at for attempt in history.failed.values()), default=float("inf"))
        if trial is None and choice is not None:
            until = min(until, first_trial(choice, asked.calls))
        self._calls[id(history), known.size] = SettledCall(
            history, kernel, choice, compute, until, history.lessons, times_set_aside()
        )
