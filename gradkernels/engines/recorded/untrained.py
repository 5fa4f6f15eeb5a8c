"""Buffers and frozen parameters, found again at each call without a walk over the modules: they may be replaced."""

from __future__ import annotations

from typing import Any

from gradkernels.backend import Array
from gradkernels.engines.recorded.trace import untrained_slots
from gradkernels.problems.module.module_problem import ModuleProblem

Slot = tuple[dict[str, Any], str]
"""A module's dict of tensors, and a name in it."""


class Untrained:
    """The buffers and frozen parameters of a problem's model and loss, each tensor once.

    Args:
        problem: Whose model.
    """

    def __init__(self, problem: ModuleProblem) -> None:
        self._problem = problem
        self._state: Any = None
        self._slots: dict[str, Slot] = {}
        self._tied: list[tuple[Slot, Slot]] = []

    def __call__(self, state: Any) -> dict[str, Array]:
        """Return them by place.

        Args:
            state: The key of the model as it is; with the same one there are no others in other places.
        """
        if state is not self._state or any(kept[name] is not other[own] for (kept, name), (other, own) in self._tied):
            self._find()
            self._state = state
        return {place: kept[name] for place, (kept, name) in self._slots.items()}

    def _find(self) -> None:
        """Walk over the modules."""
        first: dict[int, Slot] = {}
        self._slots, self._tied = {}, []
        for prefix, kept, name, tensor in untrained_slots(self._problem):
            if id(tensor) in first:
                self._tied.append((first[id(tensor)], (kept, name)))
            else:
                first[id(tensor)] = self._slots[f"{prefix}.{name}"] = kept, name
