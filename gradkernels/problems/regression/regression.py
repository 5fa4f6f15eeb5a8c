"""Losses of a linear predictor eta = theta_0 + x . theta_{1..d}: what all of them share.

Shapes, stated once: `theta` is `(d+1,)` with the intercept FIRST, or `(d,)` without one; `x` is `(n, d)`,
or `(n,)` for one feature; `y` is `(n,)`. With several predictors per sample (softmax: one per class, K of them)
`theta` is `(d+1, K)` or `(d, K)` and eta `(n, K)`. Per-sample gradients are `(n, *theta.shape)`.

Weights and penalty: the loss of sample i is w_i loss_i(eta_i) + (l2 / 2) |theta_{1..d}|^2. The penalty enters every
sample's gradient as l2 * theta_{1..d}, unweighted, so that the mean of the rows is the gradient of the mean loss plus
penalty; the intercept is not penalised. Means divide by n, not by the sum of the weights.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np

from gradkernels.backend import Array
from gradkernels.elementwise import Namespace, namespace
from gradkernels.names import counted
from gradkernels.problems.problem import Floats, Problem
from gradkernels.problems.regression.settings import finite_number, truth_value
from gradkernels.problems.regression.targets import first_misfit
from gradkernels.problems.regression.weighted import Weighted, draw_weights
from gradkernels.tree import Tree


@dataclass(frozen=True, kw_only=True)
class Regression(Problem):
    """A loss of a linear predictor; derive a new one from `ScalarRegression`.

    Attributes:
        fit_intercept: Whether `theta` starts with an intercept.
        l2: Strength of the penalty (l2 / 2) |theta_{1..d}|^2, at least 0.
        weighted: Whether `y` is `Weighted(target, sample_weight)`.
    """

    fit_intercept: bool = True
    l2: float = 0.0
    weighted: bool = False
    family: ClassVar[str]

    def __post_init__(self) -> None:
        """Refuse what is no truth value, since it counts as a parameter, and penalties that are none."""
        for name in ("fit_intercept", "weighted"):
            truth_value(name, getattr(self, name))
        object.__setattr__(self, "l2", finite_number("l2", self.l2))
        if self.l2 < 0:
            raise ValueError(f"l2 is {self.l2}; it must be at least 0")

    @property
    @abstractmethod
    def outputs(self) -> tuple[int, ...]:
        """Axes of eta behind the samples: `()` for one predictor, `(K,)` for K of them."""

    @abstractmethod
    def loss_of(self, xp: Namespace, eta: Array, y: Array) -> Array:
        """Compute the loss of each sample given its predictor.

        Args:
            xp: Functions of the arrays' library (see `gradkernels.elementwise`).
            eta: Predictor of each sample, `(n, *outputs)`.
            y: Target of each sample, `(n,)`.
        """

    @abstractmethod
    def slope(self, xp: Namespace, eta: Array, y: Array) -> Array:
        """Compute the derivative d loss / d eta, of eta's shape, in closed form, as hand-written kernels use it.

        Args:
            xp: Functions of the arrays' library.
            eta: Predictor of each sample, `(n, *outputs)`.
            y: Target of each sample, `(n,)`.
        """

    @abstractmethod
    def slope_scale(self, eta: Floats, y: Floats, error: Floats) -> Floats:
        """Compute the scale of the rounding error in the slope, of eta's shape, given that of eta.

        Args:
            eta: Predictor of each sample, `(n, *outputs)`.
            y: Target of each sample, `(n,)`.
            error: Scale of eta's rounding error, of its shape.
        """

    @abstractmethod
    def draw_target(self, rng: np.random.Generator, eta: Floats) -> Floats:
        """Draw targets given the true predictor."""

    @abstractmethod
    def misfit(self, target: Floats) -> str:
        """Say why these targets have no such loss, with what is allowed; nothing if they have one."""

    @property
    def span(self) -> tuple[float, float] | None:
        """Smallest and largest target where every number in between has a loss; None where `misfit` has to tell."""
        return None

    @property
    def name(self) -> str:
        """`linear`, or with what is not the default: `huber(l2=0.1,delta=2.0)`."""
        values = [(field, getattr(self, field.name)) for field in fields(self)]
        changed = ",".join(f"{field.name}={value!r}" for field, value in values if value != field.default)
        return f"{self.family}({changed})" if changed else self.family

    def shape(self, features: int) -> tuple[int, ...]:
        """Return `(features + 1,)`, or `(features,)` without an intercept; then the classes, where there are any."""
        return (features + self.fit_intercept, *self.outputs)

    def split(self, y: Tree) -> tuple[Array, Array | None]:
        """Return target and sample weight; None where there is none."""
        return (y[0], y[1]) if self.weighted else (y, None)

    def eta(self, theta: Array, x: Array, target: Array) -> Array:
        """Compute the linear predictor, `target.shape`, then the classes.

        Args:
            theta: Parameters, the intercept first.
            x: Features, which have an axis of their own exactly if x has one axis more than the target.
            target: For its axes.
        """
        weights = theta[1:] if self.fit_intercept else theta
        columns = x[..., None] if self.outputs else x
        eta = x @ weights if x.ndim > target.ndim else columns * weights[0]
        return eta + theta[0] if self.fit_intercept else eta

    def loss(self, theta: Array, x: Array, y: Tree) -> Array:
        """Compute the loss of each sample, `(n,)`.

        Args:
            theta: Parameters, the intercept first.
            x: Features, `(n, d)`, or `(n,)` for one.
            y: Targets, with their weights where the problem is weighted.
        """
        target, weight = self.split(y)
        eta = self.eta(theta, x, target)
        own = self.loss_of(namespace(eta), eta, target)
        loss = own if weight is None else weight * own
        if self.l2:
            penalised = theta[int(self.fit_intercept) :]
            loss = loss + (penalised * penalised).sum() * (self.l2 / 2)
        return loss

    def slopes(self, xp: Namespace, theta: Array, x: Array, y: Tree) -> Array:
        """Compute the weighted slope of each sample, `(n,)`, then the classes: what multiplies (1, x) in a closed form.

        Args:
            xp: Functions of the arrays' library.
            theta: Parameters, the intercept first.
            x: Features, `(n, d)`, or `(n,)` for one.
            y: Targets, with their weights where the problem is weighted.
        """
        target, weight = self.split(y)
        slope = self.slope(xp, self.eta(theta, x, target), target)
        return slope if weight is None else slope * (weight[:, None] if self.outputs else weight)

    def penalty(self, theta: Array) -> Array:
        """Compute the gradient of the penalty: l2 * theta, with zero for the intercept."""
        penalty = self.l2 * theta
        penalty[: int(self.fit_intercept)] = 0
        return penalty

    def draw_theta(self, features: int, seed: int) -> Floats:
        """Draw the first parameter uniformly from [0, 1), the others from the standard normal distribution."""
        rng = np.random.default_rng([seed, 1])
        theta = rng.standard_normal(self.shape(features))
        theta[0] = rng.random(self.outputs or None)
        return theta

    def draw(self, n: int, seed: int, features: int = 1) -> tuple[Floats, Floats, Tree]:
        """Draw features from [-1, 1), targets from a true parameter of 4 and 3s, weights from [0, 2).

        Args:
            n: Number of samples.
            seed: Of the draw.
            features: d, the number of columns of x; x is `(n,)` for one.
        """
        rng = np.random.default_rng([seed, 0])
        x = rng.uniform(-1, 1, (n, features) if features > 1 else n)
        truth = np.full(self.shape(features), 3.0)
        truth[: int(self.fit_intercept)] = 4.0
        y = self.draw_target(rng, self.eta(truth, x, np.empty(n)))
        return self.draw_theta(features, seed), x, self._with_weights(y, seed)

    def point_of_small_slope(self, size: float) -> tuple[float, float] | None:
        """Return a predictor and a target at which the slope is about `size`, far below 1; None where none is known."""
        return None

    def extremes(self, n: int, dtype: str, features: int = 1) -> Iterator[tuple[Floats, Floats, Tree]]:
        """Yield data whose gradients a dtype can hold and whose squares it cannot, float64.

        Features are huge or tiny against predictors as usual, then slopes are tiny.

        Args:
            n: Number of samples.
            dtype: `float64` or `float32`.
            features: d, the number of columns of x.
        """
        theta, x, y = self.draw(n, 0, features)
        first, far = int(self.fit_intercept), 2.0 ** (np.finfo(dtype).maxexp * 5 // 8)
        for power in (far, 1 / far):
            yield np.concatenate([theta[:first], theta[first:] / power]), x * power, y
        if first and not self.l2 and (point := self.point_of_small_slope(1 / far)):
            theta = np.zeros_like(theta)
            theta[0], target = point
            yield theta, x, self._with_weights(np.full(n, target), 0)

    def targets(self, y: Tree, seed: int) -> Tree:
        """Return `y`, with drawn weights where the problem is weighted; a ValueError that says what is allowed."""
        target = y[0] if isinstance(y, Weighted) else y
        if found := first_misfit(self.misfit, target):
            row, misfit = found
            given = f"goes from {target.min():g} to {target.max():g} and is {target[row]:g} in row {row + 1}"
            raise ValueError(f"the target {given}; for {self.name} {misfit}")
        return y if isinstance(y, Weighted) and self.weighted else self._with_weights(target, seed)

    def _with_weights(self, target: Floats, seed: int) -> Tree:
        return Weighted(target, draw_weights(len(target), seed)) if self.weighted else target

    def validate(self, theta: Array, x: Array, y: Tree) -> None:
        """Raise a ValueError unless the shapes of `theta`, `x` and `y` fit together.

        Args:
            theta: Parameters, the intercept first.
            x: Features, `(n, d)`, or `(n,)` for one.
            y: Targets, with their weights where the problem is weighted.
        """
        if isinstance(y, tuple) != self.weighted or (self.weighted and len(y) != 2):
            kind = "(target, sample_weight)" if self.weighted else "an array; pass weights as sample_weight="
            raise ValueError(f"y is a {type(y).__name__}; for {self.name} it must be {kind}")
        target, weight = self.split(y)
        given = f"theta {tuple(theta.shape)}, x {tuple(x.shape)}, y {tuple(target.shape)}"
        if x.ndim not in (1, 2) or target.ndim != 1 or x.shape[0] != target.shape[0]:
            raise ValueError(f"{given}: x must be (n, d), or (n,) for one feature, and y (n,) with the same n")
        if weight is not None and tuple(weight.shape) != tuple(target.shape):
            raise ValueError(f"{given}, sample_weight {tuple(weight.shape)}: sample_weight must be (n,) like y")
        features = x.shape[1] if x.ndim == 2 else 1
        if tuple(theta.shape) != self.shape(features):
            hint = "intercept first" if self.fit_intercept else "no intercept"
            raise ValueError(
                f"{given}: theta must be {self.shape(features)} for {counted(features, 'feature')}, {hint}"
            )

    def design(self, x: Floats) -> Floats:
        """Return the rows (1, x_i), or x_i without an intercept: shape `(n, p)`."""
        columns = x if x.ndim == 2 else x[:, None]
        return np.insert(columns, 0, 1.0, axis=1) if self.fit_intercept else columns
