"""Sums of the rows of groups of parameters, each row weighted by what follows from its norm over that group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.accumulators import RowSums, SquaredNorms, rows_from_terms
from gradkernels.engines.hooks.accumulate.inner_products import Complete, UseTerm, replace_cancelled
from gradkernels.engines.hooks.accumulate.merging import merged
from gradkernels.engines.hooks.accumulate.single_uses import SingleUses
from gradkernels.engines.hooks.parameter_use import ParameterTensor, ParameterUse
from gradkernels.engines.hooks.precision import squared_row_norms, widen
from gradkernels.row_norms import lengths

CutGroups = Sequence[tuple[str, tuple[str, ...]]]
ByName = dict[str, Array]


class TargetNorms(NamedTuple):
    """What is known of a use's targets when its gradient has come.

    Attributes:
        small: Rows that are small, by target.
        squares: Squared norms `(n,)` of the others where they are in several groups; nothing where they are in one.
    """

    small: dict[Any, Array]
    squares: dict[Any, Array]


@dataclass
class GroupBook:
    """What has come of a group, and is kept until its norms are known.

    Attributes:
        names: Of its parameters.
        awaited: Names of those parameters of which nothing has come yet, or that have several uses.
        squares: Squared norms `(n,)` of what has come of the others; None where nothing has.
        rows: Rows that are small.
        uses: Uses of other parameters, their targets and the gradients of their outputs.
        terms: The same of parameters with several uses.
    """

    names: tuple[str, ...]
    awaited: set[str]
    squares: Array | None = None
    rows: list[tuple[ParameterTensor, Array]] = field(default_factory=list)
    uses: list[tuple[ParameterUse, Sequence[Any], Array]] = field(default_factory=list)
    terms: list[UseTerm] = field(default_factory=list)

    def add(self, use: ParameterUse, places: Sequence[Any], g: Array, arrived: TargetNorms) -> None:
        """Add targets of a use whose parameters have no other.

        Args:
            use: The use.
            places: Its targets in this group.
            g: Gradient of its output, `(n, ...)`.
            arrived: What is known of these targets.
        """
        small = [place for place in places if place in arrived.small]
        self.rows += [(use.targets[place], arrived.small[place]) for place in small]
        squares = [squared_row_norms(arrived.small[place]) for place in small]
        if large := [place for place in places if place not in small]:
            self.uses.append((use, large, g))
            squares += [arrived.squares[place] for place in large if place in arrived.squares]
            if not arrived.squares:
                squares.append(use.joint_squared_norms(large, g))
        for one in squares:
            self.squares = one if self.squares is None else self.squares + one
        self.awaited.difference_update(use.targets[place].names[0] for place in places)

    def reached(self, n: int) -> Array:
        """Return which samples anything but zeros has come for, `(n,)`: of the others all rows are zero."""
        found = [rows for _, rows in self.rows] + [g for *_, g in self.uses] + [g for *_, g in self.terms]
        return torch.stack([(one.reshape(n, -1) != 0).any(1) for one in found]).any(0)

    def lengths(self, theta: ByName, n: int) -> Array:
        """Return the norms `(n,)` from rows, whose squares may leave the range of their dtype."""
        of_rows = [_lengths(rows) for _, rows in self.rows]
        for use, places, g in self.uses:
            of_rows += [torch.cat([_lengths(rows) for _, rows in use.row_blocks(place, g)]) for place in places]
        names = _names(self.terms).intersection(self.names)
        of_rows += map(_lengths, rows_from_terms(self.terms, theta, names, n).values())
        return lengths(torch, [torch.stack(of_rows, 1)])


Cut = Callable[[str, Array], Array]
"""`cut(group, norms)`: the weights `(n,)` of the rows of a group."""

NormsOf = Callable[[Array, GroupBook], Array]
"""`norms_of(squares, book)`: the norms of a group from their squares `(n,)`."""


class GroupedSums:
    """Sums the rows of groups of parameters, weighted: a group when its last parameter comes, and keeps nothing of it.

    A group in which a parameter has several uses, or none, is summed once the backward pass is over.

    Args:
        theta: Parameters by name.
        shared: Those that have several uses.
        n: Number of samples.
        groups: Names of parameters by group; what is in none is left out.
        cut: Gives the weights.
        norms_of: Gives the norms.
        products: What completes norms that follow from inner products of several uses; None where none may.
    """

    def __init__(
        self, theta: ByName, shared: Iterable[str], n: int, groups: CutGroups, cut: Cut,
        norms_of: NormsOf, products: Complete | None = replace_cancelled,
    ) -> None:  # fmt: skip
        self._theta, self._n, self._cut, self._norms_of, self._products = theta, n, cut, norms_of, products
        self._single = SingleUses(shared)
        self._group = {name: group for group, names in groups for name in names}
        self._books = {group: GroupBook(names, set(names)) for group, names in groups}
        self._sums: ByName = {}
        self._norms: ByName = {}
        self._weights: ByName = {}

    def __call__(self, use: ParameterUse, g: Array) -> None:
        """Take what has come for a use's targets, and sum the groups that are complete by it."""
        single: dict[str, list[Any]] = {}
        for place, target in use.targets.items():
            alone = self._single(target)
            for group in dict.fromkeys(self._group[name] for name in target.names if name in self._group):
                if alone:
                    single.setdefault(group, []).append(place)
                else:
                    self._books[group].terms.append((use, place, g))
        arrived = self._arrived(use, single, g)
        for group, places in single.items():
            book = self._books[group]
            book.add(use, places, g, arrived)
            if not book.awaited:
                self._close(group, book)

    def _arrived(self, use: ParameterUse, single: Mapping[str, Sequence[Any]], g: Array) -> TargetNorms:
        """Return what is known of targets whose parameters have no other use, from the groups that they are in."""
        small, large = dict[Any, Array](), []
        for group, places in single.items():
            rows_of = use.lone_rows if len(self._books[group].names) == 1 else use.small_rows
            for place in places:
                rows = rows_of(place, g)
                if rows is None:
                    large.append(place)
                else:
                    small[place] = rows
        return TargetNorms(small, use.each_squared_norms(large, g) if len(single) > 1 and large else {})

    def _close(self, group: str, book: GroupBook) -> None:
        squares = book.squares
        if squares is None or book.terms:
            late = SquaredNorms(self._theta, _names(book.terms).intersection(book.names), self._n, self._products)
            late.keep(book.terms)
            squares = late.finish() if squares is None else squares + late.finish()
        norms = self._norms_of(squares, book)
        weights = self._cut(group, norms)
        sums = RowSums({name: self._theta[name] for name in book.names}, weights)
        for target, rows in book.rows:
            sums.add_rows(target, rows)
        for use, places, g in book.uses:
            sums.add(use, places, g)
        for use, place, g in merged(book.terms):
            sums.add(use, (place,), g)
        self._sums |= sums.finish()
        self._norms[group], self._weights[group] = norms, weights
        del self._books[group]

    def finish(self) -> tuple[ByName, ByName, ByName]:
        """Return sums by name, norms and weights `(n,)` by group, once the backward pass is over."""
        self._single.require()
        for group, book in [*self._books.items()]:
            self._close(group, book)
        return self._sums, self._norms, self._weights


