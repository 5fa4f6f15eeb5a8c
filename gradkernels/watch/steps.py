"""Which step it is, what was seen of it, and what is kept of those before."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch.utils import _pytree as pytree

from gradkernels.backend import Array
from gradkernels.watch.backward import BackwardPass
from gradkernels.watch.clipping import LEFT_UNCLIPPED
from gradkernels.watch.errors import CannotWatch
from gradkernels.watch.values.history import History, SeenRecord
from gradkernels.watch.values.summaries import joined_steps, summarized

UNJOINED = (
    "{name} of a step of several backward passes cannot be made of theirs: read it after each backward pass, before "
    "seen.step()"
)
GradientsLeft = tuple[int, int] | None
"""By which it is known again that `.grad` is as a backward pass has left it."""


class Steps:
    """Steps of a training loop: each backward pass is one, unless the caller says where they end.

    Args:
        every: Which of them are looked at: those whose number, from 0, it divides.

    Attributes:
        history: A record of each quantity at each step that was looked at.
        looked: Whether the step is looked at.
        values: What was seen in the last backward pass or step, by quantity.
        n: Number of samples that the values are of.
        seen: Number of backward passes that were looked at.
    """

    def __init__(self, every: int) -> None:
        self.every, self.history, self.looked, self.n, self.seen = every, History(), True, 0, 0
        self._number, self._ended, self._said = 0, False, False
        self._parts: list[tuple[int, dict[str, Any]]] = []
        self.values: dict[str, Any] = {}
        self._absent: dict[str, str] = {}
        self._first_record = 0
        self._left: GradientsLeft = None

    def begin(self, trained: Collection[Array]) -> None:
        """Take note that a forward pass begins: of the next step, where a backward pass has ended this one."""
        if not self._ended or self._said:
            return
        going_on = self.is_going_on(trained)
        if not going_on:
            self._parts, self._first_record = [], len(self.history)
        if not (going_on and self.every > 1):
            self._number += 1
            self.looked = self._number % self.every == 0
        self._ended = False

    def is_going_on(self, trained: Collection[Array]) -> bool:
        """Return whether `.grad` is as the last backward pass has left it: more is to be added to it."""
        if self._left is not None:
            return _left_by(trained) == self._left
        smallest = min(trained, key=torch.Tensor.numel, default=None)
        return smallest is not None and smallest.grad is not None and bool(smallest.grad.any())

    def require_nothing_unseen(self, trained: Mapping[str, Array]) -> None:
        """Raise a CannotWatch where `.grad` is another than the last backward pass, or the loop before, has left it."""
        if _left_by(trained.values()) not in (None, self._left):
            for name, one in trained.items():
                if one.grad is not None and one.grad.any():
                    raise CannotWatch(LEFT_UNCLIPPED.format(name=name))

    def listen(self, output: Any) -> None:
        """Hear of a backward pass that is not looked at."""
        outputs = [one for one in pytree.tree_leaves(output) if isinstance(one, torch.Tensor) and one.requires_grad]
        if outputs:
            outputs[0].register_hook(self._pass)  # type: ignore[no-untyped-call]

    def _pass(self, g: Any) -> None:
        self._ended, self.values, self._left, self.n = True, {}, None, 0

    def add(self, backward: BackwardPass, factors: Mapping[int, float], wanted: Iterable[str]) -> None:
        """Take what was seen in a backward pass.

        Args:
            backward: That is over.
            factors: What gradients are multiplied with, by set of samples.
            wanted: Names of the quantities.
        """
        sizes = [one.known.n for one in backward.samples.values()]
        found = [backward.results(key, factors[key]) for key in backward.samples]
        values = {name: joined_steps(name, sizes, [one[name] for one in found]) for name in wanted}
        self._ended, self.seen = True, self.seen + 1
        self._parts.append((sum(sizes), values))
        self._show(sum(sizes), values)
        self._record(self._number, values)

    def _show(self, n: int, values: dict[str, Any], absent: Mapping[str, str] | None = None) -> None:
        self.n, self.values, self._absent = n, values, dict(absent or {})

    def _record(self, number: int, values: Mapping[str, Any]) -> None:
        self.history += [SeenRecord(number, name, summarized(name, one)) for name, one in values.items()]

    def left(self, trained: Collection[Array]) -> None:
        """Take note of `.grad` as the backward pass has left it."""
        self._left = _left_by(trained)

    def value(self, name: str) -> Any:
        """Return a quantity; None where the step was not looked at.

        Raises:
            CannotWatch: It does not follow from those of the step's backward passes.
        """
        if name in self._absent:
            raise CannotWatch(self._absent[name])
        return self.values.get(name)

    def close(self) -> None:
        """End a step; from now on the caller says where each ends."""
        if not self._said:
            self._number, self._said = 0, True
        if len(self._parts) > 1:
            sizes = [n for n, _ in self._parts]
            names = self._parts[0][1]
            values = {name: joined_steps(name, sizes, [part[name] for _, part in self._parts]) for name in names}
            absent = {name: UNJOINED.format(name=name) for name, one in values.items() if one is None}
            self._show(sum(sizes), values, absent)
        if len(self._parts) == 1:
            for record in self.history[self._first_record :]:
                record.step = self._number
        elif self._parts:
            del self.history[self._first_record :]
            self._record(self._number, self.values)
        self._parts, self._first_record, self._ended = [], len(self.history), False
        self._number += 1
        self.looked = self._number % self.every == 0


def _left_by(trained: Iterable[Array]) -> GradientsLeft:
    return next(((id(grad), grad._version) for one in trained if (grad := one.grad) is not None), None)
