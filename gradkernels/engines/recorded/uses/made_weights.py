"""Uses of made weights as they are recorded: norms by algebra, which marks where its terms cancel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradkernels.backend import Array
from gradkernels.engines.hooks.parameter_use import ParameterUse
from gradkernels.engines.hooks.rules.made.remade import RemadeUse
from gradkernels.engines.recorded.uses.doubts import Doubts
from gradkernels.engines.recorded.uses.whole_uses import WholeUse


class RecordedRemade(WholeUse):
    """A use of a masked weight, or one with weight norm.

    Args:
        use: It.
        doubts: Of the recording.
        recorded: Gives the use of the weight as it is recorded.
    """

    def __init__(self, use: RemadeUse, doubts: Doubts, recorded: Callable[[ParameterUse], ParameterUse]) -> None:
        super().__init__(use)
        self._remade, self._doubts, self._recorded = use, doubts, recorded

    def squared_norms(self, target: Any, g: Array) -> Array:
        """Return the squared norms of the rows: of a linear map with one step by its factors."""
        if target not in self._remade.behind:
            return self._recorded(self._remade.use).squared_norms(target, g)
        found = self._remade.norms_by_factors(target, g)
        if found is None:
            return super().squared_norms(target, g)
        squares, of_terms = found
        return squares if of_terms is None else self._doubts.of_terms(squares, of_terms)
