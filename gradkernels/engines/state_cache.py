"""A cache of what is built for a model, by the state that the model is in: another state needs another building.

A state is `problem.mode_key()`: structure, modes, what is trained, settings. A few states are kept, since models go
back and forth between training and evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from gradkernels.problems.module.module_problem import ModuleProblem

MOST_STATES = 4
"""That are kept; the one that was used the longest time ago makes room."""

T = TypeVar("T")


class StateCache(Generic[T]):
    """A cache of what is built for a problem, by the state of its model.

    Args:
        problem: Whose model.
        build: `build(*more)`, for the state that the model is in.
    """

    def __init__(self, problem: ModuleProblem, build: Callable[..., T]) -> None:
        self._problem, self._build = problem, build
        self._ready: dict[Hashable, T] = {}

    def take(self, *more: Hashable) -> tuple[Hashable, T]:
        """Return the state's key and what is built for it, which is no longer kept: give it back with `keep`.

        Args:
            more: What it is built for besides the state.
        """
        key = (self._problem.mode_key(), *more)
        return key, self._ready.pop(key) if key in self._ready else self._build(*more)

    def keep(self, key: Hashable, built: T) -> None:
        """Keep what was built as the one that was used last."""
        self._ready[key] = built
        while len(self._ready) > MOST_STATES:
            del self._ready[next(iter(self._ready))]

    def kept(self) -> tuple[T, ...]:
        """Return what is kept, the oldest first."""
        return tuple(self._ready.values())

    def __call__(self, *more: Hashable) -> T:
        """Return what is built for the state, and keep it."""
        key, built = self.take(*more)
        self.keep(key, built)
        return built
