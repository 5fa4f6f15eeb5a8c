"""Squared norms of all layers' rows with few operations for each: products as they arrive, all the rest at once.

A layer of a small model is multiplied in less time than an operation takes to start. So of a linear map of few steps
only the products of steps are formed, and small rows are; squares, sums and the search for what cancels come once for
all layers. What has no short cut goes the way of the accumulators.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.accumulators import SquaredNorms
from gradkernels.engines.hooks.parameter_use import CANCELLATION, ParameterUse
from gradkernels.engines.hooks.precision import squared_row_norms, widen
from gradkernels.engines.hooks.rules.linear.linear import Linear
from gradkernels.engines.hooks.rules.materialized import MaterializedUse

STEP_PRODUCT_BYTES = 1 << 20
"""Of the products of a layer's steps: larger ones are squared at once, in tiles."""

KEPT_GRADIENT_BYTES = 1 << 24
"""Of gradients that are kept until it is known whether their terms cancel."""


class PairedSteps(NamedTuple):
    """The products of the steps of a linear map.

    Attributes:
        use: The linear map.
        g: Gradient of its output.
        of_rows: `(n, t * t)`.
        of_columns: `(n, t * t)`.
    """

    use: ParameterUse
    g: Array
    of_rows: Array
    of_columns: Array


class TogetherSquaredNorms:
    """Adds up the squared norms of the rows, `(n,)`, of all parameters.

    Args:
        theta: Parameters by name.
        shared: Those that have several uses.
        n: Number of samples.
    """

    def __init__(self, theta: dict[str, Array], shared: Iterable[str], n: int) -> None:
        self._others = SquaredNorms(theta, shared, n)
        self._total: Array | None = None
        self._pairs, self._small = list[PairedSteps](), list[Array]()
        self._inputs: dict[Any, tuple[Array, Array]] = {}
        self._bytes = 0

    def __call__(self, use: ParameterUse, g: Array) -> None:
        """Take what squared norms of a use's rows need."""
        alone, left = self._others.alone(use), list[Any]()
        for place in alone:
            if not (self._pair(use, place, g) or self._keep_small(use, place, g)):
                left.append(place)
        if left:
            self._others.add(use, g, left, {})
        if len(alone) < len(use.targets):
            self._others.keep((use, place, g) for place in use.targets if place not in alone)

    def _pair(self, use: ParameterUse, place: Any, g: Array) -> bool:
        """Form the products of steps, where these are fewer than what rows are made of."""
        if place != "weight" or type(use) is not Linear:
            return False
        rows, columns = use.factors(g)
        if rows.ndim != 3:
            return False
        (n, steps, o), i = rows.shape, columns.shape[2]
        if steps * (o + i) > o * i or n * steps**2 * rows.element_size() > STEP_PRODUCT_BYTES:
            return False
        self._pairs.append(PairedSteps(use, g, self._products(rows), self._products(columns)))
        self._bytes += g.nbytes
        if self._bytes > KEPT_GRADIENT_BYTES:
            self._square()
        return True

    def _products(self, steps: Array) -> Array:
        """Return the products of each two steps, of an input of several layers once."""
        key = steps.data_ptr(), steps.shape, steps.stride(), steps.dtype
        if key not in self._inputs:
            wide = widen(steps)
            self._inputs[key] = steps, (wide @ wide.mT).flatten(1)  # kept, so that no other has its address
        return self._inputs[key][1]

    def _keep_small(self, use: ParameterUse, place: Any, g: Array) -> bool:
        """Form rows that are smaller than the gradient, unless their norms follow from less."""
        if not (isinstance(use, MaterializedUse) or place == "bias") or (g.ndim == 2 and type(use) is Linear):
            return False
        rows = use.small_rows(place, g)
        if rows is not None:
            self._small.append(widen(rows).reshape(len(rows), -1))
        return rows is not None

    def _square(self) -> None:
        """Add the squared norms of what was paired, from rows where their terms cancel."""
        for steps in {one.of_rows.shape[1] for one in self._pairs}:
            of_steps = [one for one in self._pairs if one.of_rows.shape[1] == steps]
            for dtype in {one.of_rows.dtype for one in of_steps}:
                self._square_alike([one for one in of_steps if one.of_rows.dtype == dtype])
        self._pairs, self._inputs, self._bytes = [], {}, 0

    def _square_alike(self, pairs: list[PairedSteps]) -> None:
        of_rows, of_columns = (
            torch.stack([one.of_rows for one in pairs]),
            torch.stack([one.of_columns for one in pairs]),
        )
        every = slice(None, None, round(of_rows.shape[2] ** 0.5) + 1)  # a step with itself
        squares = torch.linalg.vecdot(of_rows, of_columns)
        of_terms = torch.linalg.vecdot(of_rows[..., every], of_columns[..., every])
        cancelled = squares < CANCELLATION * of_terms
        for layer in cancelled.any(1).nonzero().flatten().tolist():
            one = pairs[layer]
            one.use.replace_cancelled("weight", one.g, squares[layer], of_terms[layer])
        self._add(squares.sum(0))

    def finish(self) -> Array:
        """Return the squared norms `(n,)`, once the backward pass is over."""
        if self._pairs:
            self._square()
        for dtype in {one.dtype for one in self._small}:
            self._add(squared_row_norms(torch.cat([one for one in self._small if one.dtype == dtype], 1)))
        self._small = []
        others = self._others.finish()
        return others if self._total is None else others + self._total

    def _add(self, squares: Array) -> None:
        self._total = squares if self._total is None else self._total + squares
