"""The regressions, each defined once: the loss of a sample for what differentiates, its slope for closed forms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradkernels.backend import Array
from gradkernels.elementwise import Namespace
from gradkernels.problems.problem import Floats
from gradkernels.problems.regression.regression import Regression, finite
from gradkernels.problems.regression.scalar import ScalarRegression

LARGEST_LOG_RATE = 5.0  # drawn counts stay small


@dataclass(frozen=True, kw_only=True)
class LinearRegression(ScalarRegression):
    """Squared error (eta - y)^2, without the one-half."""

    family: ClassVar[str] = "linear"

    def loss_of(self, xp: Namespace, eta: Array, y: Array) -> Array:
        """(eta - y)^2."""
        return (eta - y) ** 2

    def slope(self, xp: Namespace, eta: Array, y: Array) -> Array:
        """2 (eta - y)."""
        return 2 * (eta - y)

    def faint(self, size: float) -> tuple[float, float]:
        """A residual of that size."""
        return 0.0, size


@dataclass(frozen=True, kw_only=True)
class LogisticRegression(ScalarRegression):
    """log(1 + e^eta) - y eta, with y in [0, 1]."""

    family: ClassVar[str] = "logistic"

    def loss_of(self, xp: Namespace, eta: Array, y: Array) -> Array:
        """log(1 + e^-|eta|) + ([eta > 0] - y) eta, in which nothing overflows; a half at 0 keeps it smooth.

        In the tails nothing is left of a derivative but that of the first term, which must not be added to others.
        """
        sign = xp.sign(eta)  # whose product with eta has the derivative 0 at 0, which |eta| has not in every library
        return xp.log1p(xp.exp(-sign * eta)) + ((1 + sign) / 2 - y) * eta

    def slope(self, xp: Namespace, eta: Array, y: Array) -> Array:
        """(1 - y) sigma(eta) - y sigma(-eta), exact in both tails where sigma(eta) - y would cancel."""
        tail = xp.exp(-xp.abs(eta))
        above = eta >= 0
        return (xp.where(above, 1.0, tail) * (1 - y) - xp.where(above, tail, 1.0) * y) / (1 + tail)

    def draw_target(self, rng: np.random.Generator, eta: Floats) -> Floats:
        """1 with probability sigma(eta), else 0."""
        return (rng.logistic(size=eta.shape) < eta).astype(float)

    def misfit(self, target: Floats) -> str:
        """Targets are probabilities."""
        if ((target >= 0) & (target <= 1)).all():
            return ""
        hint = " (for labels -1 and 1 pass (y + 1) / 2)" if np.isin(target, (-1, 1)).all() else ""
        return f"targets must lie in [0, 1]{hint}"

    @property
    def span(self) -> tuple[float, float]:
        """Probabilities."""
        return 0, 1

    def faint(self, size: float) -> tuple[float, float]:
        """The tail of e^eta."""
        return math.log(size), 0.0


@dataclass(frozen=True, kw_only=True)
class PoissonRegression(ScalarRegression):
    """e^eta - y eta: counts y with rate e^eta, without the constant log y!. Infinite from eta = 709.8 (float64)."""

    family: ClassVar[str] = "poisson"

    def loss_of(self, xp: Namespace, eta: Array, y: Array) -> Array:
        """e^eta - y eta."""
        return xp.exp(eta) - y * eta

    def slope(self, xp: Namespace, eta: Array, y: Array) -> Array:
        """e^eta - y."""
        return xp.exp(eta) - y

    def draw_target(self, rng: np.random.Generator, eta: Floats) -> Floats:
        """Poisson counts."""
        return rng.poisson(np.exp(np.minimum(eta, LARGEST_LOG_RATE))).astype(float)

    def misfit(self, target: Floats) -> str:
        """Targets are counts, or rates."""
        return "" if (target >= 0).all() else "targets must be at least 0"

    @property
    def span(self) -> tuple[float, float]:
        """Counts, or rates."""
        return 0, np.inf

    def faint(self, size: float) -> tuple[float, float]:
        """The tail of e^eta."""
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
        object.__setattr__(self, "delta", finite("delta", self.delta))
        if self.delta <= 0:
            raise ValueError(f"delta is {self.delta}; it must be above 0")

    def loss_of(self, xp: Namespace, eta: Array, y: Array) -> Array:
        """Both parts for all, where neither is differentiated by a product with a residual that is infinite."""
        residual = eta - y
        inside = (residual == xp.clip(residual, -self.delta, self.delta)) | (residual != residual)
        near = xp.where(inside, residual, 0.0)
        return xp.where(inside, near * near / 2, self.delta * (xp.abs(residual) - self.delta / 2))

    def slope(self, xp: Namespace, eta: Array, y: Array) -> Array:
        """The residual, clipped."""
        return xp.clip(eta - y, -self.delta, self.delta)

    def faint(self, size: float) -> tuple[float, float]:
        """A residual of that size."""
        return 0.0, size


@dataclass(frozen=True)
class SoftmaxRegression(Regression):
    """Cross-entropy log(sum_k e^eta_k) - eta_y of class numbers y = 0, ..., classes - 1.

    Other numbers are refused where data come in. A kernel by itself does not look for them: closed forms leave eta_y
    out, and differentiation raises IndexError (torch) or gives NaN (JAX).

    Attributes:
        classes: K, at least 2; theta is `(d+1, K)`.
    """

    classes: int = 3
    family: ClassVar[str] = "softmax"
    integer_target: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse what is no number of classes."""
        super().__post_init__()
        if isinstance(self.classes, bool) or not isinstance(self.classes, int | np.integer) or self.classes < 2:
            raise ValueError(f"classes is {self.classes!r}; it must be a whole number of at least 2")
        object.__setattr__(self, "classes", int(self.classes))

    @property
    def outputs(self) -> tuple[int, ...]:
        """`(classes,)`."""
        return (self.classes,)

    def loss_of(self, xp: Namespace, eta: Array, y: Array) -> Array:
        """log(sum_k e^(eta_k - m)) - (eta_y - m) with m the largest eta_k, so that nothing overflows."""
        shifted = eta - xp.amax(eta, -1, keepdims=True)
        return xp.log(xp.exp(shifted).sum(-1)) - _picked(xp, shifted, y)

    def slope(self, xp: Namespace, eta: Array, y: Array) -> Array:
        """softmax(eta)_k - [y = k]."""
        powers = xp.exp(eta - xp.amax(eta, -1, keepdims=True))
        share = powers / powers.sum(-1, keepdims=True)
        return xp.where(xp.arange(self.classes, device=eta.device) == y[..., None], share - 1, share)

    def slope_scale(self, eta: Floats, y: Floats, error: Floats) -> Floats:
        """|slope| + [y = k] + softmax(eta)_k (error_k + max_j error_j): shares move with every predictor."""
        slope = self.slope(np, eta, y)
        picked = np.arange(self.classes) == y[:, None]
        return np.abs(slope) + picked + (slope + picked) * (error + error.max(-1, keepdims=True))

    def draw_target(self, rng: np.random.Generator, eta: Floats) -> Floats:
        """A class each, with the probabilities that softmax gives them (the Gumbel-max trick)."""
        return np.argmax(eta + rng.gumbel(size=eta.shape), -1)

    def misfit(self, target: Floats) -> str:
        """Targets are class numbers."""
        if ((target == np.floor(target)) & (target >= 0) & (target < self.classes)).all():
            return ""
        largest = target.max(initial=0)
        hint = f" (softmax(classes={int(largest) + 1}) takes these)" if self.classes <= largest < np.inf else ""
        if largest == self.classes and target.min() == 1:
            hint = " (for numbers from 1 on pass y - 1)"
        return f"targets must be whole numbers from 0 to {self.classes - 1}{hint}"

    @property
    def span(self) -> tuple[float, float] | None:
        """Class numbers, which as arrays are integers."""
        return 0, self.classes - 1


def _picked(xp: Namespace, eta: Array, y: Array) -> Array:
    """eta[i, y[i]]."""
    along = xp.take_along_dim if xp.__name__ == "torch" else xp.take_along_axis
    return along(eta, y[..., None], -1)[..., 0]


REGRESSIONS: dict[str, type[Regression]] = {
    cls.family: cls
    for cls in (LinearRegression, LogisticRegression, PoissonRegression, HuberRegression, SoftmaxRegression)
}
"""Every regression by the name that `--problem` takes."""
