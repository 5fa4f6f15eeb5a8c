"""Inner products of rows, with directions and with each other, and norms by parameter: rows are formed for few."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.accumulators import SquaredNorms, rows_from_terms
from gradkernels.engines.hooks.accumulate.inner_products import Complete, UseTerm, replace_cancelled
from gradkernels.engines.hooks.accumulate.pieces import bytes_of_row, gram_in_pieces
from gradkernels.engines.hooks.accumulate.single_uses import SingleUses
from gradkernels.engines.hooks.parameter_use import ParameterUse
from gradkernels.engines.hooks.precision import row_matrix, widen
from gradkernels.engines.hooks.rules.linear.linear import Linear
from gradkernels.engines.hooks.symmetric import products_of_rows
from gradkernels.quantities.shared.groups import Groups, whole_or_groups


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
                flat = row_matrix(self._directions[target.names[0]])[:, target.block.start : target.block.stop]
                self._add(use.along(place, g, flat.reshape(len(flat), *target.tensor.shape)))
            else:
                self._derived.append((use, place, g))

    def finish(self) -> Array:
        """Return the inner products `(n, k)`, once the backward pass is over."""
        names = {name for use, place, _ in self._derived for name in use.targets[place].names}
        for name, rows in rows_from_terms(self._derived, self._theta, names, self._n).items():
            self._add(row_matrix(rows) @ row_matrix(self._directions[name]).mT)
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
        products: What completes norms that follow from inner products of those; None where none may.
    """

    def __init__(
        self, theta: dict[str, Array], shared: Iterable[str], n: int, products: Complete | None = replace_cancelled
    ) -> None:
        self._all = SquaredNorms(theta, shared, n, products)
        self._theta, self._n, self._squares = theta, n, dict[str, Array]()
        self.used = set[str]()

    def __call__(self, use: ParameterUse, g: Array) -> None:
        """Add the squared norms of the rows of a use's targets."""
        alone = self._all.alone(use)
        for place, squares in use.each_squared_norms(alone, g).items():
            self._squares[use.targets[place].names[0]] = squares
        self._all.keep((use, place, g) for place in use.targets if place not in alone)
        self.used.update(name for target in use.targets.values() for name in target.names)

    def finish(self) -> dict[str, Array]:
        """Return the squared norms by name, once the backward pass is over."""
        found = self._squares | self._all.of_shared()
        unused = {name: one for name, one in self._theta.items() if name not in found}
        return found | {name: widen(one.new_zeros(self._n).detach()) for name, one in unused.items()}


class RowGrams:
    """Adds up the inner products of each two samples' rows by group, of parameters that have one use as they arrive.

    Attributes:
        totals: `(n, n)` by group, of what has arrived.

    Args:
        theta: Parameters by name.
        shared: Those that have several uses.
        n: Number of samples.
        groups: Names of parameters by group, others are left out; None for one of all.
        room: Bytes that rows may take; None for any number.
    """

    def __init__(
        self, theta: Mapping[str, Array], shared: Iterable[str], n: int, groups: Groups | None = None,
        room: int | None = None,
    ) -> None:  # fmt: skip
        self._theta, self._n, self._single, self._room = dict(theta), n, SingleUses(shared), room
        self._groups = {name: group for group, names in whole_or_groups(groups, dict(theta)) for name in names}
        self.totals: dict[str, Array] = {}
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
            if self._fits(use, places, g):
                self._add(group, use.joint_gram(places, g))
            else:
                for place in places:
                    self._add_in_pieces(group, use.targets[place].names[0], [(use, place, g)])

    def _fits(self, use: ParameterUse, places: Iterable[Any], g: Array) -> bool:
        """Return whether rows of all samples may be formed, or none are."""
        if self._room is None or (isinstance(use.rule, Linear) and g.ndim == 2):
            return True
        return self._n * max(bytes_of_row(use.targets[place].tensor) for place in places) <= self._room

    def _add_in_pieces(self, group: str, name: str, terms: Sequence[UseTerm]) -> None:
        assert self._room is not None
        self._add(group, gram_in_pieces(terms, self._theta[name], name, self._n, self._room))

    def finish(self) -> dict[str, Array]:
        """Return the inner products `(n, n)` by group, once the backward pass is over."""
        self._single.require()
        names = [name for name in self._groups if name in self._single.shared]
        if self._room is None:
            for name, rows in rows_from_terms(self._terms, self._theta, names, self._n).items():
                self._add(self._groups[name], products_of_rows(row_matrix(rows)))
        else:
            for name in names:
                mine = [term for term in self._terms if name in term[0].targets[term[1]].names]
                self._add_in_pieces(self._groups[name], name, mine)
        unused = {group: name for name, group in self._groups.items() if group not in self.totals}
        blanks = {group: self._theta[name].new_zeros((self._n, self._n)).detach() for group, name in unused.items()}
        return self.totals | {group: widen(blank) for group, blank in blanks.items()}

    def _add(self, group: str, products: Array) -> None:
        """Add products of some parameters, memory of their own."""
        total = self.totals.get(group)
        if total is not None and total.dtype is products.dtype:
            total.add_(products)
        else:  # a module of several dtypes has the widest of them
            self.totals[group] = products if total is None else total + products
