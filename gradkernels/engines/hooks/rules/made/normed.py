"""Weights with weight norm, g v / |v| for each row of v (Salimans & Kingma 2016, arXiv:1602.07868).

With u = v / |v|, rows G of the weight are G.u for g, and (g / |v|) (G - (G.u) u) for v.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.parameter_use import ALL_SAMPLES, CANCELLATION, ParameterUse
from gradkernels.engines.hooks.precision import squared_row_norms, widen
from gradkernels.engines.hooks.rules.blocks import write_or_add
from gradkernels.engines.hooks.rules.linear.linear import Linear
from gradkernels.engines.hooks.rules.made.remade import RemadeUse

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

    def norms_by_factors(self, target: Any, g: Array) -> tuple[Array, Array | None] | None:
        """Return sum (g / |v|)^2 (r^2 |c|^2 - (G.u)^2) over the rows of a linear map with one step, for g (G.u)^2."""
        dots = None if target not in self.behind else self._dots(g)
        if dots is None:
            return None
        if target != self.place:
            return squared_row_norms(dots), None
        factors = self.outer_factors(g)
        if factors is None or factors[1].shape[1] == 1:  # of one column nothing is left, in any digits
            return None
        scales, (rows, columns) = widen(self._scale).square().view(1, -1), factors
        of_terms = (rows.square() * scales).sum(1) * columns.square().sum(1)
        return of_terms - (widen(dots[:, :, 0]).square() * scales).sum(1), of_terms

    def squared_norms(self, target: Any, g: Array) -> Array:
        """Return the squared norms, without rows where they follow from factors and do not cancel in many samples."""
        squares, of_terms = self.norms_by_factors(target, g) or (None, None)
        if squares is None:
            return super().squared_norms(target, g)
        if of_terms is None:
            return squares
        if int((squares < CANCELLATION * of_terms).sum()) > MOST_CANCELLED:
            return super().squared_norms(target, g)
        return self.replace_cancelled(target, g, squares, of_terms)
