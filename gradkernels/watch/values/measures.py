"""What is made of a step's gradients as they arrive: for each quantity an accumulator, its result and a summary.

Gradients arrive as the caller's loss weighs samples: 1/n of a sample's own where the loss is their mean. `factor` is
what they are multiplied with to be the sample's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.accumulators import RowMoments, RowWriter, SquaredNorms
from gradkernels.engines.hooks.accumulate.deviations import SquaredDeviations, inaccurate_variances
from gradkernels.engines.hooks.accumulate.products import RowGram, RowsAlong, SquaredNormsByParameter
from gradkernels.engines.hooks.accumulate.projections import RowProjections
from gradkernels.engines.hooks.accumulate.random_matrices import RandomMatrices
from gradkernels.engines.hooks.parameter_use import ParameterUse
from gradkernels.engines.hooks.quantities import beyond_range
from gradkernels.quantities.project import KIND, SEED, SIZE
from gradkernels.quantity import Moments
from gradkernels.watch.errors import CannotWatch

Term = tuple[ParameterUse, Array]
"""A use, and the gradient of its output."""


@dataclass(frozen=True)
class Arriving:
    """What is known when the first gradient of a backward pass arrives.

    Attributes:
        theta: Parameters by name.
        shared: Names of those with several uses.
        n: Number of samples.
    """

    theta: dict[str, Array]
    shared: frozenset[str]
    n: int

    @property
    def widest(self) -> torch.dtype:
        """The dtype of results that belong to no single parameter."""
        return max(self.theta.values(), key=torch.Tensor.element_size).dtype


@dataclass(frozen=True)
class Arrived:
    """What is known when all gradients have arrived.

    Attributes:
        factor: What gradients are multiplied with to be the samples' own.
        totals: What autograd gave for each parameter, by name.
        terms: All uses and gradients, where they were kept.
        length: Gives the length of a sample's gradient, as it arrives, by a pass of its own; None where it cannot.
    """

    factor: float
    totals: dict[str, Array]
    terms: Sequence[Term] = ()
    length: Callable[[int], float | None] = lambda i: None


class Measure:
    """One quantity of one backward pass, called with each use and gradient, which an accumulator may take."""

    keeps_terms = False
    keeps_totals = False

    def __init__(self, known: Arriving, options: Mapping[str, Any], accumulator: Any = None) -> None:
        self.known, self.options, self.accumulator = known, options, accumulator

    def __call__(self, use: ParameterUse, g: Array) -> None:
        """Take a gradient that has arrived."""
        if self.accumulator is not None:
            self.accumulator(use, g)

    def result(self, arrived: Arrived) -> Any:
        """Return the quantity of the samples' own gradients."""
        raise NotImplementedError


class NormsMeasure(Measure):
    """The norms `(n,)`; with `by` a dict of them."""

    def __init__(self, known: Arriving, options: Mapping[str, Any]) -> None:
        _require_known(known, [name for _, names in options.get("by") or () for name in names])
        kind = SquaredNormsByParameter if options.get("by") else SquaredNorms
        super().__init__(known, options, kind(known.theta, known.shared, known.n))

    def result(self, arrived: Arrived) -> Any:
        """Return roots of the sums."""
        squares, widest = self.accumulator.finish(), self.known.widest
        if not isinstance(squares, dict):
            norms = squares.sqrt().double()
            for i in beyond_range(squares).nonzero().flatten().tolist():  # as squares, not as lengths
                norms[i] = norms[i] if (length := arrived.length(i)) is None else length
            return (norms * arrived.factor).to(widest)
        groups = {group: sum(squares[name] for name in names) for group, names in self.options["by"]}
        return {group: (one.sqrt() * arrived.factor).to(widest) for group, one in groups.items()}


def _require_known(known: Arriving, names: Iterable[str]) -> None:
    if gone := [name for name in names if name not in known.theta]:
        raise CannotWatch(
            f"{', '.join(gone[:4])} was a trained parameter when gk.watch was called and is none now: make another "
            "watch once the model has changed"
        )


class GramMeasure(Measure):
    """The inner products of each two samples, `(n, n)`."""

    def __init__(self, known: Arriving, options: Mapping[str, Any]) -> None:
        super().__init__(known, options, RowGram(known.theta, known.shared, known.n))

    def result(self, arrived: Arrived) -> Array:
        """Return their sums."""
        return (self.accumulator.finish() * arrived.factor**2).to(self.known.widest)


class RowsMeasure(Measure):
    """The rows, `(n, *shape)` by name."""

    def __init__(self, known: Arriving, options: Mapping[str, Any]) -> None:
        memory = {name: one.detach().new_empty((known.n, *one.shape)) for name, one in known.theta.items()}
        super().__init__(known, options, RowWriter(known.theta, memory, known.shared))

    def result(self, arrived: Arrived) -> dict[str, Array]:
        """Return all rows."""
        return {name: rows.mul_(arrived.factor) for name, rows in self.accumulator.finish().items()}


