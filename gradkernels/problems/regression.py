"""Regressions: losses of a linear predictor eta = theta_0 + x . theta_{1..d}.

Shapes, stated once: `theta` is `(d+1,)` with the intercept FIRST, or `(d,)` without one; `x` is `(n, d)`,
or `(n,)` for one feature; `y` is `(n,)`. Per-sample gradients are `(n, *theta.shape)`.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradkernels.backend import Array
from gradkernels.problems.problem import Floats, Problem


@dataclass(frozen=True)
class Regression(Problem):
    """A loss of a linear predictor. A new one takes a name and the three methods of eta below.

    Attributes:
        fit_intercept: Whether `theta` starts with an intercept.
    """

    fit_intercept: bool = True
    family: ClassVar[str]

    def __post_init__(self) -> None:
        """Refuse what is not a truth value, since it counts as a parameter."""
        if not isinstance(self.fit_intercept, bool):
            raise TypeError(f"fit_intercept is {self.fit_intercept!r}; it must be True or False")

    @abstractmethod
    def loss_of(self, eta: Array, y: Array) -> Array:
        """Loss of each sample given its predictor, elementwise."""

    @abstractmethod
    def slope(self, eta: Array, y: Array) -> Array:
        """Derivative d loss / d eta of each sample, elementwise: the closed form behind the hand-written kernels."""

    @abstractmethod
    def curvature(self, eta: Floats, y: Floats) -> Floats | float:
        """A bound on |d slope / d eta| near `eta`: how a rounding error in eta reaches the slope."""

    @property
    def name(self) -> str:
        """`linear`, or `linear(fit_intercept=False)`."""
        return self.family if self.fit_intercept else f"{self.family}(fit_intercept=False)"

    def shape(self, features: int) -> tuple[int, ...]:
        """`(features + 1,)`, or `(features,)` without an intercept."""
        return (features + self.fit_intercept,)

    def eta(self, theta: Array, x: Array, y: Array) -> Array:
        """Linear predictor, shape `y.shape`; x has a feature axis exactly if it has one axis more than y."""
        weights = theta[1:] if self.fit_intercept else theta
        eta = x @ weights if x.ndim > y.ndim else x * weights[0]
        return eta + theta[0] if self.fit_intercept else eta

    def loss(self, theta: Array, x: Array, y: Array) -> Array:
        """Loss of each sample, shape `y.shape`."""
        return self.loss_of(self.eta(theta, x, y), y)

    def draw_theta(self, features: int, seed: int) -> Floats:
        """Uniform in [0, 1) for the first parameter, standard normal for the others."""
        rng = np.random.default_rng([seed, 1])
        theta = rng.standard_normal(self.shape(features))
        theta[0] = rng.random()
        return theta

    def draw(self, n: int, seed: int, features: int = 1) -> tuple[Floats, Floats, Floats]:
        """Features uniform in [-1, 1), targets from a true parameter of 4 and 3s plus unit noise."""
        rng = np.random.default_rng([seed, 0])
        x = rng.uniform(-1, 1, (n, features) if features > 1 else n)
        truth = np.full(self.shape(features), 3.0)
        if self.fit_intercept:
            truth[0] = 4.0
        y = self.draw_target(rng, self.eta(truth, x, np.empty(n)))
        return self.draw_theta(features, seed), x, y

    @abstractmethod
    def draw_target(self, rng: np.random.Generator, eta: Floats) -> Floats:
        """Targets given the true predictor."""

    def validate(self, theta: Array, x: Array, y: Array) -> None:
        """Raise a ValueError unless the shapes of `theta`, `x` and `y` fit together."""
        given = f"theta {tuple(theta.shape)}, x {tuple(x.shape)}, y {tuple(y.shape)}"
        if x.ndim not in (1, 2) or y.ndim != 1 or x.shape[0] != y.shape[0]:
            raise ValueError(f"{given}: x must be (n, d), or (n,) for one feature, and y (n,) with the same n")
        features = x.shape[1] if x.ndim == 2 else 1
        if tuple(theta.shape) != self.shape(features):
            hint = "intercept first" if self.fit_intercept else "no intercept"
            raise ValueError(f"{given}: theta must be {self.shape(features)} for {features} features, {hint}")

    def rounding(self, theta: Floats, x: Floats, y: Floats) -> Floats:
        """(|slope| + curvature * (|theta_0| + |x| . |theta| + |y|)) * |(1, x)|, to first order.

        Source: running error analysis of an inner product (Higham 2002, Accuracy and Stability of
        Numerical Algorithms, section 3.3) carried through the slope.
        """
        eta = self.eta(theta, x, y)
        terms = self.eta(np.abs(theta), np.abs(x), y) + np.abs(y)
        scale = np.abs(self.slope(eta, y)) + self.curvature(eta, y) * terms
        return scale[:, None] * np.abs(self.design(x))

    def design(self, x: Floats) -> Floats:
        """The rows (1, x_i), or x_i without an intercept: shape `(n, p)`."""
        columns = x if x.ndim == 2 else x[:, None]
        return np.insert(columns, 0, 1.0, axis=1) if self.fit_intercept else columns


@dataclass(frozen=True)
class LinearRegression(Regression):
    """Squared error (eta - y)^2, without the one-half."""

    family: ClassVar[str] = "linear"

    def loss_of(self, eta: Array, y: Array) -> Array:
        """(eta - y)^2."""
        return (eta - y) ** 2

    def slope(self, eta: Array, y: Array) -> Array:
        """2 (eta - y)."""
        return 2 * (eta - y)

    def curvature(self, eta: Floats, y: Floats) -> Floats | float:
        """2."""
        return 2.0

    def draw_target(self, rng: np.random.Generator, eta: Floats) -> Floats:
        """Eta plus standard normal noise, as in the coursework notebook."""
        return eta + rng.standard_normal(eta.shape)


REGRESSIONS: dict[str, type[Regression]] = {cls.family: cls for cls in (LinearRegression,)}
"""Every regression by the name that `--problem` takes."""
