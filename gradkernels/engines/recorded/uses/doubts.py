"""Which samples' numbers are computed again after a recording has run: it cannot look at what it computes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.inner_products import UseTerm
from gradkernels.engines.hooks.parameter_use import CANCELLATION
from gradkernels.engines.hooks.quantities import beyond_range

LEAST_DIGITS = 1e3
"""Times the smallest number with all digits, below which a sum of squares may have lost some."""


class Doubts:
    """Which samples' numbers are to be computed again: terms may have cancelled, or squares have left their range."""

    def __init__(self) -> None:
        self._marks: list[Array] = []
        self._factors: list[Array] = []
        self._squares: list[Array] = []

    def mark(self, at: Array) -> None:
        """Mark samples, `(n,)`, of true and false."""
        self._marks.append(at)

    def of_terms(self, squares: Array, of_terms: Array) -> Array:
        """Mark where squares are small beside the squares of their terms; return the squares, none below zero."""
        self.mark(squares < CANCELLATION * of_terms)
        return squares.clamp_(min=0)

    def of_products(self, squares: Array, of_terms: Array, terms: Sequence[UseTerm]) -> Array:
        """Mark where the terms of a parameter with several uses cancel; return the squares, none below zero.

        Args:
            squares: Squared norms, `(n,)`.
            of_terms: Sums of the terms' own squared norms.
            terms: The uses, targets and gradients, not needed for it.
        """
        return self.of_terms(squares, of_terms)

    def keep_factors(self, *squares: Array) -> None:
        """Keep squared norms `(n,)` of factors that are multiplied: one may leave the range that the product is in."""
        self._factors += [one.clone() for one in squares]

    def lost(self, squares: Array) -> Array:
        """Return which samples' products may have lost digits in one of the factors that were kept, `(n,)`.

        Args:
            squares: Squared norms of the samples' rows: the diagonal of a Gram matrix.
        """
        limits, kept = torch.finfo(squares.dtype), squares.new_ones(())
        for one in self._factors:
            kept = kept + one
        return ~((squares > LEAST_DIGITS * limits.tiny / limits.eps * kept) & (squares < limits.max))

    def look_at(self, squares: Array) -> None:
        """Mark samples whose squares `(n,)` have left the range of their dtype, all such together."""
        self._squares.append(squares)

    def all(self, n: int, like: Array) -> Array:
        """Return all marks together, `(n,)`."""
        for dtype in {one.dtype: None for one in self._squares}:
            alike = [one for one in self._squares if one.dtype is dtype]
            self.mark(beyond_range(torch.stack(alike)).any(0))
        if not self._marks:
            return like.new_zeros(n, dtype=torch.bool)
        return reduce(torch.logical_or, self._marks)
