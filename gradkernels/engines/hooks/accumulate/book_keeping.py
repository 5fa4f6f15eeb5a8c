"""Norms first and weighted sums of the rows after them, from one backward pass (Bu et al. 2022, arXiv:2210.00038)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.accumulators import RowSums, SquaredNorms
from gradkernels.engines.hooks.accumulate.inner_products import Complete, UseTerm, replace_cancelled
from gradkernels.engines.hooks.accumulate.merging import merged
from gradkernels.engines.hooks.parameter_use import ParameterTensor, ParameterUse


class BookKeeping:
    """Adds up squared norms, and keeps what the sums need: rows that are small, else the output's gradients.

    Small rows take no more memory than the gradients and data that they are made of, and their sum is read off them
    instead of being computed anew.

    Args:
        theta: Parameters by name.
        shared: Those that have several uses.
        n: Number of samples.
        products: What completes norms that follow from inner products of those; None where none may.
    """

    def __init__(
        self, theta: dict[str, Array], shared: Iterable[str], n: int, products: Complete | None = replace_cancelled
    ) -> None:
        self._theta = theta
        self._squares = SquaredNorms(theta, shared, n, products)
        self._rows: list[tuple[ParameterTensor, Array]] = []
        self._uses: list[tuple[ParameterUse, Sequence[Any], Array]] = []
        self._terms: list[UseTerm] = []

    def __call__(self, use: ParameterUse, g: Array) -> None:
        """Add the squared norms of the rows of a use's targets, and keep what their sums need."""
        alone = self._squares.alone(use)
        small = {place: rows for place in alone if (rows := use.small_rows(place, g)) is not None}
        self._squares.add(use, g, alone, small)
        self._rows += [(use.targets[place], rows) for place, rows in small.items()]
        if large := [place for place in alone if place not in small]:
            self._uses.append((use, large, g))
        others = [(use, place, g) for place in use.targets if place not in alone]
        self._squares.keep(others)
        self._terms += others

    def squares(self) -> Array:
        """Return the squared norms `(n,)`, once the backward pass is over."""
        return self._squares.finish()

    def sums(self, weights: Array) -> dict[str, Array]:
        """Return the sums of the rows by name, each row weighted; `weights` is `(n,)`."""
        sums = RowSums(self._theta, weights)
        for target, rows in self._rows:
            sums.add_rows(target, rows)
        for use, places, g in self._uses:
            sums.add(use, places, g)
        for use, place, g in merged(self._terms):
            sums.add(use, (place,), g)
        return sums.finish()
