"""Random projections of rows, added up use by use: of linear maps by small factors, of the rest by rows."""

from __future__ import annotations

import math

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.accumulators import rows_from_terms
from gradkernels.engines.hooks.accumulate.inner_products import UseTerm
from gradkernels.engines.hooks.accumulate.random_matrices import RandomMatrices
from gradkernels.engines.hooks.parameter_use import ALL_SAMPLES, ParameterTensor, ParameterUse
from gradkernels.engines.hooks.precision import row_matrix


class RowProjections:
    """Adds up the projections of the rows, `(n, size)`; several uses of a parameter add up as they are.

    Args:
        theta: Parameters by name.
        n: Number of samples.
        size: Dimensions of the projection.
        matrices: By which rows are multiplied.
    """

    def __init__(self, theta: dict[str, Array], n: int, size: int, matrices: RandomMatrices) -> None:
        self._theta, self._n, self._size, self._matrices = theta, n, size, matrices
        self._total: Array | None = None
        self._derived: list[UseTerm] = []
        self._single_steps: list[tuple[Array, Array]] = []

    def __call__(self, use: ParameterUse, g: Array) -> None:
        """Add the projections of the rows of a use's targets."""
        for place, target in use.targets.items():
            factors = self._factors(target)
            small = None if factors is None else use.projected_factors(place, g, *factors)
            if small is not None:
                self._add_steps(*small)
            elif target.direct:
                rows = target.tensor.detach().new_empty((len(g), *target.tensor.shape))
                use.write(place, g, rows, ALL_SAMPLES, add=False)
                self._add_rows(target.names[0], rows)
            else:
                self._derived.append((use, place, g))

    def _factors(self, target: ParameterTensor) -> tuple[Array, Array] | None:
        """Return the factors for a target that is a parameter, or the block of some of its rows; None for others."""
        found = self._matrices.factors(target.names[0]) if target.direct or target.block is not None else None
        if found is None or target.direct:
            return found
        (outputs, inputs), block, width = found, target.block, math.prod(self._theta[target.names[0]].shape[1:])
        if block is None or block.start % width or math.prod(target.tensor.shape[1:]) != width:
            return None
        return outputs[:, block.start // width : block.stop // width], inputs

    def finish(self) -> Array:
        """Return the projections `(n, size)`, once the backward pass is over."""
        names = {name for use, place, _ in self._derived for name in use.targets[place].names}
        for name, rows in rows_from_terms(self._derived, self._theta, names, self._n).items():
            self._add_rows(name, rows)
        if self._single_steps:
            self._add_products(*(torch.cat(factors, 1) for factors in zip(*self._single_steps, strict=True)))
        if self._total is not None:
            return self._total
        return row_matrix(next(iter(self._theta.values())).new_zeros((self._n, self._size)).detach())

    def _add_steps(self, rows: Array, columns: Array) -> None:
        """Add the sums over steps of the outer products of factors `(n, t, k)` and `(n, t, l)`."""
        if rows.shape[1] == 1:  # those of all layers together are as many steps
            self._single_steps.append((rows, columns))
        else:
            self._add_products(rows, columns)

    def _add_products(self, rows: Array, columns: Array) -> None:
        if self._total is not None and self._total.dtype is rows.dtype:
            self._total.view(-1, rows.shape[2], columns.shape[2]).baddbmm_(rows.mT, columns)
        else:
            self._add((rows.mT @ columns).flatten(1))

    def _add_rows(self, name: str, rows: Array) -> None:
        """Add the projections of rows of a parameter."""
        factors = self._matrices.factors(name)
        if factors is not None:
            outputs, inputs = factors
            self._add((outputs @ row_matrix(rows).view(len(rows), outputs.shape[1], -1) @ inputs.T).flatten(1))
            return
        flat, start = row_matrix(rows), 0
        for block in self._matrices.blocks(name):
            some = flat[:, start : (start := start + block.shape[1])]
            if self._total is not None and self._total.dtype is flat.dtype:
                self._total.addmm_(some, block.T)
            else:
                self._add(some @ block.T)

    def _add(self, projections: Array) -> None:
        """Add projections in memory of their own."""
        self._total = projections if self._total is None else self._total + projections
