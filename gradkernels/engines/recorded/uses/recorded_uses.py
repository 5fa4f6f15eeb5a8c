"""Uses as they are recorded: where the hooks look at values or measure, algebra that does neither, or one operation.

A sum of products of steps loses digits where the steps cancel. The hooks look which samples these are and form their
rows; a recording marks them in `Doubts`, and they are computed by the hooks after it has run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.inner_products import UseTerm
from gradkernels.engines.hooks.capture.boundary_rules import GradientConsumer
from gradkernels.engines.hooks.parameter_use import CANCELLATION, ParameterUse
from gradkernels.engines.hooks.precision import squared_row_norms, sum_dtype, widen
from gradkernels.engines.hooks.rules.arithmetic import SharedLookup
from gradkernels.engines.hooks.rules.linear.bilinear import Bilinear
from gradkernels.engines.hooks.rules.linear.convolution import Convolution
from gradkernels.engines.hooks.rules.linear.linear import Linear
from gradkernels.engines.hooks.rules.linear.product import EinsumProduct
from gradkernels.engines.hooks.rules.linear.transposed_convolution import TransposedConvolution
from gradkernels.engines.hooks.rules.lookup.embedding import EmbeddingTable
from gradkernels.engines.hooks.rules.lookup.embedding_bag import MaxEmbeddingBag
from gradkernels.engines.hooks.rules.remade import MaskedUse, NormedUse
from gradkernels.engines.recorded.uses.plain_uses import RecordedUse, WholeRows, WholeUse

MOST_STEPS = 256
"""Of a sample whose pairs are all multiplied at once; with more the hooks choose, and take some at a time."""

MOST_WORDS = 64
"""Of a sample whose pairs are all looked at; with more its words are sorted."""


class Doubts:
    """Which samples' numbers are to be computed again, where products of terms may have cancelled."""

    def __init__(self) -> None:
        self._marks: list[Array] = []

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

    def all(self, n: int, like: Array) -> Array:
        """Return all marks together, `(n,)`."""
        if not self._marks:
            return like.new_zeros(n, dtype=torch.bool)
        return reduce(torch.logical_or, self._marks)


class RecordedLinear(WholeUse):
    """A linear map; with several steps norms follow from products of steps where these cost less than rows.

    Args:
        use: The map.
        doubts: Of the recording.
    """

    def __init__(self, use: Linear, doubts: Doubts) -> None:
        super().__init__(use)
        self._map, self._doubts = use, doubts

    def like(self, use: ParameterUse) -> ParameterUse:
        """Return a use as it is recorded."""
        return as_recorded(use, self._doubts)

    def joint_squared_norms(self, places: Any, g: Array) -> Array:
        """Return the squared norms of the rows of several targets together."""
        if g.ndim == 2:
            return self._map.joint_squared_norms(places, g)
        return ParameterUse.joint_squared_norms(self, places, g)

    def squared_norms(self, target: Any, g: Array) -> Array:
        """Return the squared norms of the rows."""
        rows, columns = self._map.factors(g)
        if target == "bias" or rows.ndim == 2:
            return self._map.squared_norms(target, g)
        if (
            rows.shape[1] > MOST_STEPS
            or rows.shape[1] * (rows.shape[2] + columns.shape[2]) > rows.shape[2] * columns.shape[2]
        ):
            return super().squared_norms(target, g)
        of_rows, of_columns = (widen(factor) @ widen(factor).mT for factor in (rows, columns))
        squares = torch.linalg.vecdot(of_rows.flatten(1), of_columns.flatten(1))
        return self._doubts.of_terms(squares, torch.linalg.vecdot(_diagonal(of_rows), _diagonal(of_columns)))

    def total_of_squares(self, target: Any, g: Array) -> Array:
        """Return the sum of the squared rows."""
        if target == "bias" or self._map.factors(g)[0].ndim == 2:
            return self._map.total_of_squares(target, g)
        return super().total_of_squares(target, g)

    def total_of_squared_deviations(self, target: Any, g: Array, mean: Array) -> Array:
        """Return the sum of the squares of the rows less `mean`.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            mean: Of the rows, of the target's shape.
        """
        if self._map.expands_deviations(target, g):
            return self._map.total_of_squared_deviations(target, g, mean)
        if target == "bias":
            return RecordedUse.total_of_squared_deviations(self, target, g, mean)
        return super().total_of_squared_deviations(target, g, mean)


class RecordedTable(WholeUse):
    """A table of vectors: with few words of a sample norms and squares follow from its pairs of words.

    Args:
        use: The table.
        doubts: Of the recording.
    """

    def __init__(self, use: EmbeddingTable, doubts: Doubts) -> None:
        super().__init__(use)
        self._table, self._doubts = use, doubts
        self._few = use.words.shape[1] <= MOST_WORDS

    def squared_norms(self, target: Any, g: Array) -> Array:
        """Return sums of g_s . g_t over places of the same word; for one bag |g|^2 times that of the factors."""
        if not self._few:
            return super().squared_norms(target, g)
        table, same = self._table, self._same()
        if not table.one_bag:
            terms = widen(table.terms(g))
            squares = (terms @ terms.mT).masked_fill(~same, 0).flatten(1).sum(1)
            return self._doubts.of_terms(squares, squared_row_norms(terms))
        dtype = sum_dtype(g.dtype)
        factors = g.new_ones(table.words.shape, dtype=dtype) if table.factors is None else table.factors.to(dtype)
        squares = (factors[:, None, :] @ (same.to(dtype) @ factors[:, :, None])).flatten()
        return self._doubts.of_terms(squares, factors.square().sum(1)) * squared_row_norms(g)

    def total_of_squares(self, target: Any, g: Array) -> Array:
        """Add each g_s times the sum over places of the same word to that word's row of one table."""
        if not self._few:
            return super().total_of_squares(target, g)
        terms = widen(self._table.terms(g))
        squares = (self._same().to(terms.dtype) @ terms).mul_(terms)
        total = terms.new_zeros((len(self.targets[target].tensor), terms.shape[2]))
        return total.index_add_(0, self._table.words.flatten(), squares.flatten(0, 1))

    def _same(self) -> Array:
        words = self._table.words
        return words[:, :, None] == words[:, None, :]


KINDS: dict[type[ParameterUse], Callable[[Any, Doubts], ParameterUse]] = {
    Linear: RecordedLinear,
    EmbeddingTable: RecordedTable,
    Convolution: lambda use, _: WholeRows(use),
    TransposedConvolution: lambda use, _: WholeRows(use),
    **dict.fromkeys((MaskedUse, NormedUse), lambda use, _: WholeUse(use)),
    **dict.fromkeys((Bilinear, SharedLookup, EinsumProduct, MaxEmbeddingBag), lambda use, _: WholeUse(use)),
}
"""How uses are recorded that are not recorded as they are."""


def as_recorded(use: ParameterUse, doubts: Doubts) -> ParameterUse:
    """Return a use as it is recorded."""
    return KINDS[type(use)](use, doubts) if type(use) in KINDS else RecordedUse(use)


def recording(consumer: GradientConsumer, doubts: Doubts) -> GradientConsumer:
    """Return a consumer that gets uses as they are recorded."""

    def arrived(use: ParameterUse, g: Array) -> None:
        consumer(as_recorded(use, doubts), g)

    return arrived


def _diagonal(products: Array) -> Array:
    return products.diagonal(dim1=1, dim2=2)
