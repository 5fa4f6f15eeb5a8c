"""Inner products of each two samples' rows, over groups of parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.accumulators import rows_from_terms
from gradkernels.engines.hooks.accumulate.inner_products import UseTerm
from gradkernels.engines.hooks.accumulate.single_uses import SingleUses
from gradkernels.engines.hooks.parameter_use import ParameterUse
from gradkernels.engines.hooks.precision import row_matrix, widen
from gradkernels.engines.hooks.symmetric import products_of_rows


class GroupGrams:
    """Adds up the inner products of each two samples' rows by group, of parameters that have one use as they arrive.

    Args:
        theta: Parameters by name.
        shared: Those that have several uses.
        n: Number of samples.
        groups: Group of each parameter, by its name; others are left out.
    """

    def __init__(self, theta: Mapping[str, Array], shared: Iterable[str], n: int, groups: Mapping[str, str]) -> None:
        self._theta, self._n, self._single, self._groups = dict(theta), n, SingleUses(shared), groups
        self._totals: dict[str, Array] = {}
        self._terms: list[UseTerm] = []

    def __call__(self, use: ParameterUse, g: Array) -> None:
        """Add the inner products of the rows of a use's targets."""
        alone: dict[str, list[Any]] = {}
        for place, target in use.targets.items():
            if self._groups.keys().isdisjoint(target.names):
                continue
            if self._single(target):
                alone.setdefault(self._groups[target.names[0]], []).append(place)
            else:
                self._terms.append((use, place, g))
        for group, places in alone.items():
            self._add(group, use.joint_gram(places, g))

    def finish(self) -> dict[str, Array]:
        """Return the inner products `(n, n)` by group, once the backward pass is over."""
        self._single.require()
        names = [name for name in self._groups if name in self._single.shared]
        for name, rows in rows_from_terms(self._terms, self._theta, names, self._n).items():
            self._add(self._groups[name], products_of_rows(row_matrix(rows)))
        unused = {group: name for name, group in self._groups.items() if group not in self._totals}
        blanks = {group: self._theta[name].new_zeros((self._n, self._n)).detach() for group, name in unused.items()}
        return self._totals | {group: widen(blank) for group, blank in blanks.items()}

    def _add(self, group: str, products: Array) -> None:
        """Add products of some parameters, memory of their own."""
        total = self._totals.get(group)
        if total is not None and total.dtype is products.dtype:
            total.add_(products)
        else:  # a module of several dtypes has the widest of them
            self._totals[group] = products if total is None else total + products
