"""Uses as they are recorded: where the hooks look at values or measure, algebra that does neither, or one operation.

A sum of products of steps loses digits where the steps cancel. The hooks look which samples these are and form their
rows; a recording marks them in `Doubts`, and they are computed by the hooks after it has run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.capture.boundary_rules import GradientConsumer
from gradkernels.engines.hooks.parameter_use import ParameterUse
from gradkernels.engines.hooks.precision import squared_row_norms, sum_dtype, widen
from gradkernels.engines.hooks.rules.arithmetic import SharedLookup
from gradkernels.engines.hooks.rules.linear.bilinear import Bilinear
from gradkernels.engines.hooks.rules.linear.convolution import Convolution
from gradkernels.engines.hooks.rules.linear.linear import Linear
from gradkernels.engines.hooks.rules.linear.product import EinsumProduct
from gradkernels.engines.hooks.rules.linear.transposed_convolution import TransposedConvolution
from gradkernels.engines.hooks.rules.lookup.embedding import EmbeddingTable
from gradkernels.engines.hooks.rules.lookup.embedding_bag import MaxEmbeddingBag
from gradkernels.engines.hooks.rules.made.normed import NormedUse
from gradkernels.engines.hooks.rules.made.remade import MaskedUse, RemadeUse
from gradkernels.engines.recorded.uses.doubts import Doubts
from gradkernels.engines.recorded.uses.made_weights import RecordedRemade
from gradkernels.engines.recorded.uses.plain_uses import RecordedUse
from gradkernels.engines.recorded.uses.whole_uses import WholeRows, WholeUse, WholeWeight

MOST_GRAM_STEPS = 256
"""Of a sample whose pairs are all multiplied at once; with more the hooks choose, and take some at a time."""

MOST_WORDS = 64
"""Of a sample whose pairs are all looked at; with more its words are sorted."""


class RecordedLinear(WholeWeight):
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

    def each_squared_norms(self, places: Any, g: Array) -> dict[Any, Array]:
        """Return the squared norms of the rows of several targets, each its own."""
        if g.ndim == 2:
            return self._map.each_squared_norms(places, g)
        return ParameterUse.each_squared_norms(self, places, g)

    def along(self, target: Any, g: Array, directions: Array) -> Array:
        """Return the inner products of the rows with directions; with several steps and directions from rows.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            directions: `(k, *target.tensor.shape)`.
        """
        if target == "bias" or len(directions) == 1 or self._map.factors(g)[0].ndim == 2:
            return self._map.along(target, g, directions)
        return super().along(target, g, directions)

    def gram(self, target: Any, g: Array) -> Array:
        """Return the inner products of the rows of each two samples, `(n, n)`."""
        if target == "bias":
            return self._map.gram(target, g)
        rows, columns = map(widen, self._map.factors(g))
        if rows.ndim == 3:
            return super().gram(target, g)
        of_rows, of_columns = rows @ rows.mT, columns @ columns.mT
        self._doubts.keep_factors(of_rows.diagonal(), of_columns.diagonal())
        return of_rows.mul_(of_columns)

    def joint_gram(self, places: Any, g: Array) -> Array:
        """Return the inner products of the rows of several targets; with one step the bias is another input, of 1."""
        rows, columns = map(widen, self._map.factors(g))
        if rows.ndim == 3 or len(places) < 2:
            return super().joint_gram(places, g)
        of_g, of_a = (columns, rows) if self._map.flipped else (rows, columns)
        of_g, of_a = of_g @ of_g.mT, of_a @ of_a.mT
        self._doubts.keep_factors(of_g.diagonal(), of_a.diagonal())
        return of_g.mul_(of_a.add_(1))

    def weighted_totals(self, target: Any, g: Array, weights: Array) -> Array:
        """Return the sums of the rows by each weighting; with several steps by one operation.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            weights: `(n, k)`.
        """
        if target == "bias" or self._map.factors(g)[0].ndim == 2:
            return self._map.weighted_totals(target, g, weights)
        return super().weighted_totals(target, g, weights)

    def squared_norms(self, target: Any, g: Array) -> Array:
        """Return the squared norms of the rows."""
        rows, columns = self._map.factors(g)
        if target == "bias" or rows.ndim == 2:
            return self._map.squared_norms(target, g)
        if (
            rows.shape[1] > MOST_GRAM_STEPS
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

    def along(self, target: Any, g: Array, directions: Array) -> Array:
        """Return the inner products of the rows with directions.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            directions: `(k, *target.tensor.shape)`.
        """
        return self._table.along(target, g, directions)

    def add_by_group(self, target: Any, g: Array, groups: Array, out: Array) -> None:
        """Add each place's g to its word's row of its group's table.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            groups: Number of each sample's group, `(n,)`.
            out: Sums, `(count, *target.tensor.shape)`.
        """
        if out.is_contiguous():
            self._table.add_by_group(target, g, groups, out)
        else:
            super().add_by_group(target, g, groups, out)

    def _same(self) -> Array:
        words = self._table.words
        return words[:, :, None] == words[:, None, :]


RECORDED_KINDS: dict[type[ParameterUse], Callable[[Any, Doubts], ParameterUse]] = {
    Linear: RecordedLinear,
    EmbeddingTable: RecordedTable,
    Convolution: lambda use, _: WholeRows(use),
    TransposedConvolution: lambda use, _: WholeRows(use),
    **dict.fromkeys((MaskedUse, NormedUse), lambda use, doubts: _remade(use, doubts)),
    **dict.fromkeys((Bilinear, SharedLookup, EinsumProduct, MaxEmbeddingBag), lambda use, _: WholeUse(use)),
}
"""How uses are recorded that are not recorded as they are."""


def as_recorded(use: ParameterUse, doubts: Doubts) -> ParameterUse:
    """Return a use as it is recorded."""
    return RECORDED_KINDS[type(use)](use, doubts) if type(use) in RECORDED_KINDS else RecordedUse(use)


def _remade(use: RemadeUse, doubts: Doubts) -> RecordedRemade:
    return RecordedRemade(use, doubts, lambda one: as_recorded(one, doubts))


def recording(consumer: GradientConsumer, doubts: Doubts) -> GradientConsumer:
    """Return a consumer that gets uses as they are recorded."""

    def arrived(use: ParameterUse, g: Array) -> None:
        consumer(as_recorded(use, doubts), g)

    return arrived


def _diagonal(products: Array) -> Array:
    return products.diagonal(dim1=1, dim2=2)
