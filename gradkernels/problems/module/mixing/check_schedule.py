"""When a loss is looked at: calls 1, 2, 4, 8, ... of each kind of batch, counted for a model and its loss."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any

from gradkernels.problems.module.black_box import BlackBox
from gradkernels.problems.module.mode_key.identity import identity
from gradkernels.problems.module.structure import Module
from gradkernels.tree import Tree

MOST_LOSSES = 64


@dataclass
class CheckSchedule:
    """When a loss is looked at.

    Attributes:
        calls: Of each kind of batch, so far.
        warned: Whether its one warning was given.
    """

    calls: dict[Any, int] = field(default_factory=dict)
    warned: bool = False

    def due(self, kind: Any) -> bool:
        """Count a call; tell whether it is the first, second, fourth, eighth, ... of its kind."""
        calls = self.calls[kind] = self.calls.get(kind, 0) + 1
        return not calls & (calls - 1)

    def again(self, kind: Any) -> None:
        """Have the next call of a kind looked at."""
        self.calls[kind] = 0


_SCHEDULES: weakref.WeakKeyDictionary[Module, dict[Any, CheckSchedule]] = weakref.WeakKeyDictionary()


def check_schedule_of(problem: BlackBox) -> CheckSchedule:
    """Return the schedule of a problem's model and loss, shared with other problems of these."""
    known = _SCHEDULES.setdefault(problem.model, {})
    if len(known) >= MOST_LOSSES:
        known.clear()
    loss = getattr(problem.loss_fn, "__code__", None)  # what a function has closed over may change with each step
    return known.setdefault((loss or identity(problem.loss_fn), problem.reduction), CheckSchedule())


def batch_kind(x: Tree, y: Tree) -> Any:
    """Return what two batches have in common that are looked at as one kind."""
    return _kind(x), _kind(y)


def _kind(tree: Tree) -> Any:
    if isinstance(tree, dict):
        return tuple(tree)
    return len(tree) if isinstance(tree, tuple) else getattr(tree, "ndim", None)
