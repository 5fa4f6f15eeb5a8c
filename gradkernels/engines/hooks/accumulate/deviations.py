"""Sums of rows and of their squares; and variances where the mean is large beside them.

E[g^2] - E[g]^2 is then a difference of two numbers that are alike, with a relative error of about
eps * mean^2 / variance, so the squares of g - mean are added up instead.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.accumulators import RowSums, rows_from_terms
from gradkernels.engines.hooks.accumulate.inner_products import UseTerm
from gradkernels.engines.hooks.accumulate.single_uses import SingleUses
from gradkernels.engines.hooks.parameter_use import ParameterUse
from gradkernels.engines.hooks.precision import sum_of_squares, widen

RELATIVE_VARIANCE = 1e-2
"""Of the squared mean: with a smaller variance more than two digits are lost."""


class RowMoments:
    """Adds up rows and their squares, without rows of parameters that have one use."""

    def __init__(self, theta: dict[str, Array], shared: Iterable[str], n: int) -> None:
        self._sums = RowSums(theta)
        self._squares = {name: widen(torch.zeros_like(tensor).detach()) for name, tensor in theta.items()}
        self._theta, self._n = theta, n
        self._single = SingleUses(shared)
        self._terms: list[UseTerm] = []

    def __call__(self, use: ParameterUse, g: Array) -> None:
        """Add the sums of the rows of a use's targets, and of their squares."""
        self._sums(use, g)
        for place, target in use.targets.items():
            if self._single(target):
                self._squares[target.names[0]] += use.total_of_squares(place, g)
            else:
                self._terms.append((use, place, g))

    def finish(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """Return sums and sums of squares by name, once the backward pass is over."""
        self._single.require()
        for name, rows in rows_from_terms(self._terms, self._theta, self._single.shared, self._n).items():
            self._squares[name] += sum_of_squares(rows)
        return self._sums.finish(), self._squares


def inaccurate_variances(mean: dict[str, Array], variance: dict[str, Array]) -> frozenset[str]:
    """Return the names of the parameters that have an entry whose variance is small beside its squared mean, or NaN.

    It is NaN where the squares leave the range of their dtype: infinity less infinity.
    """
    return frozenset(
        name for name, one in mean.items() if not (variance[name] >= RELATIVE_VARIANCE * one.square()).all()
    )


class SquaredDeviations:
    """Adds up the squares of g - mean for some parameters.

    Args:
        theta: Parameters by name.
        shared: Those that have several uses.
        n: Number of samples.
        mean: The mean over all samples by name.
        names: Which parameters.
    """

    def __init__(
        self, theta: dict[str, Array], shared: Iterable[str], n: int, mean: dict[str, Array], names: frozenset[str]
    ) -> None:
        self._theta, self._n, self._mean = theta, n, mean
        self._single = SingleUses(shared)
        self.totals = {name: widen(torch.zeros_like(mean[name])) for name in names}
        self._terms: list[UseTerm] = []

    def __call__(self, use: ParameterUse, g: Array) -> None:
        """Add the squared deviations of the rows of a use's targets."""
        for place, target in use.targets.items():
            if self.totals.keys().isdisjoint(target.names):
                continue
            if self._single(target):
                (name,) = target.names
                self.totals[name] += use.total_of_squared_deviations(place, g, self._mean[name])
            else:
                self._terms.append((use, place, g))

    def finish(self) -> dict[str, Array]:
        """Return the sums by name, once the backward pass is over."""
        self._single.require()
        shared = self._single.shared & self.totals.keys()
        for name, rows in rows_from_terms(self._terms, self._theta, shared, self._n).items():
            self.totals[name] += sum_of_squares(widen(rows) - self._mean[name])
        return self.totals
