"""What backward passes leave in `.grad` themselves, under ghost clipping: sums without clipping, which go at once."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from gradkernels.backend import Array

NOT_CLIPPED = (
    "backward() of a loss that the criterion of make_private has not made: its gradients are not clipped, and .grad of "
    "the private model's parameters is emptied, so that no step is made with them; call backward() on what that "
    "criterion returns"
)


class UnclippedGradients:
    """Empties `.grad` of parameters whenever a backward pass has put something there.

    Args:
        parameters: That get clipped sums instead.

    Attributes:
        stays: Whether everything stays where backward passes put it, which nobody clips then.
        is_expected: Whether the backward pass that runs is that of a loss of ghost clipping.
    """

    def __init__(self, parameters: Iterable[Array]) -> None:
        self._parameters = [*parameters]
        self.stays, self.is_expected, self._warned = False, False, False
        self._handles = [one.register_post_accumulate_grad_hook(self._empty) for one in self._parameters]

    def __reduce__(self) -> Any:
        """Return what makes a copy, for copies of the parameters."""
        return type(self), (self._parameters,)

    def remove(self) -> None:
        """Let everything stay from now on."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    @contextmanager
    def expected(self) -> Iterator[None]:
        """Warn of nothing within the context, whose backward pass is that of a loss of ghost clipping."""
        self.is_expected = True
        try:
            yield
        finally:
            self.is_expected = False

    def _empty(self, parameter: Array) -> None:
        if self.stays:
            return
        parameter.grad = None
        if not (self.is_expected or self._warned):
            self._warned = True
            warnings.warn(NOT_CLIPPED, stacklevel=2)
