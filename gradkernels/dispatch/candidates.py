"""How the kernels stand for one kind of input: which is chosen, which are set aside, which did not fit and when again.

Kept as long as the model lives, and holds nothing of it: kernels, sentences and counts.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from gradkernels.dispatch.select import Choice
from gradkernels.kernel import Kernel
from gradkernels.quantity import Quantity

LONGEST = 64
"""Calls after which a kernel that did not fit is tried again at the latest."""

MOST = 512
_STANDINGS: weakref.WeakKeyDictionary[Any, dict[Hashable, Standing]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Wants:
    """What is asked for.

    Attributes:
        quantity: It.
        forced: The kernel that the caller names; None for the fastest.
        threads: That it may use.
        results: A results file to decide by.
        max_bytes: Peak memory allowed, in bytes.
        calls: How often it will be called.
    """

    quantity: Quantity
    forced: Kernel | None
    threads: int
    results: Any = None
    max_bytes: int | None = None
    calls: int | None = None


@dataclass
class Miss:
    """A kernel that could not do what it was last tried on.

    Attributes:
        reason: Why, as a sentence.
        times: In a row.
        until: Number of the call from which it is tried again.
    """

    reason: str
    times: int
    until: int


@dataclass
class Standing:
    """Of one quantity, for one kind of input.

    Attributes:
        calls: So far.
        aside: Kernels that computed wrong numbers, with the reason.
        misses: Kernels that did not fit, by kernel.
        audits: So far.
        changes: Calls in a row, each with another state of the model than the one before.
        unaudited: Calls since the last audit.
        warned: Sentences that were said already.
    """

    calls: int = 0
    aside: dict[Kernel, str] = field(default_factory=dict)
    misses: dict[Kernel, Miss] = field(default_factory=dict)
    audits: int = 0
    changes: int = 0
    unaudited: int = 0
    warned: set[str] = field(default_factory=set)
    choices: dict[Hashable, Choice] = field(default_factory=dict)

    def excluded(self) -> dict[Kernel, str]:
        """Kernels that are not to be tried at this call, with the reason."""
        waiting = {kernel: miss.reason for kernel, miss in self.misses.items() if self.calls < miss.until}
        return self.aside | waiting

    @property
    def settled(self) -> bool:
        """Whether there was a call before this one, and none of the kernels that did not fit is tried again now."""
        return self.calls > 1 and not any(self.calls >= miss.until for miss in self.misses.values())

    def missed(self, kernel: Kernel, reason: str) -> None:
        """Note that a kernel did not fit: it is tried again, at ever longer intervals."""
        times = self.misses[kernel].times + 1 if kernel in self.misses else 1
        self.misses[kernel] = Miss(reason, times, self.calls + min(2 ** (times - 1), LONGEST))

    def chosen(self, key: Hashable, choose: Callable[[], Choice]) -> Choice:
        """The choice for sizes about these and kernels that are left out, made once."""
        found = self.choices.get(key)
        if found is None:
            if len(self.choices) > MOST:
                self.choices.clear()
            found = self.choices[key] = choose()
        return found


def standing(model: Any, key: Hashable) -> Standing:
    """The one of a model, what is asked of it, and a kind of input."""
    found = _STANDINGS.setdefault(model, {})
    if key not in found and len(found) >= MOST:
        del found[next(iter(found))]
    return found.setdefault(key, Standing())


def forget() -> None:
    """Forget all choices, so that wisdom saved since then counts."""
    for of_model in _STANDINGS.values():
        for one in of_model.values():
            one.choices.clear()
