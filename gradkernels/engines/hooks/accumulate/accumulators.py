"""Accumulators: called with gradients as they arrive, they make rows, norms, or sums of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate import inner_products
from gradkernels.engines.hooks.accumulate.inner_products import Complete, UseTerm
from gradkernels.engines.hooks.accumulate.merging import WaitingMaps, merged
from gradkernels.engines.hooks.accumulate.pulling import pull
from gradkernels.engines.hooks.accumulate.row_memory import RowMemory
from gradkernels.engines.hooks.accumulate.single_uses import SingleUses
from gradkernels.engines.hooks.parameter_use import ParameterTensor, ParameterUse
from gradkernels.engines.hooks.precision import (
    in_units,
    squared_row_norms,
    sum_dtype,
    times_weights,
    widen,
)


class RowWriter:
    """Writes the per-sample gradients of some parameters into memory.

    Args:
        theta: Parameters by name.
        out: `(n, *parameter.shape)` by name; what is not in it is left out.
        shared: Parameters that are known to have several uses.
    """

    def __init__(self, theta: dict[str, Array], out: dict[str, Array], shared: Iterable[str] = ()) -> None:
        self._theta, self._waiting = theta, WaitingMaps(shared)
        self._filled = RowMemory(out)
        self._derived: list[UseTerm] = []

    def __call__(self, use: ParameterUse, g: Array) -> None:
        """Write the rows of a use's targets from the gradient of its output; of maps that are used again later."""
        for place, target in use.targets.items():
            if not self._waiting.keep(use, place, g):
                for term in (*self._waiting.taken(target.names), (use, place, g)):
                    self.take(*term)

    def take(self, use: ParameterUse, place: Any, g: Array) -> None:
        """Write the rows of one target.

        Args:
            use: The use.
            place: Key of the target.
            g: Gradient of the use's output, samples first.
        """
        target, everybody = use.targets[place], slice(0, len(g))
        if self._filled.takes(target):
            rows, add = self._filled.place(target)
            use.write(place, g, rows, everybody, add)
        else:
            self._derived.append((use, place, g))

    def finish(self) -> dict[str, Array]:
        """Return all rows, once the backward pass is over."""
        for term in self._waiting.taken():
            self.take(*term)
        for term in self._derived:
            pull(term, self._theta, self._filled)
        return self._filled.finish()


def rows_from_terms(
    terms: Iterable[UseTerm], theta: dict[str, Array], names: Iterable[str], n: int
) -> dict[str, Array]:
    """Return the rows of some parameters, from all of their uses.

    Args:
        terms: The uses, targets and gradients.
        theta: Parameters by name.
        names: Of the parameters.
        n: Number of samples.

    Returns:
        `(n, *parameter.shape)` by name.
    """
    rows = RowWriter(theta, {name: theta[name].detach().new_empty((n, *theta[name].shape)) for name in names})
    for use, place, g in merged(list(terms)):
        rows.take(use, place, g)
    return rows.finish()


