"""Constants that meet parameters before they meet data: first states of zeros, start tokens, positions, masks.

A constant with as many rows as there are samples may have one for each of them, or as many by chance, as positions of
texts do. Nothing tells these apart where it meets parameters alone, so one is guessed. A wrong guess is never a wrong
result: the axes then do not agree with those of the data that the result meets, the pass raises an Unfit, and it is run
again with another guess. A function that takes samples in its data alone refuses them in its weights.
"""

from __future__ import annotations

from collections.abc import Container
from enum import Enum, auto
from typing import Any

from gradkernels.backend import Array
from gradkernels.engines.hooks.arguments import ArgPath, tensor_arguments
from gradkernels.engines.hooks.capture.follow.tracked_call import TrackedArgument
from gradkernels.engines.hooks.capture.sample_axis import Axis


class Guess(Enum):
    """Which constants have a row for each sample.

    Attributes:
        SEVERAL_AXES: Those of two axes and more whose first one is as long as there are samples.
        NOBODY: None of them.
        ANYBODY: All whose first axis of more than one entry is as long as there are samples: start tokens `(n,)`.
    """

    SEVERAL_AXES = auto()
    NOBODY = auto()
    ANYBODY = auto()


class Guesses:
    """The guess that passes of one problem go by, and what has been tried of the others."""

    def __init__(self) -> None:
        self._now = Guess.SEVERAL_AXES
        self._tried: list[Guess] = []
        self._asked = False

    def begin(self) -> None:
        """Begin a call with the guess that the last one ended with; none has been tried."""
        self._tried, self._asked = [], False

    def axis(self, constant: Array, n: int) -> Axis | None:
        """Return where a constant has a row for each sample; None where it has none.

        Args:
            constant: Neither data nor made of parameters.
            n: Number of samples, at least 2.
        """
        dim = next((dim for dim, size in enumerate(constant.shape) if size > 1), None)
        if dim is None or constant.shape[dim] != n:
            return None
        self._asked = True
        plain = dim == 0 and constant.ndim > 1
        taken = self._now is Guess.ANYBODY or (self._now is Guess.SEVERAL_AXES and plain)
        return Axis(dim) if taken else None

    def arguments(self, args: Any, kwargs: Any, known: Container[ArgPath], n: int) -> list[TrackedArgument]:
        """Return the constants among a call's arguments that are taken for rows of the samples.

        Args:
            args: Arguments by position.
            kwargs: Arguments by name.
            known: Places of those that are no constants.
            n: Number of samples.
        """
        found = [(place, one) for place, one in tensor_arguments(args, kwargs) if place not in known]
        axes = [(place, one, self.axis(one, n)) for place, one in found]
        return [TrackedArgument(place, one, axis, False) for place, one, axis in axes if axis is not None]

    def another(self) -> bool:
        """Go on to a guess that has not been tried in this call; return whether there is one and it may matter."""
        self._tried.append(self._now)
        rest = [guess for guess in Guess if guess not in self._tried]
        if self._asked and rest:
            self._now = rest[0]
            return True
        self._now = Guess.SEVERAL_AXES
        return False