class AlongMeasure(Measure):
    """The inner products with directions `v`, `(n,)`, or `(n, k)` for several."""

    def __init__(self, known: Arriving, options: Mapping[str, Any]) -> None:
        _require_known(known, options["v"])
        first = next(iter(known.theta))
        self._several = options["v"][first].ndim > known.theta[first].ndim
        directions = {name: options["v"][name].detach() for name in known.theta}
        several = directions if self._several else {name: one[None] for name, one in directions.items()}
        super().__init__(known, options, RowsAlong(known.theta, several, known.n))

    def result(self, arrived: Arrived) -> Array:
        """Return their sums."""
        found = (self.accumulator.finish() * arrived.factor).to(self.known.widest)
        return found if self._several else found[:, 0]


class ProjectMeasure(Measure):
    """Random projections, `(n, size)`."""

    def __init__(self, known: Arriving, options: Mapping[str, Any]) -> None:
        how = options.get("size", SIZE), options.get("seed", SEED), options.get("kind", KIND)
        super().__init__(known, options, RowProjections(known.theta, known.n, how[0], RandomMatrices(known.theta, how)))

    def result(self, arrived: Arrived) -> Array:
        """Return their sums."""
        return (self.accumulator.finish() * arrived.factor).to(self.known.widest)


class GradientMeasure(Measure):
    """The mean of the gradients, of theta's structure: what autograd gives."""

    keeps_totals = True

    def result(self, arrived: Arrived) -> dict[str, Array]:
        """Return autograd's own, as the mean; zeros where it gave none."""
        share = arrived.factor / self.known.n
        zeros = {name: torch.zeros_like(one) for name, one in self.known.theta.items() if name not in arrived.totals}
        of_all = zeros | {name: total * share for name, total in arrived.totals.items()}
        return {name: of_all[name].detach() for name in self.known.theta}


class MomentsMeasure(Measure):
    """Mean and variance, each of theta's structure."""

    keeps_terms = True

    def __init__(self, known: Arriving, options: Mapping[str, Any]) -> None:
        super().__init__(known, options, RowMoments(known.theta, known.shared, known.n))

    def result(self, arrived: Arrived) -> Moments[Any]:
        """Return mean and variance; from deviations where the squares of both are too much alike."""
        n, factor, theta = self.known.n, arrived.factor, self.known.theta
        totals, squares = self.accumulator.finish()
        mean = {name: total / n for name, total in totals.items()}
        if n == 1:
            variance = {name: one - one for name, one in mean.items()}
        else:
            variance = {name: (squares[name] / n - one**2).clamp_(min=0) for name, one in mean.items()}
        if n > 1 and (names := inaccurate_variances(mean, variance)):
            around = SquaredDeviations(theta, self.known.shared, n, mean, names)
            for use, g in arrived.terms:
                around(use, g)
            variance |= {name: total / n for name, total in around.finish().items()}
        return Moments(
            {name: (one * factor).to(theta[name].dtype) for name, one in mean.items()},
            {name: (one * factor**2).to(theta[name].dtype) for name, one in variance.items()},
        )


class NoiseScaleMeasure(Measure):
    """tr(Sigma) / |G|^2, a number (McCandlish et al. 2018, arXiv:1812.06162)."""

    keeps_totals = True

    def __init__(self, known: Arriving, options: Mapping[str, Any]) -> None:
        super().__init__(known, options, SquaredNorms(known.theta, known.shared, known.n))

    def result(self, arrived: Arrived) -> float:
        """Return the mean squared norm less the mean's, over the mean's; infinite where that is zero."""
        squares = float(self.accumulator.finish().double().sum())
        return noise_scale(self.known.n, squares, arrived.totals)


def noise_scale(n: int, squares: float, totals: Mapping[str, Array]) -> float:
    """Return tr(Sigma) / |G|^2 of n gradients, whatever both are multiplied with.

    Args:
        n: Number of gradients.
        squares: Sum of their squared norms.
        totals: Their sum, by parameter.
    """
    of_total = sum(float(one.double().square().sum()) for one in totals.values())
    return max(0.0, n * squares / of_total - 1) if of_total else float("inf")


MEASURES: dict[str, type[Measure]] = {
    "norms": NormsMeasure,
    "gram": GramMeasure,
    "per_sample": RowsMeasure,
    "gradient": GradientMeasure,
    "moments": MomentsMeasure,
    "noise_scale": NoiseScaleMeasure,
    "inner": AlongMeasure,
    "project": ProjectMeasure,
}
"""What may be watched, by name."""

AVERAGES = ("gradient", "moments", "noise_scale")
"""What no samples have none of."""

OPTIONS: dict[str, tuple[str, ...]] = {"norms": ("by",), "inner": ("v",), "project": ("size", "seed", "kind")}
"""Options of those that take some."""
