"""Inner products of rows, with directions, with random matrices and with each other: rows are formed for few layers."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.accumulators import rows_from_terms
from gradkernels.engines.hooks.accumulate.inner_products import UseTerm
from gradkernels.engines.hooks.accumulate.single_uses import SingleUses
from gradkernels.engines.hooks.parameter_use import ParameterUse
from gradkernels.engines.hooks.precision import squared_row_norms, sum_dtype, widen


class RowsAlong:
    """Adds up the inner products of the rows with directions, `(n, k)`; several uses of a parameter add up as they are.

    Args:
        theta: Parameters by name.
        directions: `(k, *parameter.shape)` by name.
        n: Number of samples.
    """

    def __init__(self, theta: dict[str, Array], directions: dict[str, Array], n: int) -> None:
        self._theta, self._n = theta, n
        self._directions = {name: widen(one) for name, one in directions.items()}
        self._total: Array | None = None
        self._derived: list[UseTerm] = []

    def __call__(self, use: ParameterUse, g: Array) -> None:
        """Add the inner products of the rows of a use's targets."""
        for place, target in use.targets.items():
            if target.direct:
                self._add(use.along(place, g, self._directions[target.names[0]]))
            elif target.block is not None:
                flat = _flat(self._directions[target.names[0]])[:, target.block.start : target.block.stop]
                self._add(use.along(place, g, flat.reshape(len(flat), *target.tensor.shape)))
            else:
                self._derived.append((use, place, g))

    def finish(self) -> Array:
        """Return the inner products `(n, k)`, once the backward pass is over."""
        names = {name for use, place, _ in self._derived for name in use.targets[place].names}
        for name, rows in rows_from_terms(self._derived, self._theta, names, self._n).items():
            self._add(_flat(rows) @ _flat(self._directions[name]).mT)
        if self._total is not None:
            return self._total
        first = next(iter(self._directions.values()))
        return first.new_zeros((self._n, len(first)))

    def _add(self, products: Array) -> None:
        self._total = products if self._total is None else self._total + products


class SquaredNormsByParameter:
    """Adds up the squared norms of the rows of each parameter, `(n,)` by name.

    Attributes:
        used: Names of the parameters that something was made of.

    Args:
        theta: Parameters by name.
        shared: Those that have several uses.
        n: Number of samples.
    """

    def __init__(self, theta: dict[str, Array], shared: Iterable[str], n: int) -> None:
        self._theta, self._n, self._single = theta, n, SingleUses(shared)
        self._squares = {name: widen(one.new_zeros(n).detach()) for name, one in theta.items()}
        self._terms: list[UseTerm] = []
        self.used = set[str]()

    def __call__(self, use: ParameterUse, g: Array) -> None:
        """Add the squared norms of the rows of a use's targets."""
        for place, target in use.targets.items():
            self.used.update(target.names)
            if self._single(target):
                self._squares[target.names[0]] = use.squared_norms(place, g)
            else:
                self._terms.append((use, place, g))

    def finish(self) -> dict[str, Array]:
        """Return the squared norms by name, once the backward pass is over."""
        self._single.require()
        for name, rows in rows_from_terms(self._terms, self._theta, self._single.shared, self._n).items():
            self._squares[name] = squared_row_norms(rows)
        return self._squares


class RowGram:
    """Adds up the inner products of each two samples' rows, `(n, n)`, of parameters that have one use as they arrive.

    Args:
        theta: Parameters by name.
        shared: Those that have several uses.
        n: Number of samples.
    """

    def __init__(self, theta: dict[str, Array], shared: Iterable[str], n: int) -> None:
        first = next(iter(theta.values()))
        self._theta, self._n, self._single = theta, n, SingleUses(shared)
        self._total = first.new_zeros((n, n), dtype=sum_dtype(first.dtype)).detach()
        self._terms: list[UseTerm] = []

    def __call__(self, use: ParameterUse, g: Array) -> None:
        """Add the inner products of the rows of a use's targets."""
        for place, target in use.targets.items():
            if self._single(target):
                self._add(use.gram(place, g))
            else:
                self._terms.append((use, place, g))

    def finish(self) -> Array:
        """Return the inner products `(n, n)`, once the backward pass is over."""
        self._single.require()
        for rows in rows_from_terms(self._terms, self._theta, self._single.shared, self._n).values():
            self._add(_flat(rows) @ _flat(rows).mT)
        return self._total

    def _add(self, products: Array) -> None:
        # A module of several dtypes has the widest of them.
        self._total = torch.add(self._total, products)


def _flat(rows: Array) -> Array:
    """Return rows, also of a parameter without axes, as a matrix in the dtype that sums are taken in."""
    return widen(rows).reshape(len(rows), -1)