class SquaredNorms:
    """Adds up the squared norms of the rows, `(n,)`, without rows of parameters that have one use.

    Args:
        theta: Parameters by name.
        shared: Those that have several uses.
        n: Number of samples.
        products: What completes those that follow from inner products of their uses; None where none may.
    """

    def __init__(
        self, theta: dict[str, Array], shared: Iterable[str], n: int,
        products: Complete | None = inner_products.replace_cancelled,
    ) -> None:  # fmt: skip
        self._theta, self._n, self._products = theta, n, products
        self._total: Array | None = None
        self._single, self._terms = SingleUses(shared), list[UseTerm]()

    def __call__(self, use: ParameterUse, g: Array) -> None:
        """Add the squared norms of the rows of a use's targets."""
        self.add(use, g, alone := self.alone(use), {})
        self.keep((use, place, g) for place in use.targets if place not in alone)

    def alone(self, use: ParameterUse) -> list[Any]:
        """Return the targets whose parameter has no other use; to be asked once for each use."""
        return [place for place, target in use.targets.items() if self._single(target)]

    def add(self, use: ParameterUse, g: Array, alone: Sequence[Any], formed: Mapping[Any, Array]) -> None:
        """Add the squared norms of the rows of targets whose parameter has no other use.

        Args:
            use: The use.
            g: Gradient of its output, `(n, ...)`.
            alone: The targets.
            formed: Rows of some of them.
        """
        for rows in formed.values():
            self._add(squared_row_norms(rows))
        if others := [place for place in alone if place not in formed]:
            self._add(use.joint_squared_norms(others, g))

    def keep(self, terms: Iterable[UseTerm]) -> None:
        """Keep uses, targets and gradients of parameters with several uses."""
        self._terms += terms

    def of_shared(self) -> dict[str, Array]:
        """Return the squared norms of parameters with several uses by name, once the backward pass is over."""
        self._single.require()
        terms, left, found = merged(self._terms), set[str](), dict[str, Array]()
        for name in sorted(self._single.shared):
            mine = [term for term in terms if name in term[0].targets[term[1]].names]
            squares = inner_products.squared_norms_without_rows(mine, self._products)
            if squares is None:
                left.add(name)
            else:
                found[name] = squares
                terms = [term for term in terms if not any(term is one for one in mine)]
        rows = rows_from_terms(terms, self._theta, left, self._n)
        return found | {name: squared_row_norms(one) for name, one in rows.items()}

    def finish(self) -> Array:
        """Return the squared norms `(n,)`, once the backward pass is over."""
        for squares in self.of_shared().values():
            self._add(squares)
        first = next(iter(self._theta.values()))
        return widen(first.new_zeros(self._n).detach()) if self._total is None else self._total

    def _add(self, squares: Array) -> None:
        self._total = squares if self._total is None else self._total + squares


class RowSums:
    """Adds up the rows of some parameters, each weighted.

    Args:
        theta: Those parameters, by name.
        weights: Of the samples, `(n,)`; one each where there are none.
    """

    def __init__(self, theta: dict[str, Array], weights: Array | None = None) -> None:
        self._theta, self._totals = theta, dict[str, Array]()
        self._weights, self._unit = in_units(weights, theta.values())
        self._derived: list[tuple[ParameterTensor, Array]] = []

    def __call__(self, use: ParameterUse, g: Array) -> None:
        """Add the sums of the rows of a use's targets."""
        self.add(use, use.targets, g)

    def add(self, use: ParameterUse, places: Iterable[Any], g: Array) -> None:
        """Add the sums of the rows of some of a use's targets.

        Args:
            use: The use.
            places: Keys of the targets.
            g: Gradient of its output, `(n, ...)`.
        """
        weights, places = self._weights, [*places]
        if weights is not None and len(places) == 1:
            self.add_total(use.targets[places[0]], use.weighted_total(places[0], g, weights))
            return
        g = g if weights is None else times_weights(g, weights)
        for place in places:
            self.add_total(use.targets[place], use.total(place, g))

    def add_rows(self, target: ParameterTensor, rows: Array) -> None:
        """Add the weighted sum of a target's rows, `(n, *target.tensor.shape)`."""
        assert self._weights is not None
        wide = widen(rows).reshape(len(rows), target.tensor.numel())
        self.add_total(target, (self._weights.to(wide.dtype) @ wide).view(target.tensor.shape))

    def add_total(self, target: ParameterTensor, total: Array) -> None:
        """Add the sum of a target's rows, memory of its own."""
        name, block = target.names[0], target.block
        if target.direct and name not in self._totals:
            self._totals[name] = total.to(sum_dtype(self._theta[name].dtype))
        elif target.direct:
            self._totals[name] += total
        elif block is None:
            self._derived.append((target, total))
        else:
            self._total(name).view(-1)[block.start : block.stop] += total.flatten()

    def _total(self, name: str) -> Array:
        """Return the sum so far of a parameter, zeros at first."""
        if name not in self._totals:
            self._totals[name] = widen(torch.zeros_like(self._theta[name]).detach())
        return self._totals[name]

    def finish(self) -> dict[str, Array]:
        """Return the sums by name, once the backward pass is over."""
        for target, total in self._derived:
            names = [name for name in target.names if name in self._theta]
            of, total = [self._theta[name] for name in names], total.to(target.tensor.dtype)
            parts = torch.autograd.grad(
                target.tensor, of, total, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            for name, part in zip(names, parts, strict=True):
                self._total(name).add_(part)
        totals = {name: self._total(name) for name in self._theta}
        return totals if self._unit is None else {name: one * self._unit for name, one in totals.items()}
