"""Weights that are made of parameters entry by entry, or row by row: masked ones, and those with weight norm.

A layer's use of such a weight is one of the parameters behind it: what their rows are follows from the rows G of the
weight, and norms and sums as a rule without any rows.

- P m, for a factor m that is the same for all samples (DropConnect, Wan et al. 2013; pruning; masked layers): G m.
- g v / |v|, for each row of v (Salimans & Kingma 2016, arXiv:1602.07868): with u = v / |v|, G.u for g, and
  (g / |v|) (G - (G.u) u) for v.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.parameter_use import (
    ALL_SAMPLES,
    CANCELLATION,
    ROW_BLOCK_BYTES,
    ParameterTensor,
    ParameterUse,
)
from gradkernels.engines.hooks.precision import widen
from gradkernels.engines.hooks.rules.blocks import blocks, write_or_add
from gradkernels.engines.hooks.rules.linear.linear import Linear


class RemadeUse(ParameterUse):
    """A use of a made weight, whose targets are the parameters behind it; of all else it is the use.

    Args:
        use: Of the weight.
        place: Key of the weight.
        parameters: Behind it, by keys of their own.
    """

    def __init__(self, use: ParameterUse, place: Any, parameters: Mapping[Any, ParameterTensor]) -> None:
        self.use, self.place, self._behind = use, place, frozenset(parameters)
        self.targets = {key: target for key, target in use.targets.items() if key != place} | dict(parameters)

    @abstractmethod
    def remake(self, target: Any, g: Array, rows: Array, at: slice) -> Array:
        """Return rows of a parameter, `(n, *shape)`, from those of the weight, which may be written over.

        Args:
            target: Key of the parameter.
            g: Gradient of the output, for all samples.
            rows: Of the weight, of samples `at`.
            at: Which samples.
        """

    def write(self, target: Any, g: Array, out: Array, at: slice, add: bool) -> None:
        """Write rows as the use does, or remade, as many at a time as a core's cache holds.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            out: Memory for the rows of samples `at`.
            at: Which samples.
            add: Whether to add to what is there.
        """
        if target not in self._behind:
            self.use.write(target, g, out, at, add)
            return
        weight, first = self.use.targets[self.place].tensor, at.start or 0
        in_place = not add and weight.shape == self.targets[target].tensor.shape
        for some in blocks(len(out), ROW_BLOCK_BYTES // max(1, weight.nbytes)):
            part = out[some]
            rows = part if in_place else part.new_empty((len(part), *weight.shape))
            start = first + (some.start or 0)
            of = slice(start, start + len(part))
            self.use.write(self.place, g, rows, of, add=False)
            made = self.remake(target, g, rows, of)
            if made is not part:
                write_or_add(part, made, add)

    def squared_norms(self, target: Any, g: Array) -> Array:
        """Return the squared norms of the rows."""
        return super().squared_norms(target, g) if target in self._behind else self.use.squared_norms(target, g)

    def small_rows(self, target: Any, g: Array) -> Array | None:
        """Return the rows where the use does; None of what is remade."""
        return None if target in self._behind else self.use.small_rows(target, g)

    def total(self, target: Any, g: Array) -> Array:
        """Return the sum of the rows: that of the weight's rows, remade."""
        if target not in self._behind:
            return self.use.total(target, g)
        return self.remake_total(target, self.use.total(self.place, g))

    @abstractmethod
    def remake_total(self, target: Any, total: Array) -> Array:
        """Return the sum of the rows of a parameter from that of the weight's."""

    def total_of_squares(self, target: Any, g: Array) -> Array:
        """Return the sum of the squared rows."""
        return super().total_of_squares(target, g) if target in self._behind else self.use.total_of_squares(target, g)

    def total_of_squared_deviations(self, target: Any, g: Array, mean: Array) -> Array:
        """Return the sum of the squares of the rows less `mean`.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            mean: Of the rows, of the target's shape.
        """
        if target in self._behind:
            return super().total_of_squared_deviations(target, g, mean)
        return self.use.total_of_squared_deviations(target, g, mean)

    def outer_factors(self, g: Array) -> tuple[Array, Array] | None:
        """Return the factors `(n, o)` and `(n, i)` whose products are the weight's rows; None where they are others."""
        if not isinstance(self.use, Linear):
            return None
        rows, columns = self.use.factors(g)
        return (widen(rows), widen(columns)) if rows.ndim == 2 else None


