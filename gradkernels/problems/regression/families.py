"""The regressions, each defined once: the loss of a sample for what differentiates, its slope for closed forms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradkernels.backend import Array
from gradkernels.elementwise import Namespace
from gradkernels.problems.regression.regression import Regression
from gradkernels.problems.regression.scalar import ScalarRegression
from gradkernels.problems.regression.settings import finite_number
from gradkernels.problems.regression.softmax import SoftmaxRegression
from gradkernels.truth import Floats

LARGEST_LOG_RATE = 5.0  # drawn counts stay small


@dataclass(frozen=True, kw_only=True)
class LinearRegression(ScalarRegression):
    """Squared error (eta - y)^2, without the one-half."""

    family: ClassVar[str] = "linear"

    def loss_of(self, xp: Namespace, eta: Array, y: Array) -> Array:
        """Compute (eta - y)^2.

        Args:
            xp: Functions of the arrays' library.
            eta: Predictor of each sample.
            y: Target of each sample.
        """
        return (eta - y) ** 2

    def slope(self, xp: Namespace, eta: Array, y: Array) -> Array:
        """Compute 2 (eta - y).

        Args:
            xp: Functions of the arrays' library.
            eta: Predictor of each sample.
            y: Target of each sample.
        """
        return 2 * (eta - y)

    def point_of_small_slope(self, size: float) -> tuple[float, float]:
        """Return a residual of that size."""
        return 0.0, size


@dataclass(frozen=True, kw_only=True)
class LogisticRegression(ScalarRegression):
    """log(1 + e^eta) - y eta, with y in [0, 1]."""

    family: ClassVar[str] = "logistic"

    def loss_of(self, xp: Namespace, eta: Array, y: Array) -> Array:
        """Compute log(1 + e^-|eta|) + ([eta > 0] - y) eta, in which nothing overflows; a half at 0 keeps it smooth.

        In the tails nothing is left of a derivative but that of the first term, which must not be added to others.

        Args:
            xp: Functions of the arrays' library.
            eta: Predictor of each sample.
            y: Target of each sample, in [0, 1].
        """
        sign = xp.sign(eta)  # whose product with eta has the derivative 0 at 0, which |eta| has not in every library
        return xp.log1p(xp.exp(-sign * eta)) + ((1 + sign) / 2 - y) * eta

    def slope(self, xp: Namespace, eta: Array, y: Array) -> Array:
        """Compute (1 - y) sigma(eta) - y sigma(-eta), exact in both tails, where sigma(eta) - y would cancel.

        Args:
            xp: Functions of the arrays' library.
            eta: Predictor of each sample.
            y: Target of each sample, in [0, 1].
        """
        tail = xp.exp(-xp.abs(eta))
        above = eta >= 0
        return (xp.where(above, 1.0, tail) * (1 - y) - xp.where(above, tail, 1.0) * y) / (1 + tail)

    def draw_target(self, rng: np.random.Generator, eta: Floats) -> Floats:
        """Draw 1 with probability sigma(eta), else 0."""
        return (rng.logistic(size=eta.shape) < eta).astype(float)

    def misfit(self, target: Floats) -> str:
        """Refuse what is no probability."""
        if ((target >= 0) & (target <= 1)).all():
            return ""
        hint = " (for labels -1 and 1 pass (y + 1) / 2)" if np.isin(target, (-1, 1)).all() else ""
        return f"targets must lie in [0, 1]{hint}"

    @property
    def span(self) -> tuple[float, float]:
        """Probabilities."""
        return 0, 1

    def point_of_small_slope(self, size: float) -> tuple[float, float]:
        """Return a point in the tail of e^eta."""
        return math.log(size), 0.0


@dataclass(frozen=True, kw_only=True)
class PoissonRegression(ScalarRegression):
    """e^eta - y eta: counts y with rate e^eta, without the constant log y!. Infinite from eta = 709.8 (float64)."""

    family: ClassVar[str] = "poisson"

    def loss_of(self, xp: Namespace, eta: Array, y: Array) -> Array:
        """Compute e^eta - y eta.

        Args:
            xp: Functions of the arrays' library.
            eta: Logarithm of the rate of each sample.
            y: Count of each sample.
        """
        return xp.exp(eta) - y * eta

    def slope(self, xp: Namespace, eta: Array, y: Array) -> Array:
        """Compute e^eta - y.

        Args:
            xp: Functions of the arrays' library.
            eta: Logarithm of the rate of each sample.
            y: Count of each sample.
        """
        return xp.exp(eta) - y

    def draw_target(self, rng: np.random.Generator, eta: Floats) -> Floats:
        """Draw Poisson counts of rate e^eta."""
        return rng.poisson(np.exp(np.minimum(eta, LARGEST_LOG_RATE))).astype(float)

    def misfit(self, target: Floats) -> str:
        """Refuse what is neither a count nor a rate."""
        return "" if (target >= 0).all() else "targets must be at least 0"

    @property
    def span(self) -> tuple[float, float]:
        """Counts, or rates."""
        return 0, np.inf

    def point_of_small_slope(self, size: float) -> tuple[float, float]:
        """Return a point in the tail of e^eta."""
        return math.log(size), 0.0


@dataclass(frozen=True)
class HuberRegression(ScalarRegression):
    """(eta - y)^2 / 2 up to delta, then delta (|eta - y| - delta / 2): `torch.nn.HuberLoss` (Huber 1964).

    Attributes:
        delta: Where the loss turns from quadratic to linear, above 0.
    """

    delta: float = 1.0
    family: ClassVar[str] = "huber"

    def __post_init__(self) -> None:
        """Refuse what is no distance."""
        super().__post_init__()
        object.__setattr__(self, "delta", finite_number("delta", self.delta))
        if self.delta <= 0:
            raise ValueError(f"delta is {self.delta}; it must be above 0")

    def loss_of(self, xp: Namespace, eta: Array, y: Array) -> Array:
        """Compute both parts for all samples, so that none is differentiated by a product with an infinite residual.

        Args:
            xp: Functions of the arrays' library.
            eta: Predictor of each sample.
            y: Target of each sample.
        """
        residual = eta - y
        inside = (residual == xp.clip(residual, -self.delta, self.delta)) | (residual != residual)
        near = xp.where(inside, residual, 0.0)
        return xp.where(inside, near * near / 2, self.delta * (xp.abs(residual) - self.delta / 2))

    def slope(self, xp: Namespace, eta: Array, y: Array) -> Array:
        """Compute the residual, clipped to [-delta, delta].

        Args:
            xp: Functions of the arrays' library.
            eta: Predictor of each sample.
            y: Target of each sample.
        """
        return xp.clip(eta - y, -self.delta, self.delta)

    def point_of_small_slope(self, size: float) -> tuple[float, float]:
        """Return a residual of that size."""
        return 0.0, size


REGRESSIONS: dict[str, type[Regression]] = {
    cls.family: cls
    for cls in (LinearRegression, LogisticRegression, PoissonRegression, HuberRegression, SoftmaxRegression)
}
"""Every regression by the name that `--problem` takes."""
