"""Squared norms of all layers' rows with few operations for each: what arrives waits, and comes to all layers at once.

A layer of a small model is multiplied in less time than an operation takes to start. So linear maps of few steps wait
for each other (`step_products`), and so do normalizations of features, and small rows, which are squared in one. What
has no short cut goes the way of the accumulators, as it arrives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.accumulators import SquaredNorms
from gradkernels.engines.hooks.parameter_use import ParameterUse
from gradkernels.engines.hooks.precision import squared_row_norms, widen
from gradkernels.engines.hooks.rules.linear.linear import Linear
from gradkernels.engines.hooks.rules.materialized import MaterializedUse
from gradkernels.engines.hooks.rules.normalization import FeatureNormalization
from gradkernels.watch.values.step_products import StepsMap, squared_norms_of_maps, steps_map

KEPT_GRADIENT_BYTES = 1 << 24
"""Of gradients and products that wait."""

JOINED_BYTES = 1 << 19
"""Of the gradient of a normalization that waits for others: computing with a larger one takes longer than starting."""


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
        self._maps, self._small = list[StepsMap](), list[Array]()
        self._scaled = dict[tuple[Any, ...], list[tuple[FeatureNormalization, Array]]]()
        self._bytes = 0

    def __call__(self, use: ParameterUse, g: Array) -> None:
        """Take what squared norms of a use's rows need."""
        alone = self._others.alone(use)
        if len(alone) < len(use.targets):
            self._others.keep((use, place, g) for place in use.targets if place not in alone)
        if type(use) is Linear and (found := steps_map(use, alone, g)) is not None:
            self._maps.append(found)
            self._count(found.nbytes)
            return
        if type(use) is FeatureNormalization and g.nbytes <= JOINED_BYTES:
            self._wait(use, alone, g)
            return
        left = [place for place in alone if not self._keep_small(use, place, g)]
        if left:
            self._others.add(use, g, left, {})

    def _wait(self, use: FeatureNormalization, places: Sequence[Any], g: Array) -> None:
        """Have a normalization wait for others of its kind."""
        self._scaled.setdefault((use.kind, g.dtype, *places), []).append((use, g))
        self._count(2 * g.nbytes)

    def _count(self, nbytes: int) -> None:
        """Count what waits, and square it where that is enough."""
        self._bytes += nbytes
        if self._bytes > KEPT_GRADIENT_BYTES:
            self._square()

    def _keep_small(self, use: ParameterUse, place: Any, g: Array) -> bool:
        """Form rows that are smaller than the gradient, unless their norms follow from less."""
        if not (isinstance(use, MaterializedUse) or place == "bias") or (g.ndim == 2 and type(use) is Linear):
            return False
        rows = use.small_rows(place, g)
        if rows is not None:
            self._small.append(widen(rows).reshape(len(rows), -1))
        return rows is not None

    def _square(self) -> None:
        """Add the squared norms of the maps and normalizations that wait."""
        if self._maps:
            self._add(squared_norms_of_maps(self._maps))
        for (_, _, *places), terms in self._scaled.items():
            use, g = FeatureNormalization.joined([one for one, _ in terms]), torch.cat([g for _, g in terms])
            for place in places:
                self._add(use.squared_norms(place, g).view(len(terms), -1).sum(0))
        self._maps, self._scaled, self._bytes = [], {}, 0

    def finish(self) -> Array:
        """Return the squared norms `(n,)`, once the backward pass is over."""
        self._square()
        for dtype in {one.dtype for one in self._small}:
            self._add(squared_row_norms(torch.cat([one for one in self._small if one.dtype == dtype], 1)))
        self._small = []
        others = self._others.finish()
        return others if self._total is None else others + self._total

    def add(self, squares: Array) -> None:
        """Add squared norms `(n,)` of rows that are not asked for otherwise."""
        self._add(squares)

    def _add(self, squares: Array) -> None:
        self._total = squares if self._total is None else self._total + squares