class WeightedGroups:
    """Sums the rows of groups of parameters by weights that are known.

    Args:
        theta: Parameters by name.
        groups: Names of parameters by group.
        weights: `(n,)` by group.
    """

    def __init__(self, theta: ByName, groups: CutGroups, weights: Mapping[str, Array]) -> None:
        self._names = {group: frozenset(names) for group, names in groups}
        self._sums = {group: RowSums({name: theta[name] for name in names}, weights[group]) for group, names in groups}

    def __call__(self, use: ParameterUse, g: Array) -> None:
        """Add the sums of the rows of a use's targets."""
        for group, names in self._names.items():
            places = [place for place, target in use.targets.items() if not names.isdisjoint(target.names)]
            if places:
                self._sums[group].add(use, places, g)

    def finish(self) -> ByName:
        """Return the sums by name, once the backward pass is over."""
        return {name: one for sums in self._sums.values() for name, one in sums.finish().items()}


def exact_norms(squares: Array, book: GroupBook, theta: ByName) -> Array:
    """Return norms from their squares; from rows where the squares have left the range of their dtype.

    Args:
        squares: `(n,)`.
        book: What has come of the group.
        theta: Parameters by name.
    """
    norms, n, limits = squares.sqrt(), len(squares), torch.finfo(squares.dtype)
    low, high = torch.aminmax(squares)
    if (low > limits.tiny / limits.eps and high < limits.max) or not (book.rows or book.uses or book.terms):
        return norms
    beyond = ~((squares > limits.tiny / limits.eps) & (squares < limits.max)) & book.reached(n)
    return torch.where(beyond, book.lengths(theta, n).to(norms.dtype), norms) if beyond.any() else norms


def _names(terms: Iterable[UseTerm]) -> set[str]:
    return {name for use, place, _ in terms for name in use.targets[place].names}


def _lengths(rows: Array) -> Array:
    return lengths(torch, [widen(rows).reshape(len(rows), -1)])
