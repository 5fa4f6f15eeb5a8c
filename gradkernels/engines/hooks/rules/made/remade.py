"""Weights that are made of parameters entry by entry: those that are multiplied by a factor.

A layer's use of such a weight is one of the parameters behind it: what their rows are follows from the rows G of the
weight, and norms and sums as a rule without any rows. Of P m, for a factor m that is the same for all samples
(DropConnect, Wan et al. 2013; pruning; masked layers), they are G m.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.parameter_use import ROW_BLOCK_BYTES, ParameterTensor, ParameterUse
from gradkernels.engines.hooks.precision import widen
from gradkernels.engines.hooks.rules.blocks import blocks, write_or_add
from gradkernels.engines.hooks.rules.linear.linear import Linear


class RemadeUse(ParameterUse):
    """A use of a made weight, whose targets are the parameters behind it; of all else it is the use.

    Args:
        use: Of the weight.
        place: Key of the weight.
        parameters: Behind it, by keys of their own.

    Attributes:
        use: Of the weight.
        place: Key of the weight.
        behind: Keys of the parameters.
    """

    def __init__(self, use: ParameterUse, place: Any, parameters: Mapping[Any, ParameterTensor]) -> None:
        self.use, self.place, self.behind = use, place, frozenset(parameters)
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
        if target not in self.behind:
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
        return super().squared_norms(target, g) if target in self.behind else self.use.squared_norms(target, g)

    def small_rows(self, target: Any, g: Array) -> Array | None:
        """Return the rows where the use does; None of what is remade."""
        return None if target in self.behind else self.use.small_rows(target, g)

    def total(self, target: Any, g: Array) -> Array:
        """Return the sum of the rows: that of the weight's rows, remade."""
        if target not in self.behind:
            return self.use.total(target, g)
        return self.remake_total(target, self.use.total(self.place, g))

    @abstractmethod
    def remake_total(self, target: Any, total: Array) -> Array:
        """Return the sum of the rows of a parameter from that of the weight's."""

    def total_of_squares(self, target: Any, g: Array) -> Array:
        """Return the sum of the squared rows."""
        return super().total_of_squares(target, g) if target in self.behind else self.use.total_of_squares(target, g)

    def total_of_squared_deviations(self, target: Any, g: Array, mean: Array) -> Array:
        """Return the sum of the squares of the rows less `mean`.

        Args:
            target: Key of the target.
            g: Gradient of the output, `(n, ...)`.
            mean: Of the rows, of the target's shape.
        """
        if target in self.behind:
            return super().total_of_squared_deviations(target, g, mean)
        return self.use.total_of_squared_deviations(target, g, mean)

    def norms_by_factors(self, target: Any, g: Array) -> tuple[Array, Array | None] | None:
        """Return squared norms of a parameter's rows without rows, and of the terms that they are sums of, if several.

        None where rows are needed for them.
        """
        return None

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
        """Return the squared norms, without rows where they follow from factors."""
        found = self.norms_by_factors(target, g)
        return super().squared_norms(target, g) if found is None else found[0]

    def norms_by_factors(self, target: Any, g: Array) -> tuple[Array, Array | None] | None:
        """Return sum r_o^2 m_oi^2 c_i^2 of a linear map with one step."""
        if target != self.place or (factors := self.outer_factors(g)) is None:
            return None
        rows, columns = factors
        squares = widen(self._factor).square().expand(rows.shape[1], columns.shape[1])
        return torch.linalg.vecdot(rows.square() @ squares, columns.square()), None

    def total_of_squares(self, target: Any, g: Array) -> Array:
        """Return the sum of the squared rows, that of the weight's times m^2."""
        if target != self.place:
            return self.use.total_of_squares(target, g)
        return self.use.total_of_squares(target, g) * widen(self._factor).square()
