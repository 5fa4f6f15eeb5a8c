"""How kernels did on one kind of input: which is chosen, which are set aside, which did not fit and when again.

Kept as long as the model lives, and holds nothing of it: kernels, sentences and counts.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from gradkernels.check.compare_arrays import Disagreement
from gradkernels.dispatch.memory_limit import TooSmall
from gradkernels.dispatch.select import Choice
from gradkernels.dispatch.trials.trials import Trials
from gradkernels.kernel import Compute, Kernel

MOST_CALLS_WAITED = 64
"""Calls after which a kernel that did not fit is tried again at the latest."""

MOST_REMEMBERED = 512
_HISTORIES: weakref.WeakKeyDictionary[Any, dict[Hashable, KernelHistory]] = weakref.WeakKeyDictionary()


@dataclass
class FailedAttempt:
    """A kernel that could not do what it was last tried on.

    Attributes:
        reason: Why, as a sentence.
        times: In a row.
        retry_at: Number of the call from which it is tried again.
    """

    reason: str
    times: int
    retry_at: int


@dataclass
class KernelHistory:
    """How kernels did on one quantity, for one kind of input.

    Attributes:
        calls: So far.
        wrong: Kernels that computed wrong numbers, with the reason.
        failed: The last attempt of kernels that did not fit.
        audits: So far.
        changes: Calls in a row, each with another state of the model than the one before.
        unaudited: Calls since the last audit.
        warned: Sentences that were said already.
        choices: What was chosen, by size and by the kernels that were left out.
        trials: Of kernels against each other in the calls themselves.
        lessons: How often something was noted of a kernel, or the choices were forgotten.
    """

    calls: int = 0
    wrong: dict[Kernel, str] = field(default_factory=dict)
    failed: dict[Kernel, FailedAttempt] = field(default_factory=dict)
    audits: int = 0
    changes: int = 0
    unaudited: int = 0
    warned: set[str] = field(default_factory=set)
    choices: dict[Hashable, Choice] = field(default_factory=dict)
    trials: Trials = field(default_factory=Trials)
    lessons: int = 0

    def excluded(self) -> dict[Kernel, str]:
        """Return the kernels that are not to be tried at this call, with the reason."""
        waiting = {kernel: attempt.reason for kernel, attempt in self.failed.items() if self.calls < attempt.retry_at}
        return self.wrong | waiting

    @property
    def settled(self) -> bool:
        """Whether there was a call before this one, and none of the kernels that did not fit is tried again now."""
        return self.calls > 1 and not any(self.calls >= attempt.retry_at for attempt in self.failed.values())

    def note(self, kernel: Kernel, fault: Exception) -> str:
        """Note that a kernel is wrong, or did not fit and is tried again at ever longer intervals.

        Returns:
            The reason as a sentence.
        """
        if isinstance(fault, TooSmall):
            return str(fault)
        self.lessons += 1
        reason = f"{type(fault).__name__}: {next(iter(str(fault).splitlines()), '')}"
        if isinstance(fault, Disagreement):
            self.wrong[kernel] = reason
        else:
            times = self.failed[kernel].times + 1 if kernel in self.failed else 1
            wait = min(2 ** (times - 1), MOST_CALLS_WAITED)
            self.failed[kernel] = FailedAttempt(reason, times, self.calls + wait)
        return reason

    def choice(self, key: Hashable, choose: Callable[[], Choice]) -> Choice:
        """Return the choice for sizes about these and kernels that are left out, made once."""
        found = self.choices.get(key)
        if found is None:
            if len(self.choices) > MOST_REMEMBERED:
                self.choices.clear()
            found = self.choices[key] = choose()
        return found


def history_of(model: Any, key: Hashable) -> KernelHistory:
    """Return the history of a model, what is asked of it, and a kind of input."""
    found = _HISTORIES.setdefault(model, {})
    if key not in found and len(found) >= MOST_REMEMBERED:
        del found[next(iter(found))]
    return found.setdefault(key, KernelHistory())


def clear_choices() -> None:
    """Forget all choices, so that wisdom saved since then counts."""
    for of_model in _HISTORIES.values():
        for one in of_model.values():
            one.choices.clear()
            one.trials = Trials()
            one.lessons += 1


def built_once(kernel: Kernel, problem: Any) -> Compute:
    """Return a kernel that audits compare with, built for a problem as it is: again only when the model has changed.

    What records or compiles would otherwise do so at each audit.
    """
    key = kernel, problem.mode_key()
    kept = problem.cache.get("audited")
    if kept is None or kept[0] != key:
        kept = problem.cache["audited"] = key, kernel.build(problem)
    compute: Compute = kept[1]
    return compute
