"""Sums of a step's samples by weights or groups that the caller gives for the batch: of gradients, and of products."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.accumulators import RowWriter
from gradkernels.engines.hooks.accumulate.pieces import bytes_of_row, pieces_of, rows_of_piece
from gradkernels.engines.hooks.accumulate.weighted_sums import GroupSums, SeveralRowSums, zero_sums
from gradkernels.engines.hooks.precision import row_matrix
from gradkernels.quantities.group_sums import GROUP_SUMS
from gradkernels.quantities.outer import OUTER
from gradkernels.quantities.weighted_sum import WEIGHTED_SUM
from gradkernels.quantity import Quantity
from gradkernels.watch.values.measure import ROOM_OF_ROWS, Arrived, Arriving, Measure


def options_of_batch(quantity: Quantity, given: Mapping[str, Any], known: Arriving) -> dict[str, Any]:
    """Return a quantity's options for the batch at hand, checked as `gk`'s own function does.

    Args:
        quantity: Whose they are.
        given: Values, or functions without arguments that give them at each backward pass.
        known: Parameters and the number of samples.

    Raises:
        TypeError: A value of another kind.
        ValueError: One that does not fit the batch.
    """
    now = {name: value() if callable(value) else value for name, value in given.items()}
    checks = {one.name: one.checked for one in quantity.options}
    found = {name: checks[name](value, known.n, known.theta) for name, value in now.items() if value is not None}
    if quantity.agree is not None:
        quantity.agree(found)
    return found


class WeightedSumMeasure(Measure):
    """The sum of the gradients, each times its weight, of theta's structure; K of them for weights `(n, K)`."""

    def __init__(self, known: Arriving, options: Mapping[str, Any]) -> None:
        weights = options_of_batch(WEIGHTED_SUM, options, known)["weights"]
        self._several = weights.ndim > 1
        each = weights.detach() if self._several else weights.detach()[:, None]
        super().__init__(known, options, SeveralRowSums(known.theta, each))

    def result(self, arrived: Arrived) -> dict[str, Array]:
        """Return the sums."""
        found = _own(self.accumulator.finish(), self.known, arrived.factor)
        return found if self._several else {name: one[0] for name, one in found.items()}


class GroupSumsMeasure(Measure):
    """The sums of the gradients by group, of theta's structure with `count` leading."""

    def __init__(self, known: Arriving, options: Mapping[str, Any]) -> None:
        found = options_of_batch(GROUP_SUMS, options, known)
        groups = _on_device(found["groups"], known)
        super().__init__(known, options, GroupSums(known.theta, groups, zero_sums(known.theta, found["count"])))

    def result(self, arrived: Arrived) -> dict[str, Array]:
        """Return the sums."""
        return _own(self.accumulator.finish(), self.known, arrived.factor)


class OuterMeasure(Measure):
    """The sum of the gradients' outer products `(P, P)`; with groups, of those of their sums by group."""

    def __init__(self, known: Arriving, options: Mapping[str, Any]) -> None:
        own = {name: one for name, one in options.items() if name != ROOM_OF_ROWS}
        groups = options_of_batch(OUTER, own, known).get("groups")
        self._groups = None if groups is None else _on_device(groups, known)
        self._each = 2 * sum(map(bytes_of_row, known.theta.values()))  # apart, and side by side
        self.keeps_terms = ROOM_OF_ROWS in options and known.n * self._each > options[ROOM_OF_ROWS]
        if self.keeps_terms:
            super().__init__(known, options)
            return
        memory = {name: one.detach().new_empty((known.n, *one.shape)) for name, one in known.theta.items()}
        super().__init__(known, options, RowWriter(known.theta, memory, known.shared))

    def result(self, arrived: Arrived) -> Array:
        """Return the sum, with the parameters in the order of their names in the model."""
        if self.keeps_terms:
            return self._in_pieces(arrived)
        found = self.accumulator.finish()
        parts = [row_matrix(found[name].reshape(self.known.n, one.numel())) for name, one in self.known.theta.items()]
        rows = torch.cat(parts, 1)
        if self._groups is not None:
            rows = torch.zeros_like(rows).index_add_(0, self._groups, rows)
        return (rows.mT @ rows).mul_(arrived.factor**2).to(self.known.widest)

    def _in_pieces(self, arrived: Arrived) -> Array:
        """Return the sum of the sums over pieces of the samples, whose rows are side by side and apart."""
        theta, found = self.known.theta, None
        terms = [(use, place, g) for use, g in arrived.terms for place in use.targets]
        for at in pieces_of(self.known.n, self.options[ROOM_OF_ROWS] // self._each):
            rows = torch.cat([*rows_of_piece(terms, theta, theta, at).values()], 1)
            found = rows.mT @ rows if found is None else found.addmm_(rows.mT, rows)
        assert found is not None
        return found.mul_(arrived.factor**2).to(self.known.widest)


def _own(sums: Mapping[str, Array], known: Arriving, factor: float) -> dict[str, Array]:
    return {name: (sums[name] * factor).to(one.dtype) for name, one in known.theta.items()}


def _on_device(groups: Any, known: Arriving) -> Array:
    return torch.as_tensor(groups, dtype=torch.int64, device=next(iter(known.theta.values())).device)