class MaskedUse(RemadeUse):
    """A use of P m.

    Args:
        use: Of the weight.
        place: Key of the weight.
        parameter: P.
        factor: m, of its shape or without axes.
    """

    def __init__(self, use: ParameterUse, place: Any, parameter: ParameterTensor, factor: Array) -> None:
        super().__init__(use, place, {place: parameter})
        self._factor = factor

    def remake(self, target: Any, g: Array, rows: Array, at: slice) -> Array:
        """Multiply rows by the factor, in place.

        Args:
            target: Key of the parameter.
            g: Not needed.
            rows: Of the weight, of samples `at`.
            at: Which samples.
        """
        return rows.mul_(self._factor)

    def remake_total(self, target: Any, total: Array) -> Array:
        """Multiply the sum by the factor."""
        return total * self._factor

    def squared_norms(self, target: Any, g: Array) -> Array:
        """Return the squared norms; of a linear map with one step sum r_o^2 m_oi^2 c_i^2."""
        if target != self.place or (factors := self.outer_factors(g)) is None:
            return super().squared_norms(target, g)
        rows, columns = factors
        squares = widen(self._factor).square().expand(rows.shape[1], columns.shape[1])
        return torch.linalg.vecdot(rows.square() @ squares, columns.square())

    def total_of_squares(self, target: Any, g: Array) -> Array:
        """Return the sum of the squared rows, that of the weight's times m^2."""
        if target != self.place:
            return self.use.total_of_squares(target, g)
        return self.use.total_of_squares(target, g) * widen(self._factor).square()


MOST_CANCELLED = 16
"""Samples whose rows are formed one by one; where more of them cancel, rows of all are."""
LENGTH = "length"
"""Key of g, beside the weight's own, which is that of v."""


class NormedUse(RemadeUse):
    """A use of g v / |v|.

    Args:
        use: Of the weight.
        place: Key of the weight.
        parts: v and g.
        parameters: Those of them that are trained; None for what is not.
        dims: Axes that a length is taken over.
    """

    def __init__(
        self, use: ParameterUse, place: Any, parts: Sequence[Array], parameters: Sequence[Any], dims: tuple[int, ...]
    ) -> None:
        keyed = {place: parameters[0], (place, LENGTH): parameters[1]}
        super().__init__(use, place, {key: one for key, one in keyed.items() if one is not None})
        v, g = (one.detach() for one in parts)
        norms = torch.linalg.vector_norm(v, dim=dims, keepdim=True)
        self._unit, self._scale, self._dims = v / norms, g.view_as(norms) / norms, tuple(dim + 1 for dim in dims)

    def _dots(self, g: Array, at: slice = ALL_SAMPLES) -> Array | None:
        """Return G.u of samples `at`, `(n, o, 1)`, of a linear map with lengths of its rows; None elsewhere."""
        if not isinstance(self.use, Linear) or self._dims != (2,):
            return None
        rows, columns = (factor[at] for factor in self.use.factors(g))
        products = rows * (columns @ self._unit.mT)
        return (products if rows.ndim == 2 else products.sum(1))[:, :, None]

    def remake(self, target: Any, g: Array, rows: Array, at: slice) -> Array:
        """Return G.u, or (g / |v|) (G - (G.u) u) in place.

        Args:
            target: Key of the parameter.
            g: Gradient of the output, for all samples.
            rows: Of the weight, of samples `at`.
            at: Which samples.
        """
        known = self._dots(g, at)
        dots = (rows * self._unit).sum(self._dims, keepdim=True) if known is None else known
        if target == self.place:
            return rows.addcmul_(dots, self._unit, value=-1).mul_(self._scale)
        return dots.reshape(len(dots), *self.targets[target].tensor.shape)

    def remake_total(self, target: Any, total: Array) -> Array:
        """Return the same of the sum of the weight's rows."""
        dots = (total * self._unit).sum([dim - 1 for dim in self._dims], keepdim=True)
        if target == self.place:
            return (total - dots * self._unit) * self._scale
        return dots.view(self.targets[target].tensor.shape)

    def write(self, target: Any, g: Array, out: Array, at: slice, add: bool) -> None:
        """Write rows; those of the lengths without the weight's where these are not needed.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            out: Memory for the rows of samples `at`.
            at: Which samples.
            add: Whether to add to what is there.
        """
        dots = self._dots(g, at) if target == (self.place, LENGTH) else None
        if dots is None:
            super().write(target, g, out, at, add)
        else:
            write_or_add(out, dots.reshape(out.shape), add)

    def squared_norms(self, target: Any, g: Array) -> Array:
        """Return the squared norms; of a linear map with one step sum (g / |v|)^2 (r^2 |c|^2 - (G.u)^2) over rows."""
        factors, dots = self.outer_factors(g), self._dots(g)
        if factors is None or dots is None or target != self.place:
            return super().squared_norms(target, g)
        scales, (rows, columns) = widen(self._scale).square().view(1, -1), factors
        of_terms = (rows.square() * scales).sum(1) * columns.square().sum(1)
        squares = of_terms - (widen(dots[:, :, 0]).square() * scales).sum(1)
        if int((squares < CANCELLATION * of_terms).sum()) > MOST_CANCELLED:
            return super().squared_norms(target, g)
        return self.replace_cancelled(target, g, squares, of_terms)
