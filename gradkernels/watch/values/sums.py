"""What is summed over a step's samples: mean, moments, noise scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from gradkernels.backend import Array
from gradkernels.engines.hooks.accumulate.deviations import RowMoments, SquaredDeviations, inaccurate_variances
from gradkernels.quantity import Moments
from gradkernels.watch.values.measure import Arrived, Arriving, Measure


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
    wants_squares = True

    def result(self, arrived: Arrived) -> float:
        """Return the mean squared norm less the mean's, over the mean's; infinite where that is zero."""
        assert arrived.squares is not None
        return noise_scale(self.known.n, float(arrived.squares.double().sum()), arrived.totals)


def noise_scale(n: int, squares: float, totals: Mapping[str, Array]) -> float:
    """Return tr(Sigma) / |G|^2 of n gradients, whatever both are multiplied with.

    Args:
        n: Number of gradients.
        squares: Sum of their squared norms.
        totals: Their sum, by parameter.
    """
    lengths = [torch.linalg.vector_norm(one, dtype=torch.float64) for one in totals.values()]
    of_total = float(torch.stack(lengths).square().sum()) if lengths else 0.0
    return max(0.0, n * squares / of_total - 1) if of_total else float("inf")
